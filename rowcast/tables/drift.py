"""Whether new rows look like those that a model was trained on: the population stability index of a
feature.

A profile, which is ready for JSON, says how a feature's values spread over bins at training. New
values are counted in the same bins, batch after batch, into arrays that can be added. Numbers,
booleans, times (in seconds) and the lengths of texts are numbers; categories are positions in the
model's list of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

Verdict = Literal["stable", "some", "strong"]

MAX_BINS = 10
# The rarest beyond these share a bin: with many bins the index grows by chance alone.
MAX_CATEGORIES = 20
# Siddiqi, Credit Risk Scorecards, 2006. Yurdakul, Statistical Properties of Population Stability
# Index, 2018, shows that they ignore the number of rows: few rows alone raise the index, by (bins -
# 1) / rows on average.
SOME_DRIFT = 0.1
STRONG_DRIFT = 0.25
# An empty bin would make the index infinite. It counts as this, or as half a row where that is
# more.
LEAST_SHARE = 1e-4
# Sorting more values than this makes no better edges.
_MAX_SORTED = 5_000


def profile_numbers(values: np.ndarray) -> dict[str, Any]:
    """Return the profile of float64 values of shape (n_rows,), in which NaN is missing.

    The bins hold about equally many values: up to `edges[0]`, from there up to `edges[1]`, and so
    on, each without its upper edge. Up to ten different values have a bin each.
    """
    values = np.ascontiguousarray(values)
    known = values[~np.isnan(values)]
    if len(known) > _MAX_SORTED:
        known = known[np.random.default_rng(0).integers(0, len(known), _MAX_SORTED)]
    profile = {"kind": "numbers", "n_rows": len(values), "edges": _edges(known)}
    *shares, missing = _shares(count(profile, values)).tolist()
    return {**profile, "shares": shares, "share_missing": missing}


def profile_categories(codes: np.ndarray, categories: Sequence[Any]) -> dict[str, Any]:
    """Return the profile of positions in `categories`, shape (n_rows,), in which -1 is missing.

    The twenty most frequent categories have a bin each, named in `categories` and found by their
    positions in `codes`; `share_others` is that of the others together.
    """
    frequency = np.bincount(codes[codes >= 0], minlength=len(categories))
    kept = np.sort(np.argsort(-frequency, kind="stable")[:MAX_CATEGORIES])
    profile = {
        "kind": "categories",
        "n_rows": len(codes),
        "n_categories": len(categories),
        "codes": kept.tolist(),
        "categories": [categories[code] for code in kept],
    }
    *shares, others, _, missing = _shares(count(profile, codes)).tolist()
    return {
        **profile,
        "shares": shares,
        "share_others": others,
        "share_missing": missing,
    }


def count(profile: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    """Return how many values fall into each bin of a profile, int64. Counts of batches can be
    added.

    Numbers are float64, NaN is missing: n_bins + 1 counts, of which the last is of missing values.
    Categories are positions, -1 is missing and from `n_categories` on unseen: the counts end with
    those of the categories that share a bin, of unseen ones and of missing values.
    """
    return (
        _count_numbers(profile, values)
        if profile["kind"] == "numbers"
        else _count_codes(profile, values)
    )


def stability_index(profile: Mapping[str, Any], counts: np.ndarray) -> float | None:
    """Return the sum of (p - q) ln(p / q) over the bins' shares at training, p, and in new rows, q.

    Missing values are a bin, and so are unseen categories. A share is at least `LEAST_SHARE`, and
    at least half a row; bins that are empty on both sides count nothing. None when there are no
    rows on one side.
    """
    n_rows = int(counts.sum())
    if not n_rows or not profile["n_rows"]:
        return None
    trained, new = _trained(profile), _shares(counts)
    is_filled = (trained > 0) | (new > 0)
    p = np.maximum(trained[is_filled], max(LEAST_SHARE, 0.5 / profile["n_rows"]))
    q = np.maximum(new[is_filled], max(LEAST_SHARE, 0.5 / n_rows))
    return float(np.sum((p - q) * np.log(p / q)))


def verdict(index: float | None) -> Verdict | None:
    """Return what an index is taken for: `some` drift from 0.1 to 0.25, `strong` above."""
    if index is None:
        return None
    if index > STRONG_DRIFT:
        return "strong"
    return "stable" if index < SOME_DRIFT else "some"


def _edges(known: np.ndarray) -> list[float]:
    distinct, counts = np.unique(known, return_counts=True)
    starts = (
        range(1, len(distinct))
        if len(distinct) <= MAX_BINS
        else _starts(np.cumsum(counts))
    )
    return [float(distinct[i]) for i in starts if np.isfinite(distinct[i])]


def _starts(cumulative: np.ndarray) -> list[int]:
    """Return where the second and further bins begin among distinct values, given their running
    count.

    Plain quantiles would leave a column of mostly zeros with one bin. Here a bin ends where it is
    nearest to its part of the values that are left, so a frequent value takes its bin and the
    others share the rest.
    """
    starts: list[int] = []
    start, done = 0, 0
    for n_bins_left in range(MAX_BINS, 1, -1):
        wanted = done + (cumulative[-1] - done) / n_bins_left
        end = int(np.searchsorted(cumulative, wanted))
        is_nearer_without = (
            end > start and wanted - cumulative[end - 1] < cumulative[end] - wanted
        )
        start = end if is_nearer_without else end + 1
        if start >= len(cumulative):
            break
        starts.append(start)
        done = cumulative[start - 1]
    return starts


def _count_numbers(profile: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    # Ten passes of comparisons are faster than one of binary searches. NaN is in none of them.
    values = np.ascontiguousarray(values)
    n_missing = int(np.count_nonzero(np.isnan(values)))
    from_edge_on = [np.count_nonzero(values >= edge) for edge in profile["edges"]]
    reached = np.array([len(values) - n_missing, *from_edge_on, 0], dtype=np.int64)
    return np.append(reached[:-1] - reached[1:], n_missing)


def _count_codes(profile: Mapping[str, Any], codes: np.ndarray) -> np.ndarray:
    n_categories, kept = profile["n_categories"], profile["codes"]
    # Missing first, unseen last, however far beyond the list they are.
    counts = np.bincount(
        np.minimum(codes, n_categories) + 1, minlength=n_categories + 2
    )
    of_kept = counts[1:-1][kept]
    others = counts[1:-1].sum() - of_kept.sum()
    return np.concatenate([of_kept, [others, counts[-1], counts[0]]]).astype(np.int64)


def _shares(counts: np.ndarray) -> np.ndarray:
    shares: np.ndarray = counts / max(counts.sum(), 1)
    return shares


def _trained(profile: Mapping[str, Any]) -> np.ndarray:
    if profile["kind"] == "numbers":
        return np.array([*profile["shares"], profile["share_missing"]])
    # No category is unseen at training.
    return np.array(
        [*profile["shares"], profile["share_others"], 0.0, profile["share_missing"]]
    )
