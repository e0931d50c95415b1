"""How many iterations of a running fit are done, as far as scikit-learn shows it.

Neither boosting nor forests take a callback (scikit-learn 1.9.1), so a thread looks at what they
have made so far. That is private to them: where it is not there, nothing is told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rowcast.learning.progress import Progress

_INTERVAL_S = 0.25

Look = Callable[[], int]


@contextmanager
def watched(estimator: Any, progress: Progress) -> Iterator[None]:
    """Tell how many iterations a fit has done that runs within; the thread that looks ends with it.

    The thread computes nothing, so that the limits of OpenMP, which bind single threads, are kept.
    """
    total = getattr(estimator, "max_iter", None) or getattr(
        estimator, "n_estimators", None
    )
    if progress.is_silent or not isinstance(total, int):
        yield
        return
    with (
        _looking_at(estimator) as look,
        _thread(lambda: _tell(look() - 1, total, progress)),
    ):
        yield
    _tell(look(), total, progress)


@contextmanager
def _thread(work: Callable[[], None]) -> Iterator[None]:
    """Work four times a second in a thread of its own, which ends before this does, whatever is
    raised."""
    is_over = threading.Event()

    def repeat() -> None:
        while not is_over.wait(_INTERVAL_S):
            work()

    watcher = threading.Thread(target=repeat, name="iterations", daemon=True)
    try:
        watcher.start()
        yield
    finally:
        is_over.set()
        watcher.join()


def _tell(done: int, total: int, progress: Progress) -> None:
    if done > 0:
        progress.iterations(done, total)


@contextmanager
def _looking_at(estimator: Any) -> Iterator[Look]:
    """Give a function that returns how many iterations have begun, 0 where that cannot be seen."""
    if hasattr(estimator, "n_estimators") and hasattr(estimator, "_make_estimator"):
        with _trees_of(estimator) as trees:
            yield lambda: sum(hasattr(tree, "tree_") for tree in list(trees))
    else:
        yield lambda: _length(getattr(estimator, "_predictors", None))


@contextmanager
def _trees_of(forest: Any) -> Iterator[list[Any]]:
    """Give a list of the trees that a forest makes; each has `tree_` from the moment it begins to
    grow."""
    trees: list[Any] = []
    make = forest._make_estimator

    def make_and_note(*arguments: Any, **options: Any) -> Any:
        trees.append(make(*arguments, **options))
        return trees[-1]

    forest._make_estimator = make_and_note
    try:
        yield trees
    finally:
        # What is set on the instance would be pickled with the model.
        del forest._make_estimator


def _length(found: Any) -> int:
    return len(found) if isinstance(found, list) else 0
