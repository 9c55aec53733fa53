#include "pc_kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

_Static_assert(PC_KVM_MANUAL_PROTECT == KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, "option bit");
_Static_assert(PC_KVM_INITIALLY_SET == KVM_DIRTY_LOG_INITIALLY_SET, "option bit");
_Static_assert((int)PC_KVM_EXIT_HALT == KVM_EXIT_HLT, "exit reason");

static int answered(int answer) { return answer < 0 ? -errno : answer; }

int pc_kvm_open(void) { return answered(open("/dev/kvm", O_RDWR | O_CLOEXEC)); }

int pc_kvm_create_machine(int kvm) { return answered(ioctl(kvm, KVM_CREATE_VM, 0)); }

int pc_kvm_shared_length(int kvm) { return answered(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)); }

int pc_kvm_manual_protect_offer(int machine)
{
    return answered(
        ioctl(machine, KVM_CHECK_EXTENSION, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2));
}

int pc_kvm_set_manual_protect(int machine, uint64_t options)
{
    struct kvm_enable_cap capability = {
        .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
        .args = {options},
    };
    return answered(ioctl(machine, KVM_ENABLE_CAP, &capability));
}

int pc_kvm_set_memory(int machine, const struct pc_kvm_memory *memory)
{
    struct kvm_userspace_memory_region region = {
        .slot = memory->slot,
        .flags = memory->is_logged ? KVM_MEM_LOG_DIRTY_PAGES : 0,
        .guest_phys_addr = memory->guest_address,
        .memory_size = memory->length,
        .userspace_addr = memory->host_address,
    };
    return answered(ioctl(machine, KVM_SET_USER_MEMORY_REGION, &region));
}

int pc_kvm_get_dirty_log(int machine, uint32_t slot, uint64_t *words)
{
    struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = words};
    return answered(ioctl(machine, KVM_GET_DIRTY_LOG, &log));
}

int pc_kvm_clear_dirty_log(
    int machine, uint32_t slot, uint64_t first_page, uint32_t page_count, const uint64_t *words)
{
    struct kvm_clear_dirty_log log = {
        .slot = slot,
        .num_pages = page_count,
        .first_page = first_page,
        .dirty_bitmap = (void *)(uintptr_t)words, /* only read */
    };
    return answered(ioctl(machine, KVM_CLEAR_DIRTY_LOG, &log));
}

int pc_kvm_create_vcpu(int machine, uint32_t id)
{
    return answered(ioctl(machine, KVM_CREATE_VCPU, (unsigned long)id));
}

int pc_kvm_run(int vcpu, uint64_t shared, struct pc_kvm_exit *exit)
{
    const struct kvm_run *run = (const struct kvm_run *)(uintptr_t)shared;
    if (ioctl(vcpu, KVM_RUN, 0) < 0)
        return -errno;
    *exit = (struct pc_kvm_exit){.reason = run->exit_reason};
    if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT &&
        run->io.count == 1) {
        exit->is_output = 1;
        exit->port = run->io.port;
        memcpy(&exit->value, (const char *)run + run->io.data_offset, run->io.size);
    }
    return 0;
}

int pc_kvm_set_immediate_exit(uint64_t shared, int is_asked)
{
    struct kvm_run *run = (struct kvm_run *)(uintptr_t)shared;
    /* Sequentially consistent: who asks looks for the running thread next, while that says that it
     * runs and has the kernel look here. One of them sees the other. */
    return __atomic_exchange_n(&run->immediate_exit, is_asked ? 1 : 0, __ATOMIC_SEQ_CST);
}

#ifdef __x86_64__
_Static_assert(
    sizeof(struct kvm_regs) == PC_KVM_REGISTER_COUNT * sizeof(uint64_t), "registers are words");

int pc_kvm_set_flat_mode(int vcpu)
{
    struct kvm_sregs state;
    if (ioctl(vcpu, KVM_GET_SREGS, &state) < 0)
        return -errno;
    struct kvm_segment data = {
        .limit = 0xffffffff, .selector = 16, .present = 1, .type = 3, .s = 1, .db = 1, .g = 1,
    };
    struct kvm_segment code = data;
    code.selector = 8;
    code.type = 11;
    state.cs = code;
    state.ds = state.es = state.fs = state.gs = state.ss = data;
    state.cr0 |= 1; /* protection enable */
    return answered(ioctl(vcpu, KVM_SET_SREGS, &state));
}

int pc_kvm_set_user_mode(int vcpu, uint64_t page_table)
{
    struct kvm_sregs state;
    if (ioctl(vcpu, KVM_GET_SREGS, &state) < 0)
        return -errno;
    struct kvm_segment data = {
        .limit = 0xffffffff, .selector = 0x2b, .present = 1, .type = 3, .s = 1, .db = 1, .g = 1,
        .dpl = 3,
    };
    struct kvm_segment code = data;
    code.selector = 0x33;
    code.type = 11;
    code.db = 0;
    code.l = 1;
    state.cs = code;
    state.ds = state.es = state.fs = state.gs = state.ss = data;
    state.cr0 |= 1 | 1u << 31; /* protection, paging */
    state.cr3 = page_table;
    state.cr4 |= 1 << 5;            /* PAE */
    state.efer |= 1 << 8 | 1 << 10; /* long mode, enabled and active */
    return answered(ioctl(vcpu, KVM_SET_SREGS, &state));
}

int pc_kvm_get_registers(int vcpu, uint64_t *registers)
{
    return answered(ioctl(vcpu, KVM_GET_REGS, registers));
}

int pc_kvm_set_registers(int vcpu, const uint64_t *registers)
{
    return answered(ioctl(vcpu, KVM_SET_REGS, registers));
}

static const struct {
    int length;
    unsigned long get, set;
} parts[PC_KVM_PART_COUNT] = {
    [PC_KVM_SPECIAL_REGISTERS] = {sizeof(struct kvm_sregs), KVM_GET_SREGS, KVM_SET_SREGS},
    [PC_KVM_FLOATING_POINT] = {sizeof(struct kvm_fpu), KVM_GET_FPU, KVM_SET_FPU},
    [PC_KVM_EVENTS] = {sizeof(struct kvm_vcpu_events), KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS},
};

int pc_kvm_part_length(enum pc_kvm_part part) { return parts[part].length; }

int pc_kvm_get_part(int vcpu, enum pc_kvm_part part, void *bytes)
{
    return answered(ioctl(vcpu, parts[part].get, bytes));
}

int pc_kvm_set_part(int vcpu, enum pc_kvm_part part, const void *bytes)
{
    return answered(ioctl(vcpu, parts[part].set, bytes));
}
#else
int pc_kvm_set_flat_mode(int vcpu)
{
    (void)vcpu;
    return -ENOSYS;
}

int pc_kvm_set_user_mode(int vcpu, uint64_t page_table)
{
    (void)vcpu, (void)page_table;
    return -ENOSYS;
}

int pc_kvm_get_registers(int vcpu, uint64_t *registers)
{
    (void)vcpu, (void)registers;
    return -ENOSYS;
}

int pc_kvm_set_registers(int vcpu, const uint64_t *registers)
{
    (void)vcpu, (void)registers;
    return -ENOSYS;
}

int pc_kvm_part_length(enum pc_kvm_part part)
{
    (void)part;
    return -ENOSYS;
}

int pc_kvm_get_part(int vcpu, enum pc_kvm_part part, void *bytes)
{
    (void)vcpu, (void)part, (void)bytes;
    return -ENOSYS;
}

int pc_kvm_set_part(int vcpu, enum pc_kvm_part part, const void *bytes)
{
    (void)vcpu, (void)part, (void)bytes;
    return -ENOSYS;
}
#endif
