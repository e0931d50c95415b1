"""Exit with 0 when the maintenance process of this container does its tasks.

It reports the free scratch space every 5 s, and Redis forgets a report after a while.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import redis

sys.path.insert(0, str(Path(__file__).parents[2]))

from rowcast.system import scratch

TIMEOUT_S = 5


def main() -> None:
    """Look for a recent report of this host name."""
    url = os.environ["REDIS_URL"]
    try:
        with redis.Redis.from_url(
            url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S
        ) as connection:
            names = scratch.reporters(connection)
    except redis.RedisError as error:
        sys.exit(f"Redis does not answer: {type(error).__name__}")

    if not any(name.startswith(f"{socket.gethostname()}-") for name in names):
        sys.exit("the maintenance process of this container has not reported recently")


if __name__ == "__main__":
    main()
