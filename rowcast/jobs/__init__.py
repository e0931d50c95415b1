"""A job, from its submission to its final record."""

from rowcast.jobs.queue import AttemptError, JobQueue
from rowcast.jobs.service import Jobs, Submission
from rowcast.jobs.status import FINAL, Status

__all__ = [
    "FINAL",
    "AttemptError",
    "JobQueue",
    "Jobs",
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
