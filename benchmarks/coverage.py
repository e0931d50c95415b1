"""How often 90 % intervals hold new rows, by the number of rows that a model was fitted on.

`python -m benchmarks.coverage --learner auto --repetitions 100 --page`

Each repetition draws rows from a table, fits them as a job does, and counts how many of the other
rows lie in the interval that the model gives them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks import learners_page, trials
from benchmarks.real_tables import TABLES
from benchmarks.stack import ROOT
from benchmarks.trials import Divided

PACKAGES = ROOT / ".data_packages"
DOCUMENT = ROOT / "docs" / "quality.md"
HEADING = "\n## Coverage of intervals\n"
LEVEL = 0.9
SIZES = ((30, 49), (50, 99), (100, 299), (300, 999), (1_000, 2_500))
MAX_JUDGED = 1_000
N_COLUMNS = 5
# A table serves for at most this share of its rows, so that others are left to judge by.
MAX_SHARE = 0.75

_TEXT = f"""
A model gives each new row an interval of {100 * LEVEL:.0f} % (`output=quantiles`, `quantiles=[0.05,0.95]`). Each repetition draws rows from a table, as many
as its line says, fits them with `learner={{learner}}`, and counts how many of up to {MAX_JUDGED:,} other rows lie within their interval. The goal is 88 to 93
% in every class of size. Synthetic tables have normal, uneven, heavy-tailed and skewed noise around a curve; real ones are the tables above with a quantity
as target and enough rows. Below 50 rows the coverage is a little high, because the models that give the residuals learned from four fifths of the rows, and
the model from all.

"""


@dataclass(frozen=True)
class Repetition:
    """What to draw: a real table's name or that of a synthetic one, the rows to fit, the seed.

    `size` is the least and the largest number of rows of its class.
    """

    table: str
    size: tuple[int, int]
    seed: int

    @property
    def n_rows(self) -> int:
        """A number of rows of the class, all as likely."""
        least, most = self.size
        return int(np.random.default_rng(self.seed).integers(least, most + 1))

    @property
    def kind(self) -> str:
        """Whether the table is `synthetic` or `real`."""
        return "synthetic" if self.table in SYNTHETIC else "real"


@dataclass(frozen=True)
class Covered:
    """The share of the judged rows within their interval; None if the fit failed, with `error`."""

    repetition: Repetition
    share: float | None
    error: str = ""


def _noise_table(
    n_rows: int,
    random: np.random.Generator,
    noise: Callable[[np.random.Generator, np.ndarray], np.ndarray],
) -> pd.DataFrame:
    x = random.uniform(-2, 2, size=(n_rows, N_COLUMNS))
    curve = 2 * x[:, 0] - x[:, 1] + np.sin(2 * x[:, 2])
    names = [f"x{place}" for place in range(N_COLUMNS)]
    return pd.DataFrame(x, columns=names).assign(y=curve + noise(random, x))


def _normal(random: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return random.normal(size=len(x))


def _uneven(random: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return random.normal(size=len(x)) * (0.2 + np.abs(x[:, 0]))


def _heavy_tailed(random: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return np.asarray(random.standard_t(2.5, size=len(x)))


def _skewed(random: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return random.lognormal(size=len(x))


SYNTHETIC: dict[str, Callable[[int, np.random.Generator], pd.DataFrame]] = {
    "normal": partial(_noise_table, noise=_normal),
    "uneven": partial(_noise_table, noise=_uneven),
    "heavy-tailed": partial(_noise_table, noise=_heavy_tailed),
    "skewed": partial(_noise_table, noise=_skewed),
}
_QUANTITIES = {table.name: table for table in TABLES if table.task == "regression"}


def main() -> None:
    """Run all repetitions, print the shares and write the page."""
    options = _options()
    wanted = [
        each
        for size in options.sizes
        for kind in ("real", "synthetic")
        for each in repetitions(size, options.repetitions, options.packages, kind)
    ]
    found = list(_run(wanted, options))
    lines = coverage_lines(found)
    print("\n".join(lines))
    for one in found:
        if one.error:
            print(f"{one.repetition}: {one.error}")
    if options.page:
        text = _TEXT.format(learner=options.learner)
        learners_page.write(DOCUMENT, HEADING, f"{HEADING}{text}{_joined(lines)}")


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="benchmarks.coverage")
    parser.add_argument("--learner", default="auto")
    parser.add_argument(
        "--repetitions", type=int, default=100, help="for each size and kind of table"
    )
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help="30-49,50-99")
    parser.add_argument("--page", action="store_true", help="write docs/quality.md")
    parser.add_argument("--packages", type=Path, default=PACKAGES)
    n_cores = len(os.sched_getaffinity(0))
    parser.add_argument("--processes", type=int, default=n_cores)
    return parser.parse_args()


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (size.split("-") for size in text.split(","))
    return tuple((int(least), int(most)) for least, most in pairs)


def repetitions(
    size: tuple[int, int], n_repetitions: int, packages: Path, kind: str
) -> list[Repetition]:
    """Return repetitions on the tables of a kind that have enough rows, each in turn."""
    names = list(SYNTHETIC)
    if kind == "real":
        names = [
            name
            for name, table in _QUANTITIES.items()
            if len(_known(table.load(packages), table.target)) * MAX_SHARE >= size[1]
        ]
    return [
        Repetition(names[seed % len(names)], size, seed)
        for seed in range(n_repetitions)
    ]


def _known(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    return frame.dropna(subset=[target])


def _run(
    wanted: Sequence[Repetition], options: argparse.Namespace
) -> Iterator[Covered]:
    trials.use_one_thread()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=spawn) as processes:
        running = [
            processes.submit(measure, each, options.learner, options.packages)
            for each in wanted
        ]
        for count, each in enumerate(as_completed(running), 1):
            print(f"\x1b[K{count}/{len(wanted)}", end="\r", file=sys.stderr, flush=True)
            yield each.result()


def measure(repetition: Repetition, learner: str, packages: Path) -> Covered:
    """Return the share of rows within their interval, of a model fitted on one thread."""
    divided = draw(repetition, packages)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            bounds = trials.predict_interval(divided, learner, repetition.seed, LEVEL)
        except Exception as error:  # noqa: BLE001 - the line says which fit failed, and why.
            return Covered(repetition, None, f"{type(error).__name__}: {error}")
    truth = divided.truth.to_numpy(np.float64)
    is_within = (bounds[:, 0] <= truth) & (truth <= bounds[:, 1])
    return Covered(repetition, float(is_within.mean()))


def draw(repetition: Repetition, packages: Path) -> Divided:
    """Return the rows to fit, drawn from a table, and others to judge by."""
    random = np.random.default_rng(repetition.seed)
    if repetition.kind == "synthetic":
        n_rows = repetition.n_rows + MAX_JUDGED
        frame, target = SYNTHETIC[repetition.table](n_rows, random), "y"
    else:
        table = _QUANTITIES[repetition.table]
        frame, target = _known(table.load(packages), table.target), table.target
    places = random.permutation(len(frame))
    learned = np.sort(places[: repetition.n_rows])
    judged = np.sort(places[repetition.n_rows :][:MAX_JUDGED])
    return Divided(
        training=frame.iloc[learned].reset_index(drop=True),
        held=frame.iloc[judged].drop(columns=target).reset_index(drop=True),
        truth=frame.iloc[judged][target].reset_index(drop=True),
    )


def coverage_lines(found: Sequence[Covered]) -> list[str]:
    """Return a line for each number of rows and kind of table, in Markdown."""
    shares: dict[tuple[tuple[int, int], str], list[float]] = defaultdict(list)
    for one in found:
        if one.share is not None:
            for kind in (one.repetition.kind, "all"):
                shares[one.repetition.size, kind].append(one.share)
    lines = learners_page.head(
        *("rows", "tables", "repetitions", "coverage", "standard error"),
        *("lowest tenth of repetitions", "highest tenth"),
    )
    for (size, kind), values in sorted(shares.items()):
        lines.append(_line(size, kind, values))
    return lines


def _line(size: tuple[int, int], kind: str, values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    low, high = np.quantile(values, [0.1, 0.9])
    figures = [
        f"{100 * figure:.1f} %"
        for figure in (
            statistics.mean(values),
            deviation / len(values) ** 0.5,
            low,
            high,
        )
    ]
    rows = f"{size[0]:,} to {size[1]:,}"
    return learners_page.line(rows, kind, str(len(values)), *figures)


if __name__ == "__main__":
    main()
