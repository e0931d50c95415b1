"""Report the iterations of a running fit, as far as scikit-learn shows them.

Neither boosting nor forests support a callback (scikit-learn 1.9.1), so a thread counts what they
have made so far. That lies in private attributes: where they are missing, nothing is reported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rowcast.learning.progress import Progress

_INTERVAL_S = 0.25

# Returns how many iterations have begun.
Counter = Callable[[], int]


@contextmanager
def watched(estimator: Any, progress: Progress) -> Iterator[None]:
    """Report the iterations of a fit that runs within; the thread that counts ends with it.

    The thread computes nothing, so that the limits of OpenMP, which bind single threads, hold.
    """
    total = getattr(estimator, "max_iter", None)
    total = total or getattr(estimator, "n_estimators", None)
    if progress.is_silent or not isinstance(total, int):
        yield
        return

    with _counting(estimator) as count:
        # The last iteration that has begun is not done yet.
        with _repeated(lambda: _report(count() - 1, total, progress)):
            yield
        _report(count(), total, progress)


@contextmanager
def _repeated(work: Callable[[], None]) -> Iterator[None]:
    """Work four times a second in a thread that ends before this does, whatever is raised."""
    is_over = threading.Event()

    def repeat() -> None:
        while not is_over.wait(_INTERVAL_S):
            work()

    thread = threading.Thread(target=repeat, name="iterations", daemon=True)
    try:
        thread.start()
        yield
    finally:
        is_over.set()
        thread.join()


def _report(done: int, total: int, progress: Progress) -> None:
    if done > 0:
        progress.iterations(done, total)


@contextmanager
def _counting(estimator: Any) -> Iterator[Counter]:
    """Yield a function that counts the iterations that have begun, 0 where they do not show."""
    if hasattr(estimator, "n_estimators") and hasattr(estimator, "_make_estimator"):
        with _trees_of(estimator) as trees:
            yield lambda: sum(hasattr(tree, "tree_") for tree in list(trees))
    else:
        yield lambda: _length(getattr(estimator, "_predictors", None))


@contextmanager
def _trees_of(forest: Any) -> Iterator[list[Any]]:
    """Yield a list of the trees that a forest makes; `tree_` marks those that have begun."""
    trees: list[Any] = []
    make = forest._make_estimator

    def make_and_note(*arguments: Any, **options: Any) -> Any:
        trees.append(make(*arguments, **options))
        return trees[-1]

    forest._make_estimator = make_and_note
    try:
        yield trees
    finally:
        # An attribute of the instance would be pickled with the model.
        del forest._make_estimator


def _length(found: Any) -> int:
    return len(found) if isinstance(found, list) else 0
