"""The look at a foreign table before its job is queued, in child processes with limits."""

from rowcast.inspection.inspectors import Inspectors
from rowcast.inspection.protocol import Check, Findings, Question, Read

__all__ = [
    "Check",
    "Findings",
    "Inspectors",
    "Question",
    "Read",
]
