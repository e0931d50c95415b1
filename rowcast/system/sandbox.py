"""A sandbox for processes that parse foreign bytes: Landlock, of Linux 5.13 and newer.

Processes of one user may look into each other, open each other's pipes and change each other's
files. What a table has taken over must not do that to the jobs beside it. A confined process
changes files in its own folders only. It looks into no process outside, and signals none (Linux
6.12). Processes outside may look into it, as its worker does to measure its memory.

See https://docs.kernel.org/userspace-api/landlock.html; the numbers are of <linux/landlock.h>. The
packages for it are alpha, and four system calls are enough.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

log = logging.getLogger("rowcast.processes")

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS = 38
# Write, remove and make files of each kind; link and rename; truncate. By the version of Landlock
# that knows them.
_CHANGES = {1: 0b1_1111_1111_0010, 2: 1 << 13, 3: 1 << 14}
# Of these, what a rule for a single file may allow.
_CHANGES_OF_A_FILE = 1 << 1 | 1 << 14
# Abstract Unix sockets, and signals.
_SCOPES = {6: 0b11}
# Programs that a process starts write there what nobody wants.
_NOTHING = Path("/dev/null")
# The locks of multiprocessing are made there, and so those of joblib's threads; no data is.
_LOCKS = Path("/dev/shm")  # noqa: S108 # nosec B108

# What the profile of a container answers to a system call that it forbids.
_FORBIDDEN = {errno.EPERM, errno.ENOSYS}

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (
        ("allowed_access", ctypes.c_uint64),
        ("parent_fd", ctypes.c_int32),
    )


def version() -> int:
    """Return the version of Landlock that the kernel has; 0 without it."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)))


def is_available() -> bool:
    """Return whether processes can confine themselves here: a thread tries it, and ends."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(confine, []).result()


def warn_if_missing() -> None:
    """Log a warning where nothing can be confined; each program calls this once."""
    if not is_available():
        log.warning(
            "Landlock is not available here, so the processes that parse tables are not kept "
            "from each other. It needs Linux 5.13, and a container profile that permits it."
        )


def confine(folders: Iterable[Path]) -> bool:
    """Confine this thread, and what it starts, for good; it changes files in `folders` only.

    Returns False where Landlock is missing or forbidden, and nothing is confined. Call it before
    there are other threads.

    Raises:
        OSError: a folder does not exist.
    """
    known = version()
    if not known:
        return False
    try:
        _confine(known, folders)
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
        return False
    return True


def _confine(known: int, folders: Iterable[Path]) -> None:
    changes = _sum(_CHANGES, known)
    rules = _Ruleset(changes, 0, _sum(_SCOPES, known))
    size = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}.get(known, ctypes.sizeof(rules))
    ruleset = _call(_CREATE_RULESET, ctypes.byref(rules), size, 0)
    try:
        for folder in (*folders, *filter(Path.exists, [_LOCKS])):
            _allow(ruleset, folder, changes)
        _allow(ruleset, _NOTHING, changes & _CHANGES_OF_A_FILE)
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _sum(bits: dict[int, int], known: int) -> int:
    return sum(value for since, value in bits.items() if since <= known)


def _allow(ruleset: int, path: Path, changes: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathRule(changes, place)
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    wide = (
        ctypes.c_long(each) if isinstance(each, int) else each for each in arguments
    )
    found = int(_libc.syscall(number, *wide))
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found
