"""Notes on an order of time, or groups, that random rows ignored."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tests.learning.fits import trained


def rising(n_rows: int = 120) -> pa.Table:
    """Return a table of days whose target rises with them, which trees cannot continue."""
    day = np.arange(n_rows)
    noise = np.random.default_rng(0).normal(size=n_rows)
    days = pa.array(day.astype("datetime64[D]"))
    return pa.table({"day": days, "x": noise, "y": day + noise})


def repeated(n_groups: int = 30) -> pa.Table:
    """Return a table with a level for each patient, which `height` tells apart."""
    random = np.random.default_rng(0)
    patient = np.repeat(np.arange(n_groups), 6)
    levels, heights = random.normal(size=(2, n_groups))
    return pa.table(
        {"patient": patient, "height": heights[patient], "y": levels[patient]}
    )


def test_note_shows_the_loss_on_random_rows_and_on_later_ones() -> None:
    found, _ = trained(rising(), "forest", validation="auto")
    (ignored,) = found.validation["ignored"]
    assert (ignored["what"], ignored["column"]) == ("time", "day")
    assert ignored["share_of_baseline"] > 0.2
    (note,) = found.notes
    share = f"{ignored['share_of_baseline']:.0%} on later rows. "
    assert note.startswith("The order of time by 'day' was ignored: random rows judged")
    assert (
        share + "Name it as time_column if the model will predict later rows." in note
    )
    assert found.verdict is not None
    assert "On later rows, by 'day', its loss is" in found.verdict


def test_note_shows_the_loss_on_new_groups() -> None:
    found, _ = trained(repeated(), "forest", validation="auto")
    (ignored,) = found.validation["ignored"]
    assert (ignored["what"], ignored["column"]) == ("group", "patient")
    assert ignored["share_of_baseline"] > 0.9
    assert any("The groups of 'patient' were ignored" in note for note in found.notes)


def test_loss_on_other_rows_is_that_of_the_option_that_the_note_names() -> None:
    found, _ = trained(rising(), "linear", validation="auto")
    named, _ = trained(rising(), "linear", time_column="day", validation="auto")
    share = found.validation["ignored"][0]["share_of_baseline"]
    value = named.validation["uncertainty"]["share_of_baseline"]["value"]
    assert share == value
    assert "ignored" not in named.validation


def test_large_table_is_noted_without_another_fit() -> None:
    found, _ = trained(rising(2_600), "linear", validation="auto", importance_s=0)
    assert found.validation["ignored"][0]["share_of_baseline"] is None
    assert found.notes == [
        "The order of time by 'day' was ignored: random rows judged the model. Name it as "
        "time_column if the model will predict later rows."
    ]


def test_class_that_comes_up_in_later_rows_does_not_stop_a_blend() -> None:
    random = np.random.default_rng(0)
    days = pa.array(np.arange(150).astype("datetime64[D]"))
    label = random.integers(1, 3, 150)
    x, z = label + random.normal(size=(2, 150)) / 2
    label[130:] = np.where(np.arange(20) % 2, 0, label[130:])
    table = pa.table({"day": days, "x": x, "z": z, "y": label.astype(str)})
    found, _ = trained(table, "auto", validation="auto")
    assert len(found.choice.chosen()) > 1
    (ignored,) = found.validation["ignored"]
    assert ignored["what"] == "time"
    assert 0 < ignored["share_of_baseline"] < 2
