"""How long each kind of process waits for the object store, and its pool of connections."""

from __future__ import annotations

from dataclasses import dataclass, replace

import urllib3

from rowcast.store.connections import FreshPoolManager

_MAX_BACKOFF_S = 5.0
_SERVER_ERRORS = [500, 502, 503, 504]


@dataclass(frozen=True)
class Patience:
    """Timeouts in seconds to connect and to read, and the number of tries for a request.

    For `outage_s` seconds an operation that has failed is also repeated from its beginning: a
    store that was killed has lost the parts of an unfinished upload.
    """

    connect_s: float
    read_s: float
    tries: int
    outage_s: float = 0

    def pool(self, connections: int) -> urllib3.PoolManager:
        """Return a pool that keeps so many connections open."""
        retries = urllib3.Retry(
            total=self.tries - 1,
            backoff_factor=0.3,
            backoff_max=_MAX_BACKOFF_S,
            status_forcelist=_SERVER_ERRORS,
            raise_on_status=False,
        )
        timeout = urllib3.Timeout(connect=self.connect_s, read=self.read_s)
        return FreshPoolManager(
            maxsize=connections,
            timeout=timeout,
            retries=retries,
            cert_reqs="CERT_REQUIRED",
        )


# The server must answer a request with 503 within 3 s, so it tries once. A job can wait.
SERVER = Patience(connect_s=0.8, read_s=1.8, tries=1)
WORKER = Patience(connect_s=3.0, read_s=30.0, tries=8)
# The maintenance process has other tasks than to wait for the store, and soon tries again.
MAINTENANCE = Patience(connect_s=0.8, read_s=5.0, tries=1)


def through_outage(outage_s: float) -> Patience:
    """Return the patience of a job, whose work would be lost: a worker's, and `outage_s`."""
    return replace(WORKER, outage_s=outage_s)
