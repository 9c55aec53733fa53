/* What went wrong, and which library this is. See postcopy.h for the rules that hold everywhere. */
#ifndef POSTCOPY_ERROR_H
#define POSTCOPY_ERROR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of this header: major.minor.patch. The library with the name libpostcopy.so.1 keeps to every
 * header with that major number. */
#define POSTCOPY_VERSION_MAJOR 1
#define POSTCOPY_VERSION_MINOR 0
#define POSTCOPY_VERSION_PATCH 0

/* The version of the library that runs: major << 16 | minor << 8 | patch. */
uint32_t postcopy_version(void);

/* The same in words, "1.0.0"; a constant. */
const char *postcopy_version_text(void);

/* One of the POSTCOPY_ numbers below. Later versions may answer others. */
typedef int32_t postcopy_code;

enum {
    POSTCOPY_OK = 0,
    /* A NULL, a size, a number out of its range, or a text that is no UTF-8. */
    POSTCOPY_INVALID_ARGUMENT = 1,
    /* A handle that is NULL, was freed, or is of another kind. */
    POSTCOPY_BAD_HANDLE = 2,
    /* Not now: started twice, asked for a report before the end, freed while in use. */
    POSTCOPY_WRONG_STATE = 3,
    /* A guest, or options, that cannot be migrated as they are. */
    POSTCOPY_CONFIGURATION = 4,
    /* Memory cannot be had, locked, resized or mapped. */
    POSTCOPY_MEMORY = 5,
    /* This host refuses what is needed: userfaultfd, or the tracking of writes. The message has the
     * remedy. */
    POSTCOPY_REFUSED = 6,
    /* An address that is none, or that cannot be listened on. */
    POSTCOPY_CHANNEL = 7,
    /* Another error of the kernel. */
    POSTCOPY_SYSTEM = 8,
    /* A callback said that it failed. */
    POSTCOPY_CALLBACK = 9,
    /* A migration ended, and not well; its report says how. */
    POSTCOPY_NOT_COMPLETED = 10,
    /* The time to wait is over. */
    POSTCOPY_TIMED_OUT = 11
};

/* The name of a code, "POSTCOPY_MEMORY"; a constant, also for a number that is no code. */
const char *postcopy_code_name(postcopy_code code);

/* Keeps the reason of the last call that it was given to: one object serves a thread for all of
 * them. */
typedef struct postcopy_error postcopy_error;

/* Never NULL. */
postcopy_error *postcopy_error_create(void);

/* POSTCOPY_OK after a call that went well, and before the first. */
postcopy_code postcopy_error_code(const postcopy_error *error);

/* The reason, in one line, with the remedy where there is one; "" where there is none. It belongs
 * to `error` and stays until that is given to another call or freed. */
const char *postcopy_error_message(const postcopy_error *error);

/* NULL, and what is no postcopy_error, are left alone. */
void postcopy_error_free(postcopy_error *error);

#ifdef __cplusplus
}
#endif
#endif
