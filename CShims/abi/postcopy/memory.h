/* Guest memory as RAM blocks. */
#ifndef POSTCOPY_MEMORY_H
#define POSTCOPY_MEMORY_H

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A named run of guest memory, mapped into this process. Name, length and page size are known to
 * both sides of a migration, and equal there. */
typedef struct postcopy_ram postcopy_ram;

enum {
    /* Private memory in pages of the system's size. */
    POSTCOPY_BACKING_ANONYMOUS = 0,
    /* Shared memory of a memfd. */
    POSTCOPY_BACKING_MEMFD = 1,
    /* Huge pages of the host's pool, reserved when the block is made. */
    POSTCOPY_BACKING_HUGETLB = 2
};

typedef struct postcopy_ram_options {
    /* sizeof(postcopy_ram_options). */
    size_t size;
    /* 1 to 255 bytes; its identity towards the other side. */
    const char *name;
    /* In bytes, a multiple of the page size. */
    uint64_t length;
    /* In bytes: what faults and is placed at once. 0: the system's page. */
    uint64_t page_size;
    /* POSTCOPY_BACKING_...; of a mapping that is given, what it is made of. */
    uint32_t backing;
    /* 0. */
    uint32_t reserved;
    /* Where the guest sees the block; only both sides of shared memory must agree on it. */
    uint64_t guest_physical_address;
    /* What the guest uses at first, in whole pages, of a block that postcopy_ram_resize may change.
     * 0: all of it, for good. Not with `shared_file`. */
    uint64_t used_length;
    /* A mapping of the caller's, `length` bytes from here, aligned to the page size; NULL: the
     * library maps fresh, zero memory. The kernel is asked what is there, so that memory which is
     * not mapped, or is of another kind than `backing`, is an error. It must stay mapped, as it is,
     * until postcopy_ram_free has returned POSTCOPY_OK, which does not unmap it. */
    void *mapping;
    /* A file that is mapped shared, with what is in it, beside others that map it; NULL: none. Not
     * with `mapping`. See POSTCOPY_IGNORE_SHARED. */
    const char *shared_file;
} postcopy_ram_options;

/* Makes a block. On success `*ram` is its handle.
 * Errors: POSTCOPY_INVALID_ARGUMENT; POSTCOPY_CONFIGURATION for a name or length that no block can
 * have; POSTCOPY_MEMORY. */
postcopy_code postcopy_ram_create(
    const postcopy_ram_options *options, postcopy_ram **ram, postcopy_error *error);

/* Where the block begins in this process; NULL for a bad handle. */
void *postcopy_ram_address(const postcopy_ram *ram);

/* In bytes; 0 for a bad handle. */
uint64_t postcopy_ram_length(const postcopy_ram *ram);

/* What the guest uses of it, in bytes; 0 for a bad handle. */
uint64_t postcopy_ram_used_length(const postcopy_ram *ram);

/* Gives a block that was made with `used_length` another one, in whole pages. What it loses is
 * given back, and reads as zeros when it is gained again; the guest must not touch it.
 * Errors: POSTCOPY_MEMORY, also while a migration counts on the length. */
postcopy_code postcopy_ram_resize(postcopy_ram *ram, uint64_t used_length, postcopy_error *error);

/* Keeps the block in memory (mlock), which allocates all of it. Not while it is migrated.
 * Errors: POSTCOPY_MEMORY, with the limit and the remedy. */
postcopy_code postcopy_ram_lock(postcopy_ram *ram, postcopy_error *error);

/* Unmaps the block, unless its mapping was given. NULL is nothing to do, and POSTCOPY_OK.
 * Errors: POSTCOPY_WRONG_STATE as long as a source, a destination or a fault handler has it: free
 * those first. */
postcopy_code postcopy_ram_free(postcopy_ram *ram, postcopy_error *error);

#ifdef __cplusplus
}
#endif
#endif
