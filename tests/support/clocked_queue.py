"""The queue with Redis' time in the hands of a test, which may set it forward and back."""

from __future__ import annotations

import redis

from rowcast.jobs import queue

_KEY = "test:time"
_REDIS_TIME = "redis.call('TIME')"


def _clocked(script: str) -> str:
    assert script.count(_REDIS_TIME) == 1
    return script.replace(_REDIS_TIME, f"redis.call('LRANGE', '{_KEY}', 0, 1)")


class ClockedQueue(queue.JobQueue):
    """The queue with a time of its own."""

    def __init__(self, connection: redis.Redis, now: float = 1.8e9) -> None:
        super().__init__(connection)
        self._submit = connection.register_script(_clocked(queue._FOR_NEW_JOBS))
        self._script = connection.register_script(_clocked(queue._FOR_KNOWN_JOBS))
        self.now = now
        self.set_time(now)

    def set_time(self, now: float) -> None:
        """Set the time, as somebody sets the clock of Redis' machine."""
        self.now = now
        seconds, part = divmod(now, 1)
        with self.connection.pipeline() as pipeline:
            pipeline.delete(_KEY)
            pipeline.rpush(_KEY, int(seconds), int(part * 1e6))
            pipeline.execute()

    def time(self) -> float:
        return self.now

    def pass_time(self, seconds: float) -> None:
        """Let time pass while a maintenance process calls every second, as it does."""
        while seconds > 0:
            step = min(seconds, 1.0)
            self.set_time(self.now + step)
            self.expired()
            seconds -= step

    def now_steady(self) -> float:
        """Return the steady seconds of the last reading."""
        return float(self.connection.hget("rowcast:steady", "steady") or self.now)
