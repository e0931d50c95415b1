"""Effects: what the prediction does along a feature, in the user's values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rowcast.learning.explanations import effects
from tests.learning.fits import COLUMNS, N_ROWS, days, table_of, trained

RNG = np.random.default_rng(0)
ONE, TWO = RNG.normal(size=(2, N_ROWS))


def effects_of(table: pa.Table, learner: str = "linear", **how: Any) -> Any:
    found, _ = trained(table, learner, validation="holdout", **how)
    assert found.effects is not None
    return found.effects, found


def by_name(found: Any) -> dict[str, Any]:
    return {each["name"]: each for each in found["features"]}


def test_effect_of_a_correlated_number_is_its_own() -> None:
    near = ONE + TWO / 100
    table = pa.table({"one": ONE, "near": near, "y": 3 * ONE - near})
    found, fit = effects_of(table, params={"alpha": 1e-9})
    for name, slope in (("one", 3), ("near", -1)):
        effect = by_name(found)[name]
        values, (predicted,) = np.array(effect["values"]), effect["predictions"]
        assert effect["method"] == "accumulated_local_effects"
        np.testing.assert_allclose(
            np.diff(predicted) / np.diff(values), slope, rtol=0.02
        )
        assert set(values) <= set(table[name].to_pylist())
        shares = np.array(effect["shares"])
        assert sum(shares) + effect["share_others"] == pytest.approx(1, abs=1e-4)
    assert found["mean"][0] == pytest.approx(fit.model.predict(fit_frame(table)).mean())


def fit_frame(table: pa.Table) -> Any:
    return table.drop_columns(["y"]).to_pandas()


def test_effects_are_in_the_values_that_people_write() -> None:
    y = np.where(np.arange(N_ROWS) % 3 == 0, 5.0, 1.0)
    is_five = pa.array((y == 5).tolist())
    table = pa.table(
        {
            "flag": is_five,
            "word": pa.array(np.where(y == 5, "up", "down")),
            "day": pa.array([f"{day:%d.%m.%Y}" for day in days().to_pylist()]),
            "count": (y * 2).astype(int) + np.arange(N_ROWS) % 2,
            "wait": pa.array((y * 60).astype(int), pa.duration("s")),
            "text": COLUMNS["sentences"],
            "y": y + 0.01 * ONE,
        }
    )
    found, _ = effects_of(table, "forest", importance_s=None)
    shown = by_name(found)
    assert {shown["flag"]["values"][0], shown["flag"]["values"][1]} == {True, False}
    assert sorted(shown["word"]["values"]) == ["down", "up"]
    assert shown["word"]["method"] == "partial_dependence"
    assert shown["count"]["values"] == [2, 3, 10, 11]
    assert shown["wait"]["values"] == [60, 300]
    for effect in (shown["flag"], shown["word"]):
        high = max(effect["values"])
        place = effect["values"].index(high)
        assert effect["predictions"][0][place] == max(effect["predictions"][0])
        assert effect["shares"][place] == pytest.approx(1 / 3, abs=0.05)


def test_dates_are_iso_and_text_is_left_out_with_the_reason() -> None:
    found, _ = effects_of(table_of("dates", "sentences"))
    shown = by_name(found)
    assert all(len(value) == 10 for value in shown["dates"]["values"])
    assert shown["dates"]["values"] == sorted(shown["dates"]["values"])
    assert "text" in shown["sentences"]["left_out"]


def test_missing_categories_have_an_effect_of_their_own() -> None:
    found, _ = effects_of(table_of("words"))
    effect = by_name(found)["words"]
    assert sorted(map(str, effect["values"])) == ["None", "down", "up"]
    sums = np.sum(effect["predictions"], axis=0)
    np.testing.assert_allclose(sums, 1, atol=1e-4)


def test_probabilities_of_local_effects_stay_probabilities() -> None:
    y = np.where(ONE + np.sign(TWO) > 0, "yes", "no")
    table = pa.table({"one": ONE, "two": TWO, "y": pa.array(y.tolist())})
    found, _ = effects_of(table, "forest")
    for effect in found["features"]:
        predicted = np.array(effect["predictions"])
        assert ((predicted >= 0) & (predicted <= 1)).all()
        np.testing.assert_allclose(predicted.sum(axis=0), 1, atol=1e-4)


def test_many_classes_and_columns_stay_within_bounds() -> None:
    y = np.arange(600) % 12
    names = [f"a long name of a column, number {place}" for place in range(12)]
    columns = {name: y + RNG.normal(size=600) / 2 for name in names}
    found, fit = effects_of(pa.table({**columns, "y": y}), task="classification")
    assert len(found["features"]) == effects.MAX_FEATURES
    assert len(found["classes"]) == len(found["mean"]) == effects.MAX_CLASSES
    assert len(json.dumps(found)) < 25_000
    again, _ = effects_of(pa.table({**columns, "y": y}), task="classification")
    assert again == found
    ranked = [each["name"] for each in fit.importances["features"]]
    assert [each["name"] for each in found["features"]] == ranked[:8]


def test_a_slow_model_gets_effects_of_fewer_rows() -> None:
    table = pa.table({"one": ONE, "y": ONE + TWO / 10})
    found, _ = trained(table, "linear")
    rows = {
        budget_s: effects.effects(
            found.model,
            fit_frame(table),
            found.features,
            ["one"],
            None,
            seed=0,
            budget_s=budget_s,
        )["n_rows"]
        for budget_s in (1.0, 1e-9)
    }
    assert rows == {1.0: N_ROWS, 1e-9: effects.MIN_ROWS}


def test_without_importances_there_are_no_effects() -> None:
    assert trained(table_of("numbers"))[0].effects is None
