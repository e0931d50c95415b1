"""Run the inspectors of a server process, which starts them itself."""

from __future__ import annotations

from rowcast.inspection import pool

if __name__ == "__main__":
    pool.main()
