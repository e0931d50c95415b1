"""Exit with 0 when this container's server is ready: it reaches Redis and all buckets.

This is a file because some engines split the command of a health check at its spaces.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

# /readyz answers within 3 s even when nothing behind it does. A busy machine may take longer.
TIMEOUT_S = 8


def main() -> None:
    """Request /readyz; on failure print its answer, which `docker inspect` shows."""
    port = os.environ.get("BIND", "127.0.0.1:8080").rpartition(":")[2]
    url = f"http://127.0.0.1:{port}/readyz"
    try:
        urllib.request.urlopen(url, timeout=TIMEOUT_S).close()  # nosec B310
    except urllib.error.HTTPError as error:
        sys.exit(error.read().decode())
    except OSError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
