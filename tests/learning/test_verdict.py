"""The verdict on a model, in words."""

from __future__ import annotations

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
