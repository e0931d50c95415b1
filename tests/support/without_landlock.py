"""`python -m tests.support.without_landlock`: the stack of `python -m rowcast.local` where Landlock
is forbidden, as the profile of a container may do it, by a filter of system calls (seccomp)."""

from __future__ import annotations

import ctypes
import errno
import sys

from rowcast.local.__main__ import main

CREATE_RULESET, RESTRICT_SELF = 444, 446
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD_NUMBER, _JUMP_IF_AT_LEAST, _JUMP_IF_ABOVE, _RETURN = 0x20, 0x35, 0x25, 0x06
_REFUSE, _ALLOW = 0x0005_0000 | errno.EPERM, 0x7FFF_0000


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("skip_if_true", ctypes.c_uint8),
        ("skip_if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_uint16),
        ("instructions", ctypes.POINTER(_Instruction)),
    )


def forbid(first: int = CREATE_RULESET) -> None:
    """Have the kernel refuse the calls of Landlock from `first` on to this process for good."""
    instructions = (_Instruction * 5)(
        _Instruction(_LOAD_NUMBER, 0, 0, 0),
        _Instruction(_JUMP_IF_AT_LEAST, 0, 2, first),
        _Instruction(_JUMP_IF_ABOVE, 1, 0, RESTRICT_SELF),
        _Instruction(_RETURN, 0, 0, _REFUSE),
        _Instruction(_RETURN, 0, 0, _ALLOW),
    )
    program = _Program(len(instructions), instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    refused = libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program))
    assert not refused, errno.errorcode[ctypes.get_errno()]


if __name__ == "__main__":
    forbid()
    sys.exit(main())
