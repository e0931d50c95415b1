"""This machine: its cores, memory, scratch space, directories and processes."""

from rowcast.system.limited_child import Deadline, LimitedChild
from rowcast.system.process import (
    die_with_parent,
    hide_memory,
    set_process_title,
    show_memory,
    yield_cores,
)
from rowcast.system.shares import FairGate, FairQueue, Places

__all__ = [
    "Deadline",
    "FairGate",
    "FairQueue",
    "LimitedChild",
    "Places",
    "cores",
    "data_disk",
    "die_with_parent",
    "directories",
    "forks",
    "hide_memory",
    "memory",
    "messages",
    "sandbox",
    "scratch",
    "set_process_title",
    "show_memory",
    "yield_cores",
]
