"""Runs a command under a seccomp filter that refuses some system calls.

usage: refuse_calls.py EPERM|ENOSYS|KILL NUMBER[,NUMBER...] COMMAND [ARGUMENT...]
"""
import ctypes
import os
import struct
import sys

# linux/seccomp.h, linux/filter.h, linux/prctl.h
ANSWERS = {"EPERM": 0x00050000 | 1, "ENOSYS": 0x00050000 | 38, "KILL": 0x80000000}
ALLOW = 0x7FFF0000
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


class Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def instructions(answer, numbers):
    """The number of the call is the first word that a filter sees."""
    yield LOAD_WORD, 0, 0, 0
    for index, number in enumerate(numbers):
        yield JUMP_IF_EQUAL, len(numbers) - index, 0, number
    yield RETURN, 0, 0, ALLOW
    yield RETURN, 0, 0, answer


def main():
    answer = ANSWERS[sys.argv[1]]
    numbers = [int(number) for number in sys.argv[2].split(",")]
    code = b"".join(struct.pack("HBBI", *one) for one in instructions(answer, numbers))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = Program(len(code) // 8, ctypes.addressof(buffer))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        sys.exit("no_new_privs is refused")
    if library.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        sys.exit("the filter is refused: %s" % os.strerror(ctypes.get_errno()))
    os.execv(sys.argv[3], sys.argv[3:])


main()
