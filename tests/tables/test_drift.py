"""The population stability index: zero for the same rows, by hand on a small case, growing with a
shift."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from rowcast.tables import drift
from tests.support.markdown import rows_of, section_of

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=30_000)
COLUMNS: dict[str, np.ndarray] = {
    "normal": NORMAL,
    "skewed": np.exp(3 * NORMAL),
    "whole": RNG.integers(0, 5, 5_000).astype(float),
    "booleans": (RNG.random(5_000) < 0.97).astype(float),
    "with gaps": np.where(RNG.random(30_000) < 0.4, np.nan, NORMAL),
    "with infinities": np.array([-np.inf, *NORMAL[:100], np.inf]),
    "only infinities": np.array([-np.inf, np.inf]),
    "constant": np.ones(100),
    "nothing known": np.full(100, np.nan),
    "one value": np.array([3.0]),
}


def numbers(values: Any) -> dict[str, Any]:
    profile = drift.profile_numbers(np.asarray(values, dtype=np.float64))
    assert json.loads(json.dumps(profile, allow_nan=False)) == profile
    return profile


def index(profile: dict[str, Any], values: Any) -> float:
    found = drift.stability_index(profile, drift.count(profile, np.asarray(values)))
    assert found is not None
    return found


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS)
def test_same_numbers_have_not_drifted(values: np.ndarray) -> None:
    profile = numbers(values)
    assert index(profile, values) == pytest.approx(0, abs=1e-12)
    assert sum(profile["shares"]) + profile["share_missing"] == pytest.approx(1)
    assert profile["edges"] == sorted(set(profile["edges"]))
    assert len(profile["shares"]) == len(profile["edges"]) + 1 <= drift.MAX_BINS


def test_bins_hold_a_tenth_each() -> None:
    assert numbers(NORMAL)["shares"] == pytest.approx([0.1] * 10, abs=0.03)


def test_each_of_few_values_has_a_bin() -> None:
    profile = numbers([0, 0, 1, 5, np.nan])
    assert profile["edges"] == [1, 5]
    assert profile["shares"] == pytest.approx([0.4, 0.2, 0.2])
    assert profile["share_missing"] == pytest.approx(0.2)


def test_frequent_value_leaves_bins_to_the_others() -> None:
    profile = numbers(np.where(RNG.random(30_000) < 0.92, 0, np.abs(NORMAL)))
    assert profile["shares"][0] == pytest.approx(0.92, abs=0.01)
    assert profile["shares"][1:] == pytest.approx([0.08 / 9] * 9, abs=0.004)


@pytest.mark.parametrize(
    "column", [NORMAL, (NORMAL < 1.9).astype(float)], ids=["numbers", "booleans"]
)
def test_index_grows_with_the_shift(column: np.ndarray) -> None:
    profile = numbers(column)
    indices = [
        index(profile, np.where(RNG.random(30_000) < share, 0.0, column))
        for share in (0, 0.1, 0.3, 0.6)
    ]
    assert indices == sorted(indices)
    assert drift.verdict(indices[0]) == "stable"
    assert drift.verdict(indices[-1]) == "strong"


def test_new_sample_of_the_same_source_is_stable() -> None:
    assert drift.verdict(index(numbers(NORMAL), RNG.normal(size=2_000))) == "stable"


def test_missing_values_are_a_bin_of_their_own() -> None:
    profile = numbers(COLUMNS["constant"])
    found = index(profile, np.array([1.0] * 60 + [np.nan] * 40))
    least = 0.5 / 100
    assert found == pytest.approx(
        (1 - 0.6) * math.log(1 / 0.6) + (least - 0.4) * math.log(least / 0.4)
    )


def test_index_by_hand() -> None:
    profile = numbers([0, 0, 0, 1])
    assert index(profile, np.array([0.0, 1.0])) == pytest.approx(
        (0.75 - 0.5) * math.log(0.75 / 0.5) + (0.25 - 0.5) * math.log(0.25 / 0.5)
    )


@pytest.mark.parametrize(("n_rows", "least"), [(50, 0.01), (1_000_000, 0.0001)])
def test_empty_bin_counts_as_half_a_row_or_the_least_share(
    n_rows: int, least: float
) -> None:
    profile = {
        "kind": "numbers",
        "n_rows": n_rows,
        "edges": [1.0],
        "shares": [1.0, 0.0],
        "share_missing": 0.0,
    }
    found = drift.stability_index(profile, np.array([n_rows // 2, n_rows // 2, 0]))
    assert found == pytest.approx(
        0.5 * math.log(2) + (least - 0.5) * math.log(least / 0.5)
    )


def test_index_is_symmetric() -> None:
    old, new = NORMAL[:1_000], NORMAL[1_000:1_300] + 2
    profile = numbers(old)
    counts = drift.count(profile, new)
    *shares, missing = (counts / counts.sum()).tolist()
    turned = {**profile, "n_rows": 300, "shares": shares, "share_missing": missing}
    assert index(profile, new) == pytest.approx(index(turned, old))


def test_counts_of_batches_add_up() -> None:
    profile = numbers(COLUMNS["with gaps"])
    batches = np.array_split(COLUMNS["with gaps"] * 2, 7)
    counts = [drift.count(profile, batch) for batch in batches]
    total = np.sum(counts, axis=0)
    assert np.array_equal(total, drift.count(profile, COLUMNS["with gaps"] * 2))
    assert total.sum() == 30_000


def test_bins_contain_their_lower_edge() -> None:
    profile = numbers([0, 1, 2])
    counts = drift.count(profile, np.array([-5, 0.9, 1, 1.9, 2, 1e9, np.inf, np.nan]))
    assert counts.tolist() == [2, 2, 3, 1]


def test_same_categories_have_not_drifted() -> None:
    codes = RNG.integers(-1, 3, 1_000)
    profile = drift.profile_categories(codes, ["a", "b", "c"])
    assert json.loads(json.dumps(profile)) == profile
    assert index(profile, codes) == pytest.approx(0, abs=1e-12)
    assert profile["categories"] == ["a", "b", "c"]
    assert sum(profile["shares"]) + profile["share_missing"] == pytest.approx(1)
    assert profile["share_others"] == 0


def test_unseen_and_missing_categories_are_bins_of_their_own() -> None:
    profile = drift.profile_categories(np.array([0, 0, 1, 1]), ["a", "b"])
    assert drift.count(profile, np.array([0, 1, -1, 2, 2, 99])).tolist() == [
        1,
        1,
        0,
        3,
        1,
    ]
    unseen, missing = (
        index(profile, np.array([0, 1, 2, 2])),
        index(profile, np.array([0, 1, -1, -1])),
    )
    assert unseen == pytest.approx(missing)
    assert drift.verdict(unseen) == "strong"


def test_rare_categories_share_a_bin() -> None:
    codes = np.repeat(np.arange(30), np.arange(30, 0, -1))
    profile = drift.profile_categories(codes, [f"c{i}" for i in range(30)])
    assert profile["codes"] == list(range(20))
    assert profile["share_others"] == pytest.approx(sum(range(1, 11)) / len(codes))
    assert index(profile, codes) == pytest.approx(0, abs=1e-12)
    # Among the rare ones it makes no difference which.
    assert index(profile, np.where(codes >= 20, 29, codes)) == pytest.approx(
        0, abs=1e-12
    )


@pytest.mark.parametrize("n_trained", [0, 3])
def test_no_rows_have_no_index(n_trained: int) -> None:
    profile = numbers(np.zeros(n_trained))
    assert (
        drift.stability_index(profile, drift.count(profile, np.zeros(3 - n_trained)))
        is None
    )
    assert drift.verdict(None) is None
    empty = drift.profile_categories(np.zeros(n_trained, dtype=int), ["a"])
    assert (
        drift.stability_index(
            empty, drift.count(empty, np.zeros(3 - n_trained, dtype=int))
        )
        is None
    )


def test_documented_verdicts_are_the_verdicts() -> None:
    documented = [
        row[1].strip("`")
        for row in rows_of(section_of("models.md", "Drift"), "index", "verdict")
    ]
    assert [drift.verdict(value) for value in (0.09, 0.1, 0.25, 0.26)] == [
        documented[i] for i in (0, 1, 1, 2)
    ]


def test_index_by_chance_is_the_mean_over_many_samples() -> None:
    rng = np.random.default_rng(0)
    found: list[Any] = []
    expected: list[Any] = []
    for _ in range(400):
        profile = numbers(rng.normal(size=1_000))
        counts = drift.count(profile, rng.normal(size=300))
        found.append(drift.stability_index(profile, counts))
        expected.append(drift.chance_index(profile, counts))
    assert np.mean(found) == pytest.approx(np.mean(expected), rel=0.1)
    assert expected[0] == pytest.approx(9 * (1 / 1_000 + 1 / 300))


def test_bins_have_labels_and_shares_of_both_sides() -> None:
    profile = numbers([0, 0, 1, 5, np.nan])
    found = drift.bins(profile, drift.count(profile, np.array([1.0, 7.0])))
    assert found == [
        {"label": "below 1", "trained": 0.4, "new": 0.0},
        {"label": "1 to below 5", "trained": 0.2, "new": 0.5},
        {"label": "from 5", "trained": 0.2, "new": 0.5},
        {"label": "missing", "trained": 0.2, "new": 0.0},
    ]
    words = drift.profile_categories(np.array([0, 0, 1, -1]), ["a", "b"])
    labels = [each["label"] for each in drift.bins(words, np.array([1, 1, 0, 1, 1]))]
    assert labels == ["a", "b", "others", "unseen", "missing"]


def column(name: str, found: float | None, by_chance: float = 0.0) -> dict[str, Any]:
    return {"name": name, "stability_index": found, "chance_index": by_chance}


IMPORTANCES = {
    "features": [
        {"name": "a", "mean": 0.9},
        {"name": "b", "mean": 0.1},
        {"name": "c", "mean": -0.2},
        {"name": "d", "mean": None},
    ]
}


@pytest.mark.parametrize(
    ("columns", "importances", "verdict", "words"),
    [
        ([column("a", 2.0), column("b", 0.0)], IMPORTANCES, "strong", "'a': the model"),
        ([column("a", 0.0), column("b", 1.5)], IMPORTANCES, "some", "most in 'b'."),
        (
            [column("a", 0.0), column("c", 9.0), column("d", 9.0)],
            IMPORTANCES,
            "stable",
            "look like the training rows",
        ),
        ([column("a", 0.4, 0.4)], IMPORTANCES, "stable", "too few to be sure"),
        ([column("a", 0.0), column("b", 1.5)], None, "strong", "most in 'b'"),
    ],
    ids=["important", "less important", "not used", "by chance", "not weighed"],
)
def test_verdict_of_the_table_weighs_columns_by_their_importance(
    columns: list[dict[str, Any]],
    importances: dict[str, Any] | None,
    verdict: str,
    words: str,
) -> None:
    found = drift.of_table(columns, importances)
    assert found["verdict"] == verdict
    assert found["is_weighed"] is (importances is not None)
    assert words in found["summary"]


def test_table_without_rows_has_no_verdict() -> None:
    assert drift.of_table([column("a", None)], IMPORTANCES)["verdict"] is None
