"""The limits of online predictions that are not settings.

The settings ONLINE_MAX_ROWS, ONLINE_MAX_BYTES and ONLINE_TIMEOUT_S limit a request, and
ONLINE_CACHE_BYTES and ONLINE_MEMORY_BYTES limit a worker.
"""

from __future__ import annotations

# Seconds that a request waits for a free worker.
WAIT_FOR_WORKER_S = 0.5
# Connections that wait in the kernel for a free worker.
MAX_WAITING_CONNECTIONS = 256
# A worker that takes longer than ONLINE_TIMEOUT_S is killed. Should that fail, the server gives up
# this many seconds later.
ANSWER_MARGIN_S = 5.0
# Seconds for the prediction in progress when a worker is told to stop.
STOP_S = 5.0
# A packed text or a Parquet file may unpack to this many times ONLINE_MAX_BYTES.
MAX_UNPACKING_FACTOR = 20
# Seconds for which a worker uses a kept model without looking for it in the store. A removal that
# is not counted in Redis, such as one by retention, is noticed this late.
TRUST_MODEL_S = 10.0
