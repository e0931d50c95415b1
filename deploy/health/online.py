"""Exit with 0 when an online worker of this container accepts a connection in time.

So the parent listens, and one of its workers is free and does not hang. That worker gets no
question, and goes on.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

# A busy worker is free again before that; one that takes longer for an answer is killed.
TIMEOUT_S = 8
# The owner that waits for a worker, as rowcast/online/protocol.py has it.
HELLO = b'{"owner": "health"}'


def main() -> None:
    """Connect as the server does, and wait for the byte that a worker sends on accepting."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(os.environ["ONLINE_SOCKET"])
            connection.sendall(struct.pack("!i", len(HELLO)) + HELLO)
            if not connection.recv(1):
                sys.exit("the online worker that accepted the connection ended")
    except TimeoutError:
        sys.exit(f"no online worker was free within {TIMEOUT_S} s")
    except OSError as error:
        sys.exit(f"no online worker listens: {error}")


if __name__ == "__main__":
    main()
