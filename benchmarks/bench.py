"""What a benchmark works with: the number of runs, a folder, the bare process, and a stack."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from benchmarks import stack, tables
from benchmarks.bare import Bare


class Bench:
    """Shared by all benchmarks of a run, which come one after the other."""

    def __init__(self, n_runs: int, folder: Path, bare: Bare) -> None:
        self.n_runs, self.folder, self.bare = n_runs, folder, bare
        self._held = ExitStack()
        self._stack: stack.Stack | None = None

    def stack(self) -> stack.Stack:
        """Return a stack that benchmarks share, started for the first of them."""
        if self._stack is None:
            self._stack = self._held.enter_context(stack.running())
        return self._stack

    def stop_stack(self) -> None:
        """Stop that stack: for a benchmark with stacks of its own, or after one that failed on
        it."""
        self._stack = None
        self._held.close()

    def tables(self, n_rows: int, n_test: int, n_columns: int) -> tables.Tables:
        """Return tables of a shape."""
        return tables.made(self.folder, n_rows, n_test, n_columns)
