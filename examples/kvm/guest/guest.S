# The guest: 64-bit code in user mode with rights to ports, the same for every vCPU, without stack and
# interrupts. A vCPU goes through the pages that are its own, again and again. In round r (from 0 on) it
# expects in each word the word's address + r * GROWTH, complains of what differs, and leaves the address
# + (r + 1) * GROWTH. Memory is zero at first. After each round it says how it went.
#
# Set by the machine:                            Kept by the guest:
# %r8  number of this vCPU                       %rbp pages done since the beginning
# %r9  number of vCPUs                           %r14 words that were not as it had left them
# %r10 pages of its own
# %r11 from one of these that it works on to the next, coprime to %r10
# %r12 bytes worked on in the low block         %r13 turns of an idle loop behind each page
#include "guest.h"

        .section .rodata
        .globl  guest_image_start, guest_image_end
        .balign 4096
guest_image_start:
#ifdef __x86_64__
page:   movabsq $GUEST_GROWTH, %rbx
        movq    %rbp, %rax
        xorl    %edx, %edx
        divq    %r10                    # %rax: the round, %rdx: pages done in it
        movq    %rax, %rsi
        imulq   %rbx, %rsi
        movq    %rdx, %rax
        mulq    %r11
        divq    %r10                    # %rdx: which of its pages
        imulq   %r9, %rdx
        addq    %r8, %rdx               # which of all
        shlq    $12, %rdx
        leaq    GUEST_WORK_AT(%rdx), %rdi
        subq    %r12, %rdx
        jb      isLow
        movl    $GUEST_HIGH_BLOCK_AT, %edi
        addq    %rdx, %rdi
isLow:  movl    $512, %ecx
word:   leaq    (%rdi,%rsi), %rax
        cmpq    %rax, (%rdi)
        jne     odd
write:  addq    %rbx, %rax
        movq    %rax, (%rdi)
        addq    $8, %rdi
        decl    %ecx
        jnz     word
        incq    %rbp                    # from here on the page is done
        movq    %r13, %rcx
idle:   decq    %rcx
        jnz     idle
        movq    %rbp, %rax
        xorl    %edx, %edx
        divq    %r10
        testq   %rdx, %rdx
        jnz     page
        leaq    right(%rip), %rsi
        testq   %r14, %r14
        jz      say
        leaq    wrong(%rip), %rsi
say:    lodsb
        testb   %al, %al
        jz      page
        outb    %al, $GUEST_CONSOLE
        jmp     say

odd:    testq   %rsi, %rsi              # the first round finds memory as the machine began
        jnz     tell
        cmpq    $0, (%rdi)
        je      write
tell:   incq    %r14
        xchgq   %rax, %rdi
        outl    %eax, $GUEST_COMPLAINT
        xchgq   %rax, %rdi
        jmp     write

right:  .asciz  "all is as I left it\n"
wrong:  .asciz  "something has changed\n"

# The page table: a GiB of each block at its own address, in pages of 2 MiB. Entries say present,
# writable, for user mode, accessed and dirty, so that nobody has a reason to write them.
#define TABLE(name) (name - guest_image_start + GUEST_IMAGE_AT + 0x67)
#define PAGE 0xe7
        .org    guest_image_start + GUEST_PAGE_TABLE_AT - GUEST_IMAGE_AT
        .quad   TABLE(spaces)
        .balign 4096
spaces: .quad   TABLE(low), 0, TABLE(high)
        .balign 4096
low:    .set    at, 0
        .rept   512
        .quad   at + PAGE
        .set    at, at + 0x200000
        .endr
high:   .set    at, GUEST_HIGH_BLOCK_AT
        .rept   512
        .quad   at + PAGE
        .set    at, at + 0x200000
        .endr
#endif
guest_image_end:
        .section .note.GNU-stack, "", @progbits
