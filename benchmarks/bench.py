"""What all benchmarks share: the number of runs, a folder, the bare process, and a stack."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from benchmarks import stack, tables
from benchmarks.bare import Bare


class Bench:
    """The bench that the benchmarks of a run use, one after another."""

    def __init__(self, n_runs: int, folder: Path, bare: Bare) -> None:
        self.n_runs = n_runs
        self.folder = folder
        self.bare = bare
        self._held = ExitStack()
        self._stack: stack.Stack | None = None

    def stack(self) -> stack.Stack:
        """Return the stack that benchmarks share; start it if none runs."""
        if self._stack is None:
            self._stack = self._held.enter_context(stack.running())
        return self._stack

    def stop_stack(self) -> None:
        """Stop the shared stack: before a benchmark starts its own, or after a failure."""
        self._stack = None
        self._held.close()

    def tables(self, n_rows: int, n_test: int, n_columns: int) -> tables.Tables:
        """Return training and test tables of `n_rows` and `n_test` rows by `n_columns`."""
        return tables.made(self.folder, n_rows, n_test, n_columns)
