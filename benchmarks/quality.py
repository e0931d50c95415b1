"""Ten tables from raw file to metrics: the service, given only the target, and scikit-learn by hand.

Prints the table and writes docs/quality.md, except its part about real tables (`learners.py`).
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import requests
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.metrics import accuracy_score, log_loss, r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from threadpoolctl import threadpool_limits

from benchmarks import learners_page, stack
from benchmarks.datasets import DATASETS, Dataset
from client import Client

DOCUMENT = stack.ROOT / "docs" / "quality.md"
SEEDS = range(5)
# Two means are equal if they differ by at most this many standard errors of the difference, or by
# this share of the scale.
N_ERRORS = 2
SHARE_OF_SCALE = 0.01
MEASURES = {"accuracy": "accuracy", "log_loss": "log loss", "r2": "R2", "rmse": "RMSE"}
HIGHER_IS_BETTER = {"accuracy", "r2"}


@dataclass(frozen=True)
class Row:
    """One measure of one data set, a figure for each seed; `baseline` is a mean."""

    measure: str
    service: Sequence[float]
    hand: Sequence[float]
    baseline: float

    @property
    def verdict(self) -> str:
        """Whether the service is `equal`, `better` or `worse`."""
        pairs = zip(self.service, self.hand, strict=True)
        differences = [ours - theirs for ours, theirs in pairs]
        mean = statistics.mean(differences)
        error = statistics.stdev(differences) / len(differences) ** 0.5
        scale = 1 if self.measure in HIGHER_IS_BETTER else self.baseline
        if abs(mean) <= max(N_ERRORS * error, SHARE_OF_SCALE * scale):
            return "equal"
        is_better = (mean > 0) == (self.measure in HIGHER_IS_BETTER)
        return "better" if is_better else "worse"


@dataclass(frozen=True)
class Outcome:
    """A data set, its shape (n_rows, n_columns), its validation, and its rows of the table."""

    dataset: Dataset
    shape: tuple[int, int]
    validation: dict[str, Any]
    rows: list[Row]


def main() -> None:
    """Measure all data sets, print their rows and write the page."""
    with (
        stack.running() as running,
        Client(running.url) as client,
        tempfile.TemporaryDirectory() as folder,
    ):
        outcomes = []
        for dataset in DATASETS:
            path = dataset.write_to(Path(folder))
            outcome = measure(client, running.url, dataset, path)
            outcomes.append(outcome)
            print("\n".join(_result_lines(outcome)), flush=True)
    _, heading, real = DOCUMENT.read_text().partition(learners_page.HEADING)
    DOCUMENT.write_text(document(outcomes) + heading + real)


def measure(client: Client, url: str, dataset: Dataset, path: Path) -> Outcome:
    """Fit a data set with the service and by hand, once for each seed."""
    target = dataset.target
    table = READ[dataset.name](path).dropna(subset=[target])
    uploaded = client.upload(path)
    manifests = [by_service(client, url, uploaded, target, seed) for seed in SEEDS]
    service = [manifest["validation"] for manifest in manifests]
    with threadpool_limits(1):
        # More threads would wait for each other, because the service runs on the same machine.
        hand = [by_hand(table, target, seed) for seed in SEEDS]

    rows = []
    for name in hand[0]:
        scores = [trial["scores"][name] for trial in service]
        scores_by_hand = [trial[name] for trial in hand]
        baseline = statistics.mean(trial["baseline"][name] for trial in service)
        rows.append(Row(name, scores, scores_by_hand, baseline))
    n_rows = manifests[0]["n_rows"] + manifests[0]["n_rows_left_out"]
    n_columns = len(manifests[0]["columns"]) + 1
    return Outcome(dataset, (n_rows, n_columns), service[0], rows)


def by_service(
    client: Client, url: str, dataset_id: str, target: str, seed: int
) -> dict[str, Any]:
    """Return the manifest of a model fitted with only the target and the seed; 0 is the default."""
    options = {"seed": seed} if seed else {}
    model_id = client.fit(dataset_id, timeout=None, target=target, **options)
    answer = requests.get(f"{url}/models/{model_id}", timeout=30)
    answer.raise_for_status()
    return dict(answer.json())


def by_hand(table: pd.DataFrame, target: str, seed: int) -> dict[str, float]:
    """Fit and score scikit-learn's boosting behind skrub's TableVectorizer."""
    x, y = table.drop(columns=target), table[target]
    is_regression = pd.api.types.is_numeric_dtype(y) and y.nunique() > 20
    share = 0.1 if len(table) >= 10_000 else 0.2
    classes = None if is_regression else y
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=share, random_state=seed, stratify=classes
    )
    if is_regression:
        learner = HistGradientBoostingRegressor(random_state=seed)
        score = _score_values
    else:
        learner = HistGradientBoostingClassifier(random_state=seed)
        score = _score_classes
    model = _vectorized(learner, seed).fit(x_train, y_train)
    return score(model, x_test, y_test)


def _vectorized(learner: Any, seed: int) -> Pipeline:
    """Return skrub's `tabular_pipeline` of a learner, with a seed for its text encoder."""
    from skrub import StringEncoder, TableVectorizer, ToCategorical

    vectorizer = TableVectorizer(
        low_cardinality=ToCategorical(),
        high_cardinality=StringEncoder(random_state=seed),
    )
    return make_pipeline(vectorizer, learner)


def _score_classes(model: Any, x: pd.DataFrame, y: pd.Series) -> dict[str, float]:
    loss = log_loss(y, model.predict_proba(x), labels=model.classes_)
    return {"accuracy": accuracy_score(y, model.predict(x)), "log_loss": loss}


def _score_values(model: Any, x: pd.DataFrame, y: pd.Series) -> dict[str, float]:
    predicted = model.predict(x)
    return {"r2": r2_score(y, predicted), "rmse": root_mean_squared_error(y, predicted)}


def _read_digits(path: Path) -> pd.DataFrame:
    names = [f"column_{place}" for place in range(1, 66)]
    return pd.read_csv(path, header=None, names=names)


def _read_bikes(path: Path) -> pd.DataFrame:
    with pa.input_stream(path, compression="zstd") as file:
        return pd.read_csv(file, parse_dates=["datetime"])


def _read_salaries(path: Path) -> pd.DataFrame:
    salaries = pd.read_json(path, lines=True)
    hired = pd.to_datetime(salaries["date_first_hired"], format="%m/%d/%Y")
    return salaries.assign(date_first_hired=hired)


def _read_credit(path: Path) -> pd.DataFrame:
    dates = ["Antragsdatum", "Geburtsdatum"]
    return pd.read_csv(
        path,
        sep=";",
        decimal=",",
        encoding="cp1252",
        parse_dates=dates,
        date_format="%d.%m.%Y",
    ).drop(columns="Kundennummer")


# What a person writes to read each file, without the identifiers.
READ: dict[str, Callable[[Path], pd.DataFrame]] = {
    "titanic": pd.read_csv,
    "penguins": pd.read_feather,
    "chess endgames": lambda path: pd.read_json(path, lines=True),
    "breast cancer": pd.read_parquet,
    "digits": _read_digits,
    "diabetes": lambda path: pd.read_csv(path, sep="|"),
    "house prices": lambda path: pd.read_parquet(path).drop(columns="Order"),
    "bike sharing": _read_bikes,
    "employee salaries": _read_salaries,
    "German credit": _read_credit,
}


_HEAD = """# Quality

First ten tables, each from its raw file to metrics, with only the name of the target given, compared with
the same learner called by hand. Then [real tables](#real-tables), on which learners are compared with each
other, and [how often intervals hold](#coverage-of-intervals). `make quality` measures all of it and writes
this page; it takes three hours on two cores.

Six tables are real. They come with the package scikit-learn, in the named files below its folder
`sklearn/datasets`. Four are synthetic look-alikes of known public tables, made with a seed: they have the
same kinds of columns, a signal, noise, and columns with 3 % to 40 % missing values
(`benchmarks/look_alikes.py`). The figures of these four say how the service copes with such tables; they
say nothing about houses, bicycles, employees and loans.

## The files

| data set | comes from | file | rows | columns | target |
| --- | --- | --- | --- | --- | --- |
"""

_RESULTS = f"""
## The results

Mean and standard deviation over {len(SEEDS)} seeds, each of which holds back different rows.

| data set | held back | measure | Rowcast | by hand | baseline | Rowcast is |
| --- | --- | --- | --- | --- | --- | --- |
"""

_FOOT = f"""
## How to read it

* **Rowcast**: the file is uploaded as it is and fitted with `target=` only (and `seed=` from the second
  seed on). The figures are those of the manifest, `GET /models/<id>`: of rows that the evaluated model was
  not trained on. 20 % of the rows are held back, or 10 % from 10,000 rows on.
* **By hand**: pandas reads the file with code written for it (delimiter, decimal comma, encoding, formats
  of dates), identifiers are left out, and `HistGradientBoosting*` is fitted behind skrub's
  `TableVectorizer`, configured as skrub's `tabular_pipeline` does for this learner. scikit-learn's
  functions score it on the same share of the rows, drawn with the same seed. Everything else has the
  defaults of the libraries.
* **Baseline**: a model that uses no column: the shares of the classes, or the mean.
* Accuracy and R2 are better when higher, log loss and RMSE when lower. RMSE is in the unit of the target.
* **Equal** means that the mean of the differences between the two, seed by seed, is at most {N_ERRORS} of its
  standard errors or {100 * SHARE_OF_SCALE:g} % of the scale. The scale is 1 for accuracy and R2, and the
  baseline's figure for log loss and RMSE.
* From 10,000 rows on, the rows that Rowcast holds back also stop its training early, and the manifest says
  so. scikit-learn by hand takes another tenth of the training rows for that, and so trains on fewer rows.
* Most figures agree to the last digit, because both use the same parts of the same libraries. If they do
  not, the columns are in another order (titanic), which decides between splits of equal gain, or the
  `TableVectorizer` rounds them to 32 bits (diabetes).
"""


def document(outcomes: Sequence[Outcome]) -> str:
    """Return the text of docs/quality.md."""
    files = "\n".join(map(_file_line, outcomes))
    results = "\n".join(line for one in outcomes for line in _result_lines(one))
    return f"{_HEAD}{files}\n{_RESULTS}{results}\n{_FOOT}"


def _file_line(outcome: Outcome) -> str:
    dataset = outcome.dataset
    n_rows, n_columns = outcome.shape
    counts = [f"{n_rows:,}", str(n_columns)]
    target = f"`{dataset.target}`"
    return _line([dataset.name, dataset.origin, dataset.form, *counts, target])


def _result_lines(outcome: Outcome) -> list[str]:
    validation = outcome.validation
    held_back = f"{validation['n_rows']:,} ({validation['method']})"
    lines = []
    for row in outcome.rows:
        cells = [outcome.dataset.name, held_back, MEASURES[row.measure]]
        cells += [_spread(row.service), _spread(row.hand), _shown(row.baseline)]
        lines.append(_line([*cells, row.verdict]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(values: Sequence[float]) -> str:
    mean = statistics.mean(values)
    return f"{_shown(mean)} ± {_shown(statistics.stdev(values), like=mean)}"


def _shown(value: float, like: float | None = None) -> str:
    """Return a figure with decimals that fit the size of `like`, or its own size."""
    size = abs(value if like is None else like)
    if size >= 1_000:
        return f"{value:z,.0f}"
    return f"{value:z,.1f}" if size >= 10 else f"{value:z,.3f}"


if __name__ == "__main__":
    main()
