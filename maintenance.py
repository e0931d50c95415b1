"""The maintenance process by itself: where it runs apart from the workers, they need no way out.

It recovers lost jobs, repairs the queue, sends webhooks and deletes old data. Without it, each
`worker.py` runs one beside its workers.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path

from rowcast.config import ConfigurationError, Settings
from rowcast.observability import logs
from rowcast.system import directories, forks
from rowcast.workers import maintenance

log = logging.getLogger("rowcast.maintenance")


def main() -> None:
    """Keep a maintenance process running until SIGTERM or Ctrl-C."""
    try:
        settings = Settings.from_environment()
        logs.configure(settings, "maintenance")
        directories.private(Path(settings.scratch_dir))
    except (ConfigurationError, OSError) as error:
        sys.exit(f"rowcast: {error}")
    log.info("starting maintenance")
    process = forks.Child("maintenance process", partial(maintenance.run, settings))
    forks.ForkSupervisor([process]).run()


if __name__ == "__main__":
    main()
