"""Exit with 0 when an online worker of this container takes a connection in time.

That takes all of it: the tree listens, and has a worker that is free and does not hang. The worker
finds that nobody asks it anything, and goes on.
"""

from __future__ import annotations

import os
import socket
import sys

# A worker that is busy is free again before; one that takes longer for an answer is ended.
TIMEOUT_S = 8


def main() -> None:
    """Connect as the server does, and wait for the word that a worker sends when it takes a
    connection."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(os.environ["ONLINE_SOCKET"])
            if not connection.recv(1):
                sys.exit("the online worker that took the connection ended")
    except TimeoutError:
        sys.exit(f"no online worker was free within {TIMEOUT_S} s")
    except OSError as error:
        sys.exit(f"no online worker listens: {error}")


if __name__ == "__main__":
    main()
