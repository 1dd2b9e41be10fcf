"""Runs a program with some system calls refused, as a container's seccomp filter refuses them.

`python denied.py CALL[,CALL] -- program arguments`
"""

import ctypes
import errno
import os
import struct
import sys

# For each machine: the number that a filter sees, and those of the calls.
_CALLS = {
    'x86_64': {'prctl': 157, 'set_robust_list': 273, 'pidfd_send_signal': 424, 'pidfd_open': 434},
    'aarch64': {'prctl': 167, 'set_robust_list': 99, 'pidfd_send_signal': 424, 'pidfd_open': 434},
}
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_REFUSE, _ALLOW = 0x50000 | errno.EPERM, 0x7FFF0000


class _Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('instructions', ctypes.c_void_p)]


def main(names, program):
    numbers = [_CALLS[os.uname().machine][name] for name in names]
    instructions = [struct.pack('HBBI', _LOAD, 0, 0, 0)]
    for number in numbers:
        instructions.append(struct.pack('HBBI', _JUMP_IF_EQUAL, 0, 1, number))
        instructions.append(struct.pack('HBBI', _RETURN, 0, 0, _REFUSE))
    instructions.append(struct.pack('HBBI', _RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b''.join(instructions))
    prepared = _Program(len(instructions), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(prepared)) == 0
    os.execv(program[0], program)


if __name__ == '__main__':
    main(sys.argv[1].split(','), sys.argv[3:])
