/* What a migration knows of a guest: memory, device state, and how to stop and start it. */
#ifndef POSTCOPY_GUEST_H
#define POSTCOPY_GUEST_H

#include "memory.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How many bytes a callback may write to `why`, the closing NUL among them. */
#define POSTCOPY_WHY_BYTES 512

/* Whose page faults must be reported for a guest. */
enum {
    /* Also those that the kernel meets, in KVM or in system calls. Needs privilege. */
    POSTCOPY_FAULTS_USER_AND_KERNEL = 0,
    /* Only those of code in user mode; the kernel's end in EFAULT. */
    POSTCOPY_FAULTS_USER_ONLY = 1
};

/* How a precopy learns which pages the guest writes. */
enum {
    /* Asynchronous write protection of this process's memory: Linux 6.7, no privilege. */
    POSTCOPY_TRACK_WRITE_PROTECTION = 0,
    /* The dirty log of the virtual machine `kvm_machine`. */
    POSTCOPY_TRACK_KVM = 1,
    /* The embedder tells of each write, after it: postcopy_source_report_write. */
    POSTCOPY_TRACK_REPORTS = 2
};

/* A memory slot as it was given to KVM (KVM_SET_USER_MEMORY_REGION). */
typedef struct postcopy_kvm_slot {
    uint32_t number;
    /* Which block of `ram` it lies in, counted from 0. */
    uint32_t block;
    uint64_t guest_physical_address;
    /* Where it begins in its block. */
    uint64_t offset;
    uint64_t length;
} postcopy_kvm_slot;

/* Pages of one block that are not here. */
typedef struct postcopy_missing {
    /* The block's name. */
    const char *block;
    uint64_t pages;
    uint64_t bytes;
} postcopy_missing;

/* Takes the bytes that `save` writes; it lives for as long as that runs. */
typedef struct postcopy_sink postcopy_sink;

/* At most this much device state is taken in all, in bytes: what a destination takes. */
#define POSTCOPY_DEVICE_BYTES_MAX ((uint64_t)64 << 20)

/* Adds bytes to the device state.
 * Errors: POSTCOPY_BAD_HANDLE once `save` has returned; POSTCOPY_INVALID_ARGUMENT beyond
 * POSTCOPY_DEVICE_BYTES_MAX, and then the whole save has failed. */
postcopy_code postcopy_sink_write(postcopy_sink *sink, const void *bytes, size_t length);

/* A guest. The struct, its arrays and its text are copied; context and callbacks are kept.
 *
 * A callback that answers an int32_t answers 0, or anything else when it failed, and then may have
 * written the reason to `why`, at most POSTCOPY_WHY_BYTES of it. One call at a time, but for
 * `throttle`, which comes from the thread that sends. Required is what does not say "or NULL". */
typedef struct postcopy_guest {
    /* sizeof(postcopy_guest). */
    size_t size;
    /* Handed to every callback. */
    void *context;
    /* Named in the stream's head; equal at both sides. At most 255 bytes. */
    const char *machine_type;
    /* All memory, in the same order at both sides. */
    postcopy_ram *const *ram;
    size_t ram_count;
    /* POSTCOPY_FAULTS_... */
    uint32_t fault_origin;
    /* POSTCOPY_TRACK_... */
    uint32_t tracking;

    /* Stops every vCPU; returns when none runs any more. When it fails, the migration ends as
     * failed, and `resume` is called. One that takes longer than postcopy_options.pause_limit is
     * not waited for: the migration ends as failed, and `resume` is called behind it, whenever that
     * is. */
    int32_t (*pause)(void *context, char *why);

    /* Lets every vCPU run, after `pause` or `load`. When it fails, the migration goes on, since the
     * memory belongs here, and its result is POSTCOPY_CALLBACK. */
    int32_t (*resume)(void *context, char *why);

    /* Hands the state of devices and vCPUs to `sink`, by as many writes as it likes. The guest is
     * paused. When it fails, the migration ends as failed, and `resume` is called.
     *
     * The bytes are opaque between two ends of this library. For a QEMU they are sections of its
     * stream (SECTION_FULL). */
    int32_t (*save)(void *context, postcopy_sink *sink, char *why);

    /* Takes what `save` gave at the source, `length` bytes that the library owns. It may touch
     * guest memory: the pages come. When it fails, the guest goes on at the source. */
    int32_t (*load)(void *context, const void *bytes, size_t length, char *why);

    /* Writes the kernel's thread ids of the vCPUs, at most `capacity`, and answers how many there
     * are; asked for once `load` has returned. Or NULL: no blocktime by vCPU. */
    size_t (*vcpu_threads)(void *context, int32_t *threads, size_t capacity);

    /* Every page is here, and the source forgets the guest once this returns. Or NULL. */
    void (*memory_arrived)(void *context);

    /* The missing pages will never come: somebody gave the guest up while it was paused. Once this
     * returns, who waits for one gets SIGBUS (Linux 6.6; zeros before). Or NULL.
     * `missing` is valid until this returns. */
    void (*memory_lost)(void *context, const postcopy_missing *missing, size_t count);

    /* Slows the vCPUs down to that share of time in percent in which none shall run: 1 to 99; 0
     * lifts it. Or NULL. */
    void (*throttle)(void *context, uint32_t percent);

    /* With POSTCOPY_TRACK_KVM: the descriptor of the virtual machine, which may be closed once the
     * source was created, and all memory that the guest may write. The library maps it: `ram` has
     * the addresses. */
    int32_t kvm_machine;
    /* 0. */
    uint32_t reserved;
    const postcopy_kvm_slot *kvm_slots;
    size_t kvm_slot_count;
} postcopy_guest;

#ifdef __cplusplus
}
#endif
#endif
