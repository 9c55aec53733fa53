# A guest that can tell whether its memory survived a migration.
#
# It fills pages with what follows from their addresses and then changes its hot pages for ever.
# Every page says for itself whether it is whole and current, so a page that is old, torn, empty or
# in the wrong place is found by the guest when it comes by, or from outside in a dump.
#
# One program, two ways in: as a boot sector that firmware loads at 0x7c00, or as a 64 KiB firmware
# image of its own, whose reset code copies the program to the same place. README.md has the layout
# of memory; `interop/guest.py` assembles and passes the parameters, `interop/checker.py` judges.
#
# Parameters, all of them 32 bits, by `--defsym`:
#   FILL_START, FILL_END  pages in between are filled; addresses, page aligned
#   HOT_START, HOT_END    pages in between are changed; inside of the filled ones
#   RANDOM                0: sweep after sweep over the hot pages; 1: hot pages in random order
#   SEED                  differs from run to run, so that no page can stem from another run
#   REPORT_EVERY          sweeps (or steps) from one line on the serial port to the next
#   COLD_CHECKS           pages that never change, looked at after each sweep (or report)
#   DELAY                 turns of an idle loop after each page, to slow the guest down

        .set    PAGE, 4096
        .set    LAST, PAGE - 4          # where a page holds its counter for the second time
        .set    SERIAL, 0x3f8
        .set    STACK_TOP, 0x6000
        .set    STATE, 0x6000           # a page of its own
        .set    SECTOR, 512

# The state, words of four bytes. The first three are for a dump's reader.
        .set    state_magic, STATE      # "LIVE" once every page is filled
        .set    state_count, STATE + 4  # sweeps (or steps) done
        .set    state_cursor, STATE + 8 # the page being changed, 0: none
        .set    random, STATE + 12
        .set    cold_cursor, STATE + 16
        .set    until_report, STATE + 20

        .section .program, "awx"
        .code16
program:
        jmp     load
        .org    16
parameters:
        .ascii  "PAGEWORK"
        .long   FILL_START, FILL_END, HOT_START, HOT_END
        .long   RANDOM, SEED, REPORT_EVERY, COLD_CHECKS, DELAY

# Firmware has loaded the first sector and left the drive's number in %dl.
load:
        cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $STACK_TOP, %sp
        movw    $(0x0200 + PROGRAM_SECTORS - 1), %ax
        movw    $(program + SECTOR), %bx
        movw    $0x0002, %cx            # cylinder 0, sector 2
        movb    $0, %dh
        int     $0x13
        jc      stopped

# From here on both ways in are one.
enter:
        cli
        xorw    %ax, %ax
        movw    %ax, %ds
        inb     $0x92, %al              # address line 20
        orb     $2, %al
        andb    $0xfe, %al
        outb    %al, $0x92
        lgdtl   descriptors
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $8, $flat
stopped:
        hlt
        jmp     stopped

        .balign 8
segments:
        .quad   0
        .quad   0x00cf9a000000ffff      # code, flat
        .quad   0x00cf92000000ffff      # data, flat
descriptors:
        .word   . - segments - 1
        .long   segments

        .org    SECTOR - 2
        .word   0xaa55

        .code32
flat:
        movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $STACK_TOP, %esp
        cld
        movl    $0, state_magic
        movl    $0, state_count
        movl    $0, state_cursor
        movl    $SEED, random
        movl    $FILL_START, cold_cursor
        movl    $1, until_report

        movl    $FILL_START, %edi
fill:
        movl    $0, (%edi)
        movl    %edi, 4(%edi)
        call    pattern
        movl    %eax, 8(%edi)
        movl    $0, LAST(%edi)
        addl    $PAGE, %edi
        cmpl    $FILL_END, %edi
        jb      fill

        movl    $0x4556494c, state_magic
        movl    $filled, %esi
        call    print_text
        call    print_end
        .if     RANDOM
        jmp     step
        .endif

# Sweep: %ebp is what the sweep before left in every hot page.
sweep:
        movl    state_count, %ebp
        movl    $HOT_START, %edi
change:
        call    check_page
        movl    %edi, state_cursor
        leal    1(%ebp), %eax
        movl    %eax, (%edi)
        movl    %eax, LAST(%edi)
        call    idle
        addl    $PAGE, %edi
        cmpl    $HOT_END, %edi
        jb      change

        movl    $0, state_cursor
        incl    state_count
        call    check_cold
        movl    $sweep_name, %esi
        call    report
        jmp     sweep

# Step: one hot page at random. Its counter is known only to be the same at both ends; that none is
# old shows when all are added up before each report: every step has added one.
        .if     RANDOM
step:
        imull   $1664525, random, %eax
        addl    $1013904223, %eax
        movl    %eax, random
        movl    $((HOT_END - HOT_START) / PAGE), %edi
        mull    %edi                    # %edx: index of the page
        movl    %edx, %edi
        shll    $12, %edi
        addl    $HOT_START, %edi
        movl    (%edi), %ebp
        call    check_page
        movl    %edi, state_cursor
        leal    1(%ebp), %eax
        movl    %eax, (%edi)
        movl    %eax, LAST(%edi)
        incl    state_count
        movl    $0, state_cursor
        call    idle
        cmpl    $1, until_report
        jne     1f
        call    add_up
        call    check_cold
1:      movl    $step_name, %esi
        call    report
        jmp     step

add_up:
        xorl    %ebx, %ebx
        movl    $HOT_START, %edx
1:      addl    (%edx), %ebx
        addl    $PAGE, %edx
        cmpl    $HOT_END, %edx
        jb      1b
        movl    $state_count, %edx
        movl    state_count, %eax
        cmpl    %eax, %ebx
        jne     bad
        ret
        .endif

# The pages that never change, COLD_CHECKS of them, from where the last look ended.
check_cold:
        xorl    %ebp, %ebp
        movl    $COLD_CHECKS, %ecx
        jecxz   9f
        movl    cold_cursor, %edi
1:      cmpl    $FILL_END, %edi
        jb      2f
        movl    $FILL_START, %edi
2:      cmpl    $HOT_START, %edi
        jb      3f
        cmpl    $HOT_END, %edi
        jae     3f
        movl    $HOT_END, %edi
        cmpl    $FILL_END, %edi
        jb      3f
        movl    $FILL_START, %edi
        cmpl    $HOT_START, %edi
        jae     9f                      # there are hot pages only
3:      pushl   %ecx
        call    check_page
        popl    %ecx
        addl    $PAGE, %edi
        loop    1b
        movl    %edi, cold_cursor
9:      ret

# The page at %edi must hold the counter %ebp at both ends, its address and its pattern.
        .macro  expect offset
        movl    \offset(%edi), %ebx
        leal    \offset(%edi), %edx
        cmpl    %eax, %ebx
        jne     bad
        .endm
check_page:
        movl    %ebp, %eax
        expect  0
        expect  LAST
        movl    %edi, %eax
        expect  4
        call    pattern
        expect  8
        ret

# %eax: what the page at %edi holds besides its address.
pattern:
        movl    %edi, %eax
        xorl    $SEED, %eax
        imull   $0x9e3779b1, %eax, %eax
        ret

idle:
        movl    $DELAY, %ecx
        jecxz   2f
1:      pause
        loop    1b
2:      ret

# A line every REPORT_EVERY turns.
report:
        decl    until_report
        jnz     1f
        movl    $REPORT_EVERY, until_report
        call    print_text
        movl    state_count, %eax
        call    print_decimal
        call    print_end
1:      ret

# The word at %edx is %ebx and should be %eax.
bad:
        pushl   %eax
        pushl   %ebx
        pushl   %edx
        movl    $bad_name, %esi
        call    print_text
        popl    %eax
        call    print_hex
        popl    %eax
        call    print_hex
        popl    %eax
        call    print_hex
        call    print_end
dead:
        hlt
        jmp     dead

print_text:
        movb    (%esi), %al
        testb   %al, %al
        jz      1f
        call    print_byte
        incl    %esi
        jmp     print_text
1:      ret

print_hex:
        movl    %eax, %ebx
        movb    $' ', %al
        call    print_byte
        movl    $8, %ecx
1:      roll    $4, %ebx
        movl    %ebx, %eax
        andl    $15, %eax
        movb    digits(%eax), %al
        call    print_byte
        loop    1b
        ret

print_decimal:
        movl    $10, %ebx
        xorl    %ecx, %ecx
1:      xorl    %edx, %edx
        divl    %ebx
        pushl   %edx
        incl    %ecx
        testl   %eax, %eax
        jnz     1b
        movb    $' ', %al
        call    print_byte
2:      popl    %eax
        movb    digits(%eax), %al
        call    print_byte
        loop    2b
        ret

print_end:
        movb    $'\n', %al
print_byte:
        pushl   %eax
        movw    $(SERIAL + 5), %dx
1:      inb     %dx, %al
        testb   $0x20, %al
        jz      1b
        popl    %eax
        movw    $SERIAL, %dx
        outb    %al, %dx
        ret

digits:         .ascii  "0123456789abcdef"
filled:         .asciz  "FILLED"
sweep_name:     .asciz  "SWEEP"
step_name:      .asciz  "STEP"
bad_name:       .asciz  "BAD"
        .set    PROGRAM_SECTORS, 3
        .org    PROGRAM_SECTORS * SECTOR # refuses a program that has grown beyond it

# The end of a firmware image: the processor starts 16 bytes before it.
        .section .reset, "ax"
        .code16
reset:
        cli
        cld
        movw    $0xf000, %ax
        movw    %ax, %ds
        xorw    %ax, %ax
        movw    %ax, %es
        xorw    %si, %si
        movw    $program, %di
        movw    $(PROGRAM_SECTORS * SECTOR), %cx
        rep movsb
        ljmp    $0, $enter
        .org    0xf0
        ljmp    $0xf000, $reset
        .org    0x100
