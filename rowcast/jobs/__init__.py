"""A job, from its submission to its final record."""

from rowcast.jobs.fields import JobFields, Priority
from rowcast.jobs.queue import QUEUE_NAME, AttemptError, JobQueue, our_errors
from rowcast.jobs.redis_memory import RedisMemory
from rowcast.jobs.service import Jobs, Submission
from rowcast.jobs.status import FINAL, Status, shown

__all__ = [
    "FINAL",
    "QUEUE_NAME",
    "AttemptError",
    "JobFields",
    "JobQueue",
    "Jobs",
    "Priority",
    "RedisMemory",
    "Status",
    "Submission",
    "completion",
    "context",
    "estimates",
    "log",
    "our_errors",
    "publishing",
    "queue",
    "redis_memory",
    "reuse",
    "service",
    "shown",
]
