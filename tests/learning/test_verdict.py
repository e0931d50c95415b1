"""The verdict on a model, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rowcast.learning import verdict
from tests.learning.fits import trained


def noise(n_rows: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=n_rows)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (
            2.0,
            "no better than the baseline, which uses no column: its rmse is 100% higher",
        ),
        (0.995, "no better than"),
        (
            0.95,
            "hardly better than the baseline, which uses no column: its rmse is 5% lower",
        ),
        (0.7, "is better than"),
        (0.3, "much better than"),
    ],
)
def test_words_follow_from_the_share_of_the_baseline(loss: float, words: str) -> None:
    account = {"n_rows": 1_200, "scores": {"rmse": loss}, "baseline": {"rmse": 1.0}}
    found = verdict.of("regression", account, None)
    assert found is not None
    assert words in found
    assert found.endswith("on 1,200 rows that it has not seen.")


def test_verdict_on_few_rows_of_noise() -> None:
    table = pa.table({"x": noise(30), "y": np.arange(30) % 2})
    found, _ = trained(table, "auto", validation="auto")
    assert found.verdict is not None
    assert "no better than the baseline" in found.verdict
    assert found.verdict.endswith("They are too few to be sure.")


def test_column_that_tells_the_target_is_doubted() -> None:
    y = noise(400)
    table = pa.table({"x": noise(400)[::-1], "copy": 2 * y, "y": y})
    found, _ = trained(table, "linear", validation="auto")
    assert found.verdict is not None
    assert "does a column tell the target?" in found.verdict


def test_single_column_that_does_everything_is_named() -> None:
    y = noise(400)
    table = pa.table({"x": noise(400)[::-1], "copy": y + noise(800)[400:] / 4, "y": y})
    found, _ = trained(table, "linear", validation="auto")
    assert found.verdict is not None
    assert found.verdict.endswith("Almost all of it comes from one column, 'copy'.")


def test_model_that_was_not_validated_has_no_verdict() -> None:
    table = pa.table({"x": noise(50), "y": noise(50)})
    assert trained(table, "linear", validation="none")[0].verdict is None


def account_of(share: float, **members: object) -> dict[str, Any]:
    scores = {"scores": {"rmse": share}, "baseline": {"rmse": 1.0}, "n_rows": 600}
    return {**scores, **members}


def interval(low: float, high: float) -> dict[str, Any]:
    return {"share_of_baseline": {"low": low, "high": high}}


def test_verdict_says_how_sure_it_is() -> None:
    sure = account_of(0.7, uncertainty=interval(0.6, 0.8))
    found = verdict.of("regression", sure, None)
    assert found is not None
    assert "its rmse is 30% lower (95% interval: 20% lower to 40% lower)" in found
    unsure = account_of(0.97, uncertainty=interval(0.9, 1.04))
    found = verdict.of("regression", unsure, None)
    assert found is not None
    assert "(95% interval: 4% higher to 10% lower)" in found
    assert found.endswith("They leave open whether it is better at all.")


@pytest.mark.parametrize(
    ("account", "note"),
    [
        (account_of(1.2), "The model is no better than the baseline"),
        (
            account_of(0.95, uncertainty=interval(0.8, 1.1)),
            "It is not certain that the model is better than the baseline.",
        ),
        (
            account_of(0.5, n_distinct_predictions=1),
            "The model predicts the same value for all 600 judged rows.",
        ),
    ],
)
def test_doubtful_model_has_a_note(account: dict[str, Any], note: str) -> None:
    (found,) = verdict.notes("regression", account, noise(600))
    assert found.startswith(note)


def test_good_model_has_no_note() -> None:
    table = pa.table({"x": noise(200), "y": 2 * noise(200)})
    assert trained(table, "linear", validation="auto")[0].notes == []


def test_model_of_noise_says_that_it_is_no_better_than_the_baseline() -> None:
    y = np.random.default_rng(1).normal(size=100)
    table = pa.table({"x": noise(100), "y": y})
    found, _ = trained(table, "linear", validation="auto")
    assert any("baseline" in note for note in found.notes)


def test_model_that_predicts_one_class_says_so() -> None:
    table = pa.table({"x": noise(200), "y": np.arange(200) % 12 == 0})
    found, _ = trained(table, "linear", validation="auto")
    assert "The model predicts the same class for all 200 judged rows." in found.notes


def test_rare_classes_and_few_rows_are_noted() -> None:
    y = ["a"] * 20 + ["b"] * 9 + ["c"] * 2
    table = pa.table({"x": noise(31), "y": y})
    found, _ = trained(table, "linear", validation="none")
    assert found.notes == [
        "There are only 31 rows; below 50, all figures are unsure.",
        "Classes with fewer than 10 rows are hardly learned: 'b' (9), 'c' (2).",
    ]
