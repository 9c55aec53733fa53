/* userfaultfd, as Documentation/admin-guide/mm/userfaultfd.rst of the kernel describes it. */
#ifndef POSTCOPY_PC_UFFD_H
#define POSTCOPY_PC_UFFD_H

#include <stddef.h>
#include <stdint.h>

/* Feature bits of the API handshake (linux/userfaultfd.h; later ones exist on newer headers only). */
enum pc_uffd_feature {
    PC_UFFD_FEATURE_PAGEFAULT_FLAG_WP = 1 << 0,
    PC_UFFD_FEATURE_EVENT_FORK = 1 << 1,
    PC_UFFD_FEATURE_EVENT_REMAP = 1 << 2,
    PC_UFFD_FEATURE_EVENT_REMOVE = 1 << 3,
    PC_UFFD_FEATURE_MISSING_HUGETLBFS = 1 << 4,
    PC_UFFD_FEATURE_MISSING_SHMEM = 1 << 5,
    PC_UFFD_FEATURE_EVENT_UNMAP = 1 << 6,
    PC_UFFD_FEATURE_SIGBUS = 1 << 7,
    PC_UFFD_FEATURE_THREAD_ID = 1 << 8,
    PC_UFFD_FEATURE_MINOR_HUGETLBFS = 1 << 9,
    PC_UFFD_FEATURE_MINOR_SHMEM = 1 << 10,
    PC_UFFD_FEATURE_EXACT_ADDRESS = 1 << 11,
    PC_UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1 << 12,
    PC_UFFD_FEATURE_WP_UNPOPULATED = 1 << 13,
    PC_UFFD_FEATURE_POISON = 1 << 14,
    PC_UFFD_FEATURE_WP_ASYNC = 1 << 15,
    PC_UFFD_FEATURE_MOVE = 1 << 16,
};

enum pc_uffd_mode {
    PC_UFFD_MODE_MISSING = 1 << 0,
    PC_UFFD_MODE_WRITE_PROTECT = 1 << 1,
    PC_UFFD_MODE_MINOR = 1 << 2,
};

/* One event. What a kind does not name is 0. */
struct pc_uffd_event {
    uint64_t address; /* of the fault; where a removed, unmapped or moved range started */
    uint64_t end;     /* REMOVE, UNMAP: where the range ended */
    uint32_t thread;  /* thread id, 0 without PC_UFFD_FEATURE_THREAD_ID */
    uint32_t flags;   /* UFFD_PAGEFAULT_FLAG_* */
    int32_t child;    /* FORK: a descriptor for the child's memory, which the reader owns */
    uint8_t kind;
};

enum {
    PC_UFFD_EVENT_PAGEFAULT = 0x12,
    PC_UFFD_EVENT_FORK = 0x13,
    PC_UFFD_EVENT_REMAP = 0x14,
    PC_UFFD_EVENT_REMOVE = 0x15,
    PC_UFFD_EVENT_UNMAP = 0x16,
};
enum { PC_UFFD_EVENTS_MAX = 64 };
enum { PC_UFFD_FAULT_OTHER = 1 << 1 | 1 << 2 }; /* of the flags: write protection, minor fault */

/* Opens through /dev/userfaultfd. Returns a non-blocking, close-on-exec descriptor, or -errno. */
int pc_uffd_open_device(void);

/* Opens by the system call; `user_mode_only` refuses faults that happen inside the kernel and needs
 * no privilege. Returns a descriptor, or -errno. */
int pc_uffd_open_syscall(int user_mode_only);

/* API handshake. Stores the kernel's features in `*supported`. Returns 0, or -errno. */
int pc_uffd_handshake(int uffd, uint64_t features, uint64_t *supported);

/* Returns the ioctls that the range supports as a bit set in `*ioctls`, and 0; or -errno. */
int pc_uffd_register(int uffd, uint64_t start, uint64_t length, uint64_t modes, uint64_t *ioctls);
int pc_uffd_unregister(int uffd, uint64_t start, uint64_t length);

/* Places `length` bytes at `target` and wakes its waiters.
 * Returns the bytes placed, which may be fewer than `length`, or -errno when none were. */
int64_t pc_uffd_copy(int uffd, uint64_t target, const void *source, uint64_t length);

/* Places zero pages; not for hugetlb. Returns as pc_uffd_copy. */
int64_t pc_uffd_zeropage(int uffd, uint64_t target, uint64_t length);

/* Maps pages that the backing file already holds (minor faults). Returns as pc_uffd_copy. */
int64_t pc_uffd_continue(int uffd, uint64_t target, uint64_t length);

/* Moves anonymous pages from `source` without copying (Linux 6.8). Returns as pc_uffd_copy. */
int64_t pc_uffd_move(int uffd, uint64_t target, uint64_t source, uint64_t length);

/* Makes absent pages ones whose content is lost: whoever waits in them or touches them later gets
 * SIGBUS (Linux 6.6). Returns as pc_uffd_copy. */
int64_t pc_uffd_poison(int uffd, uint64_t target, uint64_t length);

/* Wakes the threads that wait in the range. Returns 0, or -errno. */
int pc_uffd_wake(int uffd, uint64_t start, uint64_t length);

/* Write-protects the range, or lifts the protection and wakes. Returns 0, or -errno. */
int pc_uffd_writeprotect(int uffd, uint64_t start, uint64_t length, int protect);

/* Reads up to `capacity` (at most PC_UFFD_EVENTS_MAX) events; never waits, although somebody else who
 * holds the descriptor has made it a blocking one (before Linux 6.10: unless that is done just then).
 * Returns how many, 0 when there is none now, or -errno. */
int pc_uffd_read(int uffd, struct pc_uffd_event *events, size_t capacity);

/* Makes a descriptor that came from another process non-blocking: only such a one can be waited for.
 * Returns 1, 0 when its handshake was not done, or -errno: ENOTTY when it is no userfaultfd. */
int pc_uffd_receive(int uffd);

#endif
