"""The online workers: they keep recently used models in memory, and predict small tables inside
the server's requests."""

from __future__ import annotations

import logging
import socket
import sys

import ml
from rowcast.config import ConfigurationError, Settings
from rowcast.observability import logs
from rowcast.online import pool, protocol
from rowcast.system import sandbox

log = logging.getLogger("rowcast.online")


def main() -> None:
    """Run the online workers until SIGTERM or Ctrl-C."""
    try:
        settings = _read_settings()
    except ConfigurationError as error:
        sys.exit(f"rowcast: {error}")
    logs.configure(settings, "online")
    listener = _listen(settings)
    log.info("starting %d online workers", settings.online_workers)
    sandbox.warn_if_missing()
    ml.warm_up()
    pool.run(settings, listener)


def _read_settings() -> Settings:
    settings = Settings.from_environment()
    if not settings.verify_keys:
        raise ConfigurationError(
            "VERIFY_KEYS: online workers verify models and need at least one key"
        )
    if not settings.online_workers:
        raise ConfigurationError("ONLINE_WORKERS: with 0 there is nothing to run")
    return settings


def _listen(settings: Settings) -> socket.socket:
    try:
        return protocol.listen(settings.online_socket)
    except OSError as error:
        sys.exit(f"rowcast: ONLINE_SOCKET: {error}")


if __name__ == "__main__":
    main()
