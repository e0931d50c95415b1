"""This machine: its cores, memory, scratch space, directories and processes."""

from rowcast.system.process import die_with_parent, set_process_title

__all__ = [
    "cores",
    "die_with_parent",
    "directories",
    "forks",
    "memory",
    "scratch",
    "set_process_title",
]
