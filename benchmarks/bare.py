"""The bare equivalent: a process that has imported everything, is warm, and waits to be told what
to do.

A process of its own, so that the threads of the benchmark do not disturb it; it sleeps while the
service works.
"""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import Any

from benchmarks.stack import ROOT


class Bare:
    """The process; it is started when it is first asked, and ends with us."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Bare:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process:
            # It ends at the end of its input.
            self._process.communicate()

    def ask(self, work: str, **arguments: Any) -> Any:
        """Return what a function of `bare_work` returns for these arguments.

        Raises:
            RuntimeError: it failed; with its traceback.
        """
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([work, arguments], default=str) + "\n")
        process.stdin.flush()
        answer = json.loads(
            process.stdout.readline() or '{"error": "the bare process died"}'
        )
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["value"]

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "benchmarks.bare_work"]
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return self._process
