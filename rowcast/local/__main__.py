"""`python -m rowcast.local`: the whole stack on one machine, until Ctrl-C."""

from __future__ import annotations

import sys

from rowcast.local.stack import main

if __name__ == "__main__":
    sys.exit(main())
