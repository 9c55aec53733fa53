/* Postcopy live migration for programs in C, and for whatever calls C.
 *
 *     cc -o vmm vmm.c $(pkg-config --cflags --libs postcopy)
 *
 * Handles. postcopy_ram, postcopy_source, postcopy_destination, postcopy_faults and postcopy_error
 *   are opaque. Who creates one frees it, once, with the function that ends in _free. A handle that
 *   is NULL, was freed or is of another kind is refused with POSTCOPY_BAD_HANDLE and never
 *   followed: no handle's value is used twice. A handle that something still needs is not freed
 *   (POSTCOPY_WRONG_STATE).
 *
 * Errors. A function that can fail answers a postcopy_code, POSTCOPY_OK (0) where it did not, and
 *   takes a postcopy_error, which may be NULL, for the reason in words. On an error nothing is
 *   written to what the function would have handed out, but for handles, which become NULL.
 *
 * Strings are UTF-8 and end with NUL. Those that go in are copied before the function returns.
 *   Those that come out belong to the handle that they were asked of, as said there, or are
 *   constants; none is freed by the caller.
 *
 * Structs begin with their size, set by the caller to sizeof, so that later versions may have more
 *   members at the end. A member that is 0 has the meaning said at it, so that
 *   `postcopy_options options = { .size = sizeof options }` is complete. A longer struct than the
 *   library knows is taken if all that it does not know is 0.
 *
 * Threads. Every function may be called from any thread at any time, also two with one handle.
 *   Those that say "Blocking" wait for others; no other does, but to look a host's name up. A
 *   postcopy_error is for one thread at a time.
 *
 * Callbacks are called with the context that stands beside them, from threads of the library's own,
 *   which block every signal; during a _run also from the thread that called it, which must hold no
 *   lock that a callback takes. They may call every function but those that say "Blocking" on
 *   the handle on whose behalf they run, which is refused with POSTCOPY_WRONG_STATE. They must
 *   return: no longjmp, no exception. Context and callbacks stay valid until the handle that they
 *   were given to is freed.
 *
 * fork. A child has none of the parent's threads: it must use no handle that the parent has made.
 *
 * Memory. Once a destination or a fault handler has begun, a page of its memory may be missing, and
 *   whoever touches it waits until it is there. A callback of the migration that touches such a
 *   page waits as well, which only `load` may do. */
#ifndef POSTCOPY_H
#define POSTCOPY_H

#include "postcopy/error.h"
#include "postcopy/faults.h"
#include "postcopy/guest.h"
#include "postcopy/memory.h"
#include "postcopy/migration.h"

#endif
