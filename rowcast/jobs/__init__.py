"""A job, from its submission to its final record."""

from rowcast.jobs.queue import Cause, Lanes
from rowcast.jobs.service import Jobs, Submission
from rowcast.jobs.status import FINAL, Status

__all__ = [
    "FINAL",
    "Cause",
    "Jobs",
    "Lanes",
    "Status",
    "Submission",
    "completion",
    "context",
    "estimates",
    "log",
    "publishing",
    "queue",
    "reuse",
    "service",
    "status",
]
