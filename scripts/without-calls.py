#!/usr/bin/env python3
"""Runs a program in which the kernel refuses some system calls, as the seccomp filter of a container does.

Usage: scripts/without-calls.py perf_event_open[,NAME...] PROGRAM [ARGUMENT...]
"""

import ctypes
import os
import platform
import struct
import sys

# The numbers of include/uapi/asm-generic/unistd.h (aarch64), and of x86-64.
CALLS = {
    "x86_64": (0xC000003E, {"perf_event_open": 298, "timer_create": 222, "process_vm_readv": 310}),
    "aarch64": (0xC00000B7, {"perf_event_open": 241, "timer_create": 107, "process_vm_readv": 270}),
}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM


def instructions(architecture, numbers):
    """A filter: other architectures and calls are allowed."""
    yield LOAD, 0, 0, 4
    yield EQUAL, 1, 0, architecture
    yield RETURN, 0, 0, ALLOW
    yield LOAD, 0, 0, 0
    for number in numbers:
        yield EQUAL, 0, 1, number
        yield RETURN, 0, 0, REFUSE
    yield RETURN, 0, 0, ALLOW


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    architecture, known = CALLS[platform.machine()]
    numbers = [known[name] for name in sys.argv[1].split(",")]
    code = [struct.pack("HBBI", *each) for each in instructions(architecture, numbers)]
    program = Program(len(code), b"".join(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*arguments) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
