"""A verdict on a model in words: how much better than the baseline, how sure, and what to doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rowcast.learning.learners import Task

# The words for a loss, by the largest share of the baseline's that they stand for.
_WORDS = (
    (0.5, "much better than"),
    (0.9, "better than"),
    (0.99, "hardly better than"),
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


def share_of_baseline(task: Task, account: Mapping[str, Any]) -> float | None:
    """Return the loss as a share of the baseline's, None where it is not defined."""
    loss = account.get("scores", {}).get(_LOSSES[task])
    baseline = account.get("baseline", {}).get(_LOSSES[task])
    return loss / baseline if loss is not None and baseline else None


def _comparison(task: Task, share: float, account: Mapping[str, Any]) -> str:
    words = next(words for most, words in _WORDS if share <= most)
    loss = _LOSSES[task].replace("_", " ")
    rows = _HELD_BACK.get(account.get("held_back", ""), "rows that it has not seen")
    change = f"{abs(1 - share):.0%} {'lower' if share <= 1 else 'higher'}"
    return (
        f"The model is {words} the baseline, which uses no column: its {loss} is {change}, "
        f"on {account['n_rows']:,} {rows}."
    )


def _doubts(
    share: float, account: Mapping[str, Any], importances: Mapping[str, Any] | None
) -> Iterator[str]:
    if account["n_rows"] < _FEW_ROWS:
        yield "They are too few to be sure."
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
