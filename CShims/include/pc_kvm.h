/* KVM: the dirty log of a virtual machine, and what a small machine needs. x86_64; elsewhere the
 * calls that concern registers answer -ENOSYS. Source: Documentation/virt/kvm/api.rst. */
#ifndef POSTCOPY_PC_KVM_H
#define POSTCOPY_PC_KVM_H

#include <stdint.h>

/* What KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 offers and takes, as bits. */
enum pc_kvm_manual_protect {
    PC_KVM_MANUAL_PROTECT = 1 << 0, /* reading the log protects nothing; clearing it does */
    PC_KVM_INITIALLY_SET = 1 << 1,  /* a new log says that every page was written */
};

enum {
    PC_KVM_EXIT_HALT = 5,       /* a reason for which a guest leaves */
    PC_KVM_REGISTER_COUNT = 18, /* of struct kvm_regs, rax to rflags */
};

struct pc_kvm_memory {
    uint32_t slot;
    uint32_t is_logged;
    uint64_t guest_address;
    uint64_t length;
    uint64_t host_address;
};

/* `port` and `value` are of an OUT instruction without a repeat prefix; else both are 0. */
struct pc_kvm_exit {
    uint32_t reason; /* KVM_EXIT_* */
    uint32_t value;
    uint32_t port;
    uint32_t is_output;
};

/* Opens /dev/kvm. Returns a descriptor, or -errno. */
int pc_kvm_open(void);

/* Returns the descriptor of a new virtual machine, close-on-exec, or -errno. */
int pc_kvm_create_machine(int kvm);

/* Returns how many bytes of a vCPU's descriptor are mapped to share its state, or -errno. */
int pc_kvm_shared_length(int kvm);

/* Returns the pc_kvm_manual_protect bits that the kernel offers, 0 when none, or -errno. */
int pc_kvm_manual_protect_offer(int machine);

/* Sets the machine's manual protection to the bits `options`. Returns 0, or -errno. */
int pc_kvm_set_manual_protect(int machine, uint64_t options);

/* Makes a memory slot, or changes whether its writes are logged. Returns 0, or -errno. */
int pc_kvm_set_memory(int machine, const struct pc_kvm_memory *memory);

/* Stores the slot's log in `words`, one bit for each page. Returns 0, or -errno. */
int pc_kvm_get_dirty_log(int machine, uint32_t slot, uint64_t *words);

/* Clears the pages of [first_page, first_page + page_count) whose bits are set in `words` and
 * protects them anew; `first_page` is a multiple of 64, and so is `page_count` unless the range ends
 * with the slot. Returns 0, or -errno. */
int pc_kvm_clear_dirty_log(
    int machine, uint32_t slot, uint64_t first_page, uint32_t page_count, const uint64_t *words);

/* Returns the descriptor of a new vCPU, close-on-exec, or -errno. */
int pc_kvm_create_vcpu(int machine, uint32_t id);

/* Lets the vCPU run in protected mode: 32-bit segments over all addresses, no paging. Returns 0, or
 * -errno. */
int pc_kvm_set_flat_mode(int vcpu);

/* Lets the vCPU run 64-bit code in user mode, over the page table (of four levels) at a guest address.
 * Returns 0, or -errno. */
int pc_kvm_set_user_mode(int vcpu, uint64_t page_table);

/* `registers` holds PC_KVM_REGISTER_COUNT words. Each returns 0, or -errno. */
int pc_kvm_get_registers(int vcpu, uint64_t *registers);
int pc_kvm_set_registers(int vcpu, const uint64_t *registers);

/* What a vCPU has beside its general registers, each a structure of the kernel's. */
enum pc_kvm_part {
    PC_KVM_SPECIAL_REGISTERS, /* struct kvm_sregs: segments, tables, control registers */
    PC_KVM_FLOATING_POINT,    /* struct kvm_fpu: x87 and SSE */
    PC_KVM_EVENTS,            /* struct kvm_vcpu_events: exceptions and interrupts on their way */
    PC_KVM_PART_COUNT,
};

/* Returns how many bytes a part has, or -ENOSYS on another processor. */
int pc_kvm_part_length(enum pc_kvm_part part);

/* `bytes` holds as many as `pc_kvm_part_length` says. Each returns 0, or -errno: EINVAL for state that
 * no vCPU can have. Events must be set last: setting general registers forgets them. */
int pc_kvm_get_part(int vcpu, enum pc_kvm_part part, void *bytes);
int pc_kvm_set_part(int vcpu, enum pc_kvm_part part, const void *bytes);

/* Runs the guest until it leaves; `shared` is the vCPU's mapped state. Returns 0, or -errno: EINTR
 * when a signal came or `pc_kvm_set_immediate_exit` asked for it. */
int pc_kvm_run(int vcpu, uint64_t shared, struct pc_kvm_exit *exit);

/* Asks a run under way (that a signal must reach) or the next one to end, or takes that back.
 * Returns whether it was asked for before. */
int pc_kvm_set_immediate_exit(uint64_t shared, int is_asked);

#endif
