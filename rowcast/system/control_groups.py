"""The control groups of this process that limit memory, of versions 1 and 2; Linux only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# A job over `memory.high` is not killed but slowed down until it hardly moves, which is not better.
_LIMITS = ("memory.max", "memory.high", "memory.limit_in_bytes")
_COUNTERS = ("memory.events", "memory.oom_control")
_OOM_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def memory_limits(proc: Path) -> Iterator[int]:
    """Yield the limits, in bytes, of this process's groups and of the groups that contain them."""
    for group, mount in _groups(proc):
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount):
                yield from _limits_of(folder)


def _limits_of(folder: Path) -> Iterator[int]:
    for name in _LIMITS:
        # A group without a limit has no such file, `max`, or a number near 2^63.
        with suppress(OSError, ValueError):
            yield int((folder / name).read_text())


def oom_kills(proc: Path) -> int:
    """Return how many processes of the group the kernel has killed for lack of memory.

    For a process outside all groups, the counter of the machine is used; 0 if there is none.
    """
    counters = [group / name for group, _ in _groups(proc) for name in _COUNTERS]
    for path in (*counters, proc / "vmstat"):
        with suppress(OSError):
            if found := _OOM_KILLS.search(path.read_text()):
                return int(found[1])
    return 0


def _groups(proc: Path) -> Iterator[tuple[Path, Path]]:
    """Yield this process's groups that may count memory, and their mount points."""
    try:
        groups = (proc / "self/cgroup").read_text().splitlines()
        mounts = (proc / "self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        for mount in mounts:
            about, _, kind = mount.partition(" - ")
            if _counts_memory(controllers, kind):
                root, point = about.split()[3:5]
                mount_point = Path(point)
                yield _folder_of(mount_point, path, root), mount_point


def _counts_memory(controllers: str, kind: str) -> bool:
    """Return whether a group's line in `cgroup` belongs to a mount that counts memory."""
    filesystem, _, options = kind.split(" ", 2)
    if filesystem == "cgroup2":
        return controllers == ""
    if filesystem != "cgroup":
        return False
    return "memory" in controllers.split(",") and "memory" in options.split(",")


def _folder_of(point: Path, path: str, root: str) -> Path:
    """Return the folder of the group `path`, if the mount point shows the hierarchy from `root`."""
    relative = os.path.relpath(path, root)
    # In a container the path may be the host's, and the mount point may show this very group.
    if relative.startswith(".."):
        return point
    return point / relative
