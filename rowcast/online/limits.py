"""The limits of online predictions that are not settings.

The settings ONLINE_MAX_ROWS, ONLINE_MAX_BYTES and ONLINE_TIMEOUT_S limit a request, and
ONLINE_CACHE_BYTES and ONLINE_MEMORY_BYTES limit a worker.
"""

from __future__ import annotations

# Seconds that a request waits for a free worker, and between two checks of whether it still may.
WAIT_FOR_WORKER_S = 5.0
WAIT_CHECK_S = 0.25
# Connections that wait for a free worker, of one owner at most half.
MAX_WAITING_CONNECTIONS = 256
# A hello names an owner, and must have come after so many seconds.
MAX_HELLO_BYTES = 1024
HELLO_S = 1.0
# The largest question with its table that is sent before a worker is free. The kernel holds it.
AHEAD_BYTES = 65_536
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
