"""Ten tables from raw file to scores, given only the target's name, and the page about them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sklearn.datasets

from benchmarks import look_alikes
from benchmarks.datasets import DATASETS, Dataset
from benchmarks.quality import READ, Row
from tests.support.markdown import rows_of, text_of
from tests.support.stack import Stack

NAMES = [dataset.name for dataset in DATASETS]
IDENTIFIER = "an identifier with a different value in every row"
CONSTANT = "the same value in every row"
PRIMARY = {"classification": "log_loss", "regression": "rmse"}

# fmt: off
CHESS = [
    "bkblk", "bknwy", "bkon8", "bkona", "bkspr", "bkxbq", "bkxcr", "bkxwp", "blxwp",
    "bxqsq", "cntxt", "dsopp", "dwipd", "hdchk", "katri", "mulch", "qxmsq", "r2ar8",
    "reskd", "reskr", "rimmx", "rkxwp", "rxmsq", "simpl", "skach", "skewr", "skrxp",
    "spcop", "stlmt", "thrsk", "wkcti", "wkna8", "wknck", "wkovl", "wkpos", "wtoeg",
]
# fmt: on

# The columns of each kind, and last those that are left out.
EXPECTED: dict[str, dict[str, list[str]]] = {
    "titanic": {
        "numeric": ["pclass", "age", "sibsp", "parch", "fare"],
        "category": ["sex", "embarked"],
        "text": ["name", "ticket", "cabin", "home.dest"],
    },
    "penguins": {
        "numeric": [
            "culmen_length_mm",
            "culmen_depth_mm",
            "flipper_length_mm",
            "body_mass_g",
        ],
        "category": ["island", "sex"],
    },
    "chess endgames": {"category": CHESS},
    "breast cancer": {
        "numeric": list(sklearn.datasets.load_breast_cancer().feature_names)
    },
    "digits": {
        "numeric": [
            f"column_{place}" for place in range(1, 65) if place not in (1, 33, 40)
        ],
        CONSTANT: ["column_1", "column_33", "column_40"],
    },
    "diabetes": {
        "numeric": ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
    },
    "house prices": {
        "numeric": [
            "Lot Area",
            "Overall Qual",
            "Year Built",
            "Gr Liv Area",
            "Garage Cars",
            "Mo Sold",
            "Yr Sold",
            "Lot Frontage",
        ],
        "category": [
            "Neighborhood",
            "MS Zoning",
            "House Style",
            "Central Air",
            "Kitchen Qual",
            "Fireplace Qu",
            "Garage Type",
        ],
        IDENTIFIER: ["Order"],
    },
    "bike sharing": {
        "numeric": ["temp", "humidity", "windspeed"],
        "boolean": ["holiday", "workingday"],
        "category": ["season", "weather"],
        "datetime": ["datetime"],
    },
    "employee salaries": {
        "category": ["gender", "department", "assignment_category"],
        "text": ["division", "employee_position_title", "underfilled_job_title"],
        "datetime": ["date_first_hired"],
    },
    "German credit": {
        "numeric": ["Laufzeit in Monaten", "Kredithöhe", "Zinssatz"],
        "category": ["Girokonto", "Sparguthaben", "Beschäftigt seit", "Telefon"],
        "text": ["Verwendungszweck"],
        "datetime": ["Antragsdatum", "Geburtsdatum"],
        IDENTIFIER: ["Kundennummer"],
    },
}
MADE = {
    "house prices": look_alikes.house_prices,
    "bike sharing": look_alikes.bike_sharing,
    "employee salaries": look_alikes.employee_salaries,
    "German credit": look_alikes.german_credit,
}


@dataclass(frozen=True)
class Fitted:
    dataset: Dataset
    path: Path
    manifest: dict[str, Any]


@pytest.fixture(scope="module", params=DATASETS, ids=NAMES)
def fitted(
    request: pytest.FixtureRequest,
    stack: Stack,
    tmp_path_factory: pytest.TempPathFactory,
) -> Fitted:
    """Return a data set with the manifest of a model that was given only the target."""
    dataset: Dataset = request.param
    path = dataset.write_to(tmp_path_factory.mktemp("raw"))
    model_id = stack.fitted(path.read_bytes(), target=dataset.target)
    return Fitted(dataset, path, stack.get(f"/models/{model_id}").json())


def test_model_beats_its_baseline(fitted: Fitted) -> None:
    validation, measure = (
        fitted.manifest["validation"],
        PRIMARY[fitted.manifest["task"]],
    )
    assert validation["scores"][measure] < validation["baseline"][measure]


def test_kinds_found_are_those_of_the_table(fitted: Fitted) -> None:
    found: dict[str, set[str]] = {}
    for column in fitted.manifest["columns"]:
        found.setdefault(column["left_out"] or column["kind"], set()).add(
            column["name"]
        )
    assert found == {
        kind: set(names) for kind, names in EXPECTED[fitted.dataset.name].items()
    }


def test_every_column_is_the_target_or_used_or_left_out_with_a_reason(
    fitted: Fitted,
) -> None:
    columns = {column["name"]: column for column in fitted.manifest["columns"]}
    by_hand = READ[fitted.dataset.name](fitted.path).columns
    left_out = {name for name, column in columns.items() if column["left_out"]}
    assert set(by_hand) <= {fitted.dataset.target, *columns}
    assert {feature["name"] for feature in fitted.manifest["features"]} == set(
        columns
    ) - left_out
    assert all(
        bool(column["preparation"]) != bool(column["left_out"])
        for column in columns.values()
    )


def test_shares_missing_are_those_that_pandas_finds(fitted: Fitted) -> None:
    by_hand = (
        READ[fitted.dataset.name](fitted.path)
        .drop(columns=fitted.dataset.target)
        .isna()
        .mean()
    )
    found = {
        column["name"]: column["share_missing"] for column in fitted.manifest["columns"]
    }
    assert {name: found[name] for name in by_hand.index} == pytest.approx(
        by_hand.to_dict(), abs=1e-6
    )


@pytest.mark.parametrize("name", MADE)
def test_made_table_is_the_same_each_time(name: str) -> None:
    pd.testing.assert_frame_equal(MADE[name](), MADE[name]())


@pytest.mark.parametrize("name", MADE)
def test_made_table_has_columns_with_3_to_40_percent_missing(name: str) -> None:
    missing = MADE[name]().isna().mean()
    assert missing.between(0.025, 0.42).sum() >= 3
    assert missing.max() < 0.42


def test_page_says_where_each_file_comes_from() -> None:
    header = ("data set", "comes from", "file", "rows", "columns", "target")
    rows = {row[0]: row for row in rows_of(text_of("quality.md"), *header)}
    assert {name: row[1:3] for name, row in rows.items()} == {
        dataset.name: [dataset.origin, dataset.form] for dataset in DATASETS
    }
    real = set(NAMES) - set(MADE)
    assert len(real) >= 5
    shipped = Path(sklearn.datasets.__file__).parent
    for name in real:
        paths = re.findall(r"`(.*?)`", rows[name][1])
        assert paths
        assert all((shipped / path).exists() for path in paths), name


def test_page_has_results_of_each_table_and_none_that_is_worse() -> None:
    header = (
        "data set",
        "held back",
        "measure",
        "Rowcast",
        "by hand",
        "baseline",
        "Rowcast is",
    )
    rows = rows_of(text_of("quality.md"), *header)
    assert [row[0] for row in rows] == [name for name in NAMES for _ in range(2)]
    for name, _, measure, service, _, baseline, verdict in rows:
        ours, theirs = (
            float(text.split()[0].replace(",", "")) for text in (service, baseline)
        )
        assert (ours > theirs) if measure in ("accuracy", "R2") else (ours < theirs), (
            name,
            measure,
        )
        assert verdict in ("equal", "better"), (name, measure)


@pytest.mark.parametrize(
    ("measure", "service", "hand", "verdict"),
    [
        ("accuracy", (0.80, 0.80), (0.805, 0.805), "equal"),
        ("accuracy", (0.80, 0.80), (0.85, 0.85), "worse"),
        ("accuracy", (0.85, 0.85), (0.80, 0.80), "better"),
        ("accuracy", (0.80, 0.90), (0.90, 0.89), "equal"),
        ("rmse", (10.0, 10.0), (10.5, 10.5), "equal"),
        ("rmse", (12.0, 12.0), (10.0, 10.0), "worse"),
        ("rmse", (10.0, 10.0), (12.0, 12.0), "better"),
    ],
)
def test_verdict_allows_noise_and_a_hundredth_of_the_scale(
    measure: str, service: tuple[float, ...], hand: tuple[float, ...], verdict: str
) -> None:
    assert Row(measure, service, hand, baseline=100.0).verdict == verdict
