"""The bare equivalent: a process that calls scikit-learn without the service.

It is separate, so that the threads of the benchmark do not disturb it. It has imported everything
and warmed up, and sleeps while the service works.
"""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import Any

from benchmarks.stack import ROOT


class Bare:
    """The bare process, which starts with the first request and ends with this object."""

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
            # The end of its input ends the process.
            self._process.communicate()

    def ask(self, work: str, **arguments: Any) -> Any:
        """Return what a function of `bare_work` returns for these arguments.

        Raises:
            RuntimeError: the function failed; the message is its traceback.
        """
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([work, arguments], default=str) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the bare process died")
        answer = json.loads(line)
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
