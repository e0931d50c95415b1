"""Ten tables as raw files: six real ones, and four synthetic look-alikes of known tables.

The real tables come with scikit-learn's package, so nothing is downloaded.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import sklearn.datasets

from benchmarks import look_alikes


@dataclass(frozen=True)
class Dataset:
    """A table as a file; `form` says what is special about the file."""

    name: str
    file: str
    target: str
    origin: str
    form: str
    write: Callable[[Path], object]

    def write_to(self, folder: Path) -> Path:
        """Write the file into a folder and return its path."""
        path = folder / self.file
        self.write(path)
        return path


def _shipped(path: str) -> Path:
    """Return a file of scikit-learn's package by its path below `sklearn/datasets`."""
    spec = importlib.util.find_spec("sklearn.datasets")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / path


def read_arff(path: Path, quote: str = '"') -> pd.DataFrame:
    """Return a dense ARFF file as a frame; `?` is a missing value."""
    text = gzip.decompress(path.read_bytes()).decode()
    without_comments = re.sub(r"(?m)^%.*\n", "", text)
    head, body = re.split(r"(?mi)^@data\s+", without_comments)
    names = re.findall(r"(?mi)^@attribute\s+'?([^'\s]+)", head)
    return pd.read_csv(
        io.StringIO(body),
        names=names,
        quotechar=quote,
        na_values="?",
        skipinitialspace=True,
    )


def _titanic(path: Path) -> None:
    passengers = read_arff(_shipped(f"{_OPENML}/id_40945/data-v1-dl-16826755.arff.gz"))
    # The lifeboat and the number of the body show who survived.
    passengers.drop(columns=["boat", "body"]).to_csv(path, index=False)


def _penguins(path: Path) -> None:
    source = _shipped(f"{_OPENML}/id_42585/data-v1-dl-21854866.arff.gz")
    read_arff(source).to_feather(path)


def _chess(path: Path) -> None:
    source = _shipped(f"{_OPENML}/id_3/data-v1-dl-3.arff.gz")
    games = read_arff(source, quote="'")
    games.to_json(path, orient="records", lines=True)


def _breast_cancer(path: Path) -> None:
    loaded = sklearn.datasets.load_breast_cancer(as_frame=True)
    diagnosis = loaded.target.map(dict(enumerate(loaded.target_names)))
    loaded.data.assign(diagnosis=diagnosis).to_parquet(path, index=False)


def _digits(path: Path) -> None:
    shutil.copyfile(_shipped("data/digits.csv.gz"), path)


def _diabetes(path: Path) -> None:
    loaded = sklearn.datasets.load_diabetes(as_frame=True, scaled=False)
    loaded.frame.to_csv(path, sep="|", index=False)


def _houses(path: Path) -> None:
    look_alikes.house_prices().to_parquet(path, index=False)


def _bikes(path: Path) -> None:
    # pandas would need another package for Zstandard.
    with pa.output_stream(path, compression="zstd") as file:
        look_alikes.bike_sharing().to_csv(file, index=False)


def _credit(path: Path) -> None:
    look_alikes.german_credit().to_csv(
        path, sep=";", decimal=",", encoding="cp1252", index=False
    )


def _salaries(path: Path) -> None:
    # A constant time in the file makes it the same in every run.
    compression = {"method": "gzip", "mtime": 1}
    look_alikes.employee_salaries().to_json(
        path, orient="records", lines=True, compression=compression
    )


_OPENML = "tests/data/openml"
DATASETS = (
    Dataset(
        "titanic",
        "titanic.csv",
        "survived",
        "scikit-learn, `tests/data/openml/id_40945`, without lifeboat and body",
        "CSV with quoted text",
        _titanic,
    ),
    Dataset(
        "penguins",
        "penguins.feather",
        "species",
        "scikit-learn, `tests/data/openml/id_42585`",
        "Arrow (Feather)",
        _penguins,
    ),
    Dataset(
        "chess endgames",
        "chess.jsonl",
        "class",
        "scikit-learn, `tests/data/openml/id_3` (kr-vs-kp)",
        "JSON Lines",
        _chess,
    ),
    Dataset(
        "breast cancer",
        "breast_cancer.parquet",
        "diagnosis",
        "scikit-learn, `data/breast_cancer.csv`",
        "Parquet",
        _breast_cancer,
    ),
    Dataset(
        "digits",
        "digits.csv.gz",
        "column_65",
        "scikit-learn, `data/digits.csv.gz`, byte for byte",
        "CSV, gzip, no header",
        _digits,
    ),
    Dataset(
        "diabetes",
        "diabetes.txt",
        "target",
        "scikit-learn, `data/diabetes_data_raw.csv.gz` with `data/diabetes_target.csv.gz`",
        "CSV delimited by bars",
        _diabetes,
    ),
    Dataset(
        "house prices",
        "houses.parquet",
        "SalePrice",
        "made like the Ames housing data",
        "Parquet with categories and nullable integers",
        _houses,
    ),
    Dataset(
        "bike sharing",
        "bikes.csv.zst",
        "count",
        "made like the bike sharing data of Washington",
        "CSV, Zstandard, times as text",
        _bikes,
    ),
    Dataset(
        "employee salaries",
        "salaries.jsonl.gz",
        "current_annual_salary",
        "made like the salaries of Montgomery County",
        "JSON Lines, gzip, dates as 12/31/2016",
        _salaries,
    ),
    Dataset(
        "German credit",
        "kredite.csv",
        "Rückzahlung",
        "made like the German credit data",
        "CSV with semicolons, decimal commas, cp1252, dates as 31.12.2016",
        _credit,
    ),
)
