"""What random rows hide where columns look like times or groups: the loss on other rows.

For a small table the chosen blend is fitted again without the last rows, or without each third
of the groups, and judged on them. The work is bounded by the size of the table, not by a clock.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from rowcast.errors import InvalidTable
from rowcast.learning import comparison, splitting, validation, verdict
from rowcast.learning.choice import BlendFitter, Choice
from rowcast.learning.fitting import Fitter, Rows
from rowcast.learning.progress import SILENT
from rowcast.tables import row_order

# The most rows, cells and classes of a table for which other rows are tried.
MAX_ROWS, MAX_CELLS, MAX_CLASSES = 2_500, 100_000, 10
N_FOLDS_OF_GROUPS = 3
_WORDS = {
    "time": ("The order of time by {!r} was ignored", "later rows", "time_column"),
    "group": ("The groups of {!r} were ignored", "rows of new groups", "group_column"),
}


def judge(
    fitter: Fitter,
    rows: Rows,
    made: Choice,
    suspects: Sequence[row_order.Suspect],
) -> list[dict[str, Any]]:
    """Return for each suspected column the loss on other rows, ready for JSON.

    `share_of_baseline` is the loss as a share of the baseline's, None where it was not measured.
    """
    n_classes = 0 if fitter.classes is None else len(fitter.classes)
    is_cheap = (
        len(rows) <= MAX_ROWS
        and rows.frame.size <= MAX_CELLS
        and n_classes <= MAX_CLASSES
    )
    found = []
    for suspect in suspects:
        share = None
        if is_cheap:
            share = _share_or_none(fitter, rows, made, suspect)
        found.append(
            {"what": suspect.what, "column": suspect.name, "share_of_baseline": share}
        )
    return found


def notes(account: Mapping[str, Any], share: float | None) -> Iterator[str]:
    """Yield a note for each suspected column; `share` is the loss's on random rows."""
    for each in account.get("ignored", ()):
        ignored, others, option = _WORDS[each["what"]]
        text = f"{ignored.format(each['column'])}: random rows judged the model."
        if share is not None and each["share_of_baseline"] is not None:
            text += (
                f" Its loss is {share:.0%} of the baseline's on these, and "
                f"{each['share_of_baseline']:.0%} on {others}."
            )
        yield f"{text} Name it as {option} if the model will predict {others}."


def _share_or_none(
    fitter: Fitter, rows: Rows, made: Choice, suspect: row_order.Suspect
) -> float | None:
    # The rows that are left may lack a class, or all values of a column.
    with suppress(*comparison.FAILURES, InvalidTable), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _share(fitter, rows, made, suspect)
    return None


def _share(
    fitter: Fitter, rows: Rows, made: Choice, suspect: row_order.Suspect
) -> float | None:
    fitter = replace(fitter, progress=SILENT)
    if suspect.what == "time":
        rows = replace(rows, times=suspect.values)
        splits = [splitting.split(fitter.plan, rows, validation.SPLIT_SHARE)]
    else:
        rows = replace(rows, groups=suspect.values)
        splits = list(splitting.folds(fitter.plan, rows, N_FOLDS_OF_GROUPS))
        others = [each for each in fitter.features if each.name != suspect.name]
        fitter = replace(fitter, features=others or fitter.features)
    predictions, baseline = [], []
    for kept, held in splits:
        learned = rows.take(kept)
        fitted = BlendFitter(fitter, made).fit(learned)
        prepared = fitted.prepare(rows.take(held).frame)
        predictions.append(fitted.predictions(prepared, fitter.classes))
        baseline.append(validation.predict_baseline(fitter, learned, len(held)))
    judged = rows.take(np.concatenate([held for _, held in splits]))
    account = validation.scored(
        fitter, judged, np.concatenate(predictions), np.concatenate(baseline)
    )
    return verdict.share_of_baseline(fitter.plan.task, account)
