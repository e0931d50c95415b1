"""Which columns look like times or groups, and which do not."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rowcast.tables import training_table
from tests.support.tables import source_of

N_ROWS = 60
RANDOM = np.random.default_rng(0)
DAYS = [dt.date(2020, 1, 1) + dt.timedelta(days=day) for day in range(N_ROWS)]
YEARS = [1960 + row % 20 for row in range(N_ROWS)]
FIRMS = [f"firm {row // 20}" for row in range(N_ROWS)]


def suspects(**columns: Any) -> list[tuple[str, str]]:
    noise = RANDOM.normal(size=N_ROWS)
    table = pa.table({"x": noise, **columns, "y": noise[::-1]})
    found = training_table.read(source_of(table), "y").suspects
    return [(each.what, each.name) for each in found]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"day": DAYS}, [("time", "day")]),
        ({"day": DAYS[::-1]}, [("time", "day")]),
        ({"day": [str(day) for day in DAYS]}, [("time", "day")]),
        ({"Year": sorted(YEARS)}, [("time", "Year")]),
        ({"firm": FIRMS, "year": YEARS}, [("time", "year"), ("group", "firm")]),
        ({"subject": [row // 4 for row in range(60)]}, [("group", "subject")]),
        (
            {"patient_id": [f"p{row // 3}" for row in range(60)]},
            [("group", "patient_id")],
        ),
    ],
    ids=["dates", "latest first", "text", "years", "panel", "subjects", "ids"],
)
def test_column_looks_like_times_or_groups(
    columns: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert suspects(**columns) == expected


@pytest.mark.parametrize(
    "columns",
    [
        {"day": [DAYS[place] for place in RANDOM.permutation(N_ROWS)]},
        {"born": DAYS},
        {"year": [YEARS[place] for place in RANDOM.permutation(N_ROWS)]},
        {"year": [1 + row // 10 for row in range(N_ROWS)]},
        {"size": sorted(RANDOM.integers(0, 30, N_ROWS))},
        {"firm": FIRMS, "country": FIRMS[::-1]},
        {"id": list(range(N_ROWS))},
        {"customer": ["old", "new"] * 30},
        {"year": [1960] * 20 + [1961] * 20 + [1962] * 20, "quarter": [1, 2, 3, 4] * 15},
    ],
    ids=[
        *("shuffled dates", "births", "shuffled years", "not years", "sorted numbers"),
        *("categories", "an id in each row", "two customers", "few years"),
    ],
)
def test_column_of_a_plain_table_does_not(columns: dict[str, Any]) -> None:
    assert suspects(**columns) == []


@pytest.mark.parametrize("option", ["time_column", "group_column"])
def test_nothing_is_suspected_where_a_column_is_named(option: str) -> None:
    noise = RANDOM.normal(size=N_ROWS)
    table = pa.table({"x": noise, "firm": FIRMS, "year": YEARS, "y": noise[::-1]})
    how: dict[str, Any] = {option: "year"}
    assert training_table.read(source_of(table), "y", **how).suspects == []
