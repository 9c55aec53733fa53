/* What a host allows, found out by trying. */
#ifndef POSTCOPY_PC_PROBE_H
#define POSTCOPY_PC_PROBE_H

#include <stdint.h>

/* System calls that a seccomp filter may end the process for. */
enum pc_probe_call {
    PC_PROBE_USERFAULTFD,
    PC_PROBE_RING,
    PC_PROBE_EVENTS,
};

/* Makes a call with arguments that the kernel refuses, in a child process that ends at once.
 * Returns 1 when that was ended by a signal, 0 when not, or -errno. */
int pc_probe_is_fatal(enum pc_probe_call call);

/* Locks one page in memory and lets it go. Returns 0, or -errno. */
int pc_probe_lock(void);

/* Returns the version of KVM's interface, or -errno. */
int pc_probe_kvm_version(int kvm);

#endif
