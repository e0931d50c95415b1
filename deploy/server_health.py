"""Exit with 0 when this container's server is ready: Redis and the buckets answer it.

A file, because some engines split the command of a health check at its spaces.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

# /readyz answers within 3 s even when nothing behind it does, but a busy machine is no sick server.
TIMEOUT_S = 8


def main() -> None:
    """Ask the server as anybody would; what it says otherwise is for `docker inspect`."""
    port = os.environ.get("BIND", "127.0.0.1:8080").rpartition(":")[2]
    try:
        urllib.request.urlopen(
            f"http://127.0.0.1:{port}/readyz", timeout=TIMEOUT_S
        ).close()
    except urllib.error.HTTPError as error:
        sys.exit(error.read().decode())
    except OSError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
