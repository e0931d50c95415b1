"""The limits of inspections that are not settings.

The settings are INSPECTORS, INSPECTION_TIMEOUT_S and INSPECTION_MEMORY_BYTES.
"""

from __future__ import annotations

# Seconds that a request waits for a free inspector, and for one to accept its question. A pool that
# has just started gets more: it loads Arrow.
WAIT_S = 3.0
START_S = 20.0
# Least seconds between two starts of the pool.
RESTART_PAUSE_S = 1.0
# An inspector that takes too long is killed. Should that fail, the server gives up this many
# seconds later.
ANSWER_MARGIN_S = 0.5
# Seconds that an inspector waits for the store, which do not count as its own. The server's
# patience with the store is shorter for each part.
READ_S = 30.0
# Seconds for the processes to end when the server ends.
STOP_S = 2.0
# The server sends a table's bytes in parts of at most this size, so it never holds more of them,
# and at most this many parts for one inspection.
MAX_PART_BYTES = 1 << 20
MAX_PARTS = 80
# The server reads no longer answer. The longest are lists of problems, with names of columns.
MAX_ANSWER_BYTES = 1 << 20
