"""A verdict on a model in words: how much better than the baseline, how sure, and what to doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rowcast.learning.fitting import label_text
from rowcast.learning.learners import Task

# From this share of the baseline's loss on, nothing is gained.
_NO_BETTER = 0.99
# The words for a loss, by the largest share of the baseline's that they stand for.
_WORDS = (
    (0.5, "much better than"),
    (0.9, "better than"),
    (_NO_BETTER, "hardly better than"),
    (float("inf"), "no better than"),
)
# A model that is so good has usually been told the answer.
_TOO_GOOD = 0.01
# The share of all importance by which a single column does everything.
_DOES_ALL = 0.95
# With fewer judged rows, the next ones may show something else.
_FEW_ROWS = 50
# What is held back, in words.
_HELD_BACK = {
    "later rows": "later rows that it has not seen",
    "whole groups": "rows of groups that it has not seen",
}
# Columns that look like times or groups are doubted if the loss on other rows is higher by
# this share of the baseline's.
_MUCH_WORSE = 0.1
_OTHER_ROWS = {"time": "later rows", "group": "rows of new groups"}
# A class with fewer rows is hardly learned, and its figures are luck.
_RARE_ROWS = 10
_MAX_NAMES = 5
_LOSSES: Mapping[Task, str] = {"classification": "log_loss", "regression": "rmse"}


def of(
    task: Task, account: Mapping[str, Any], importances: Mapping[str, Any] | None
) -> str | None:
    """Return the verdict on a model, by its validation and importances; None without scores."""
    share = share_of_baseline(task, account)
    if share is None:
        return None
    doubts = _doubts(share, account, importances)
    return " ".join([_comparison(task, share, account), *doubts])


def notes(task: Task, account: Mapping[str, Any], target: np.ndarray) -> Iterator[str]:
    """Yield what makes a model with this validation, learned from this target (n_rows,), doubtful.

    No better than the baseline, or not for certain; the same prediction for every row; few rows;
    rare classes.
    """
    share, interval = share_of_baseline(task, account), _interval(account)
    if share is not None and share >= _NO_BETTER:
        yield "The model is no better than the baseline, which uses no column."
    elif share is not None and interval and interval[1] >= 1:
        yield "It is not certain that the model is better than the baseline."
    if account.get("n_distinct_predictions") == 1:
        what = "class" if task == "classification" else "value"
        yield f"The model predicts the same {what} for all {account['n_rows']:,} judged rows."
    if len(target) < _FEW_ROWS:
        yield f"There are only {len(target)} rows; below {_FEW_ROWS}, all figures are unsure."
    if task == "classification":
        yield from _rare_classes(target)


def _rare_classes(target: np.ndarray) -> Iterator[str]:
    import pandas as pd

    codes, labels = pd.factorize(target)
    counts = np.bincount(codes).tolist()
    rare = sorted(
        f"{label_text(label)!r} ({n_rows})"
        for label, n_rows in zip(labels.tolist(), counts, strict=True)
        if n_rows < _RARE_ROWS
    )
    if rare:
        more = f" and {len(rare) - _MAX_NAMES} more" if len(rare) > _MAX_NAMES else ""
        yield (
            f"Classes with fewer than {_RARE_ROWS} rows are hardly learned: "
            f"{', '.join(rare[:_MAX_NAMES])}{more}."
        )


def share_of_baseline(task: Task, account: Mapping[str, Any]) -> float | None:
    """Return the loss as a share of the baseline's, None where it is not defined."""
    loss = account.get("scores", {}).get(_LOSSES[task])
    baseline = account.get("baseline", {}).get(_LOSSES[task])
    return loss / baseline if loss is not None and baseline else None


def _comparison(task: Task, share: float, account: Mapping[str, Any]) -> str:
    words = next(words for most, words in _WORDS if share <= most)
    loss = _LOSSES[task].replace("_", " ")
    rows = _HELD_BACK.get(account.get("held_back", ""), "rows that it has not seen")
    interval = _interval(account)
    range_ = f" ({_percent(interval)})" if interval else ""
    return (
        f"The model is {words} the baseline, which uses no column: its {loss} is {_change(share)}"
        f"{range_}, on {account['n_rows']:,} {rows}."
    )


def _change(share: float) -> str:
    return f"{abs(1 - share):.0%} {'lower' if share <= 1 else 'higher'}"


def _interval(account: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the interval of the loss as a share of the baseline's, if it is known."""
    found = (account.get("uncertainty") or {}).get("share_of_baseline") or {}
    low, high = found.get("low"), found.get("high")
    return None if low is None or high is None else (low, high)


def _percent(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"95% interval: {_change(high)} to {_change(low)}"


def _doubts(
    share: float, account: Mapping[str, Any], importances: Mapping[str, Any] | None
) -> Iterator[str]:
    interval = _interval(account)
    if account["n_rows"] < _FEW_ROWS:
        yield "They are too few to be sure."
    elif share < _NO_BETTER and interval and interval[1] >= 1:
        yield "They leave open whether it is better at all."
    for each in account.get("ignored", ()):
        other = each["share_of_baseline"]
        if other is not None and other >= share + _MUCH_WORSE:
            rows = _OTHER_ROWS[each["what"]]
            yield f"On {rows}, by {each['column']!r}, its loss is {_change(other)}."
    if share < _TOO_GOOD:
        yield "That is almost without error: does a column tell the target?"
    elif share < 0.9 and (name := _only_column(importances)):
        yield f"Almost all of it comes from one column, {name!r}."


def _only_column(importances: Mapping[str, Any] | None) -> str | None:
    """Return the feature that has almost all of the importance, of several."""
    features = (importances or {}).get("features") or []
    means = [feature["mean"] for feature in features]
    if len(means) < 2 or None in means:
        return None
    total = sum(max(mean, 0.0) for mean in means)
    is_alone = total > 0 and means[0] >= _DOES_ALL * total
    return str(features[0]["name"]) if is_alone else None
