"""Exit with 0 when a worker of this container has recently sent a heartbeat to Redis.

So the pool has workers, they reach Redis, and they do not hang. When the pool itself ends, the
container ends with it.
"""

from __future__ import annotations

import os
import socket
import sys
from datetime import UTC, datetime, timedelta

import redis
import rq

# A worker sends a heartbeat every 5 s (HEARTBEAT_S in rowcast/workers/rq_worker.py).
SILENT_AFTER_S = 30
TIMEOUT_S = 5


def main() -> None:
    """Look for a recent heartbeat among RQ's registered workers with this host name."""
    url = os.environ["REDIS_URL"]
    try:
        with redis.Redis.from_url(
            url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S
        ) as connection:
            workers = rq.Worker.all(connection=connection)
    except redis.RedisError as error:
        sys.exit(f"Redis does not answer: {type(error).__name__}")

    since = datetime.now(UTC) - timedelta(seconds=SILENT_AFTER_S)
    ours = [worker for worker in workers if worker.hostname == socket.gethostname()]
    if not any(_sent_heartbeat(worker, since) for worker in ours):
        sys.exit(
            f"none of this container's {len(ours)} workers has sent a heartbeat "
            f"in the last {SILENT_AFTER_S} s"
        )


def _sent_heartbeat(worker: rq.Worker, since: datetime) -> bool:
    return bool(worker.last_heartbeat and worker.last_heartbeat > since)


if __name__ == "__main__":
    main()
