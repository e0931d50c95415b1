"""A store that belongs to no stack: it can be killed and stay away, and has a gate before it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from rowcast.config import Settings
from rowcast.errors import StoreUnavailable
from rowcast.local.data_folder import Keys, choose_ports
from rowcast.local.programs import Parts
from rowcast.store.object_store import Storage
from tests.faults.breaking import Gate
from tests.support.waiting import eventually


class ExternalStore:
    """An object store with a gate before it; use it in `with`."""

    def __init__(self, data: Path) -> None:
        """Choose its port; `settings` are those of a stack that uses it."""
        ports = choose_ports(0, data / "ports.json")
        keys = Keys.kept_in(data / "secrets.json")
        few = {
            name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ
        }
        program = Parts(data, keys, ports, None, few, None).store()
        assert program is not None
        self._program = program
        self.gate = Gate(ports.store)
        self.settings = {
            "S3_ENDPOINT": self.gate.url,
            "S3_ACCESS_KEY": keys.s3_access_key,
            "S3_SECRET_KEY": keys.s3_secret_key,
        }
        self._beside_the_gate = {
            **self.settings,
            "S3_ENDPOINT": f"http://127.0.0.1:{ports.store}",
        }

    def __enter__(self) -> ExternalStore:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.gate.close()
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        argv, env = self._program.argv, dict(self._program.env)
        self._process = subprocess.Popen(argv, env=env, cwd=self._program.cwd)
        eventually(self._answers)

    def kill(self) -> None:
        """Kill it, whatever it does."""
        self._process.kill()
        self._process.wait()

    @property
    def process(self) -> psutil.Process:
        """The process of the store."""
        return psutil.Process(self._process.pid)

    def storage(self) -> Storage:
        """Return a client of the store that bypasses the gate."""
        given: dict[str, Any] = {
            name.lower(): value for name, value in self._beside_the_gate.items()
        }
        return Storage(Settings(**given))

    def _answers(self) -> bool:
        try:
            self.storage().ensure_buckets()
        except StoreUnavailable:
            return False
        return True
