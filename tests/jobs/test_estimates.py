"""How long a job is expected to take, what is learned from earlier ones, and when a running one
will end."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from pyarrow import feather

from rowcast.config import Settings
from rowcast.jobs import estimates
from rowcast.jobs.estimates import Work
from rowcast.tables import Limits, formats

LIMITS = Limits.of(Settings())


# From earlier jobs


def test_first_job_is_expected_by_the_table(connection: redis.Redis) -> None:
    small = estimates.expected_s(connection, Work("fit", "boosting", 1_000, 10))
    long = estimates.expected_s(connection, Work("fit", "forest", 1_000_000, 10))
    assert not small.is_known
    assert not long.is_known
    assert estimates.lane_of(small.seconds) == "short"
    assert estimates.lane_of(long.seconds) == "long"


def test_like_job_is_expected_to_take_as_long(connection: redis.Redis) -> None:
    estimates.note(connection, Work("fit", "boosting", 10_000, 10), 42.0)
    found = estimates.expected_s(connection, Work("fit", "boosting", 10_000, 10))
    assert found.is_known
    assert found.seconds == pytest.approx(42.0, rel=0.01)


@pytest.mark.parametrize(
    ("n_rows", "seconds"), [(5_000, 20), (20_000, 80), (30_000, 120), (3_000, 12)]
)
def test_job_of_another_size_is_expected_in_proportion(
    n_rows: int, seconds: float, connection: redis.Redis
) -> None:
    estimates.note(connection, Work("fit", "boosting", 10_000, 10), 40.0)
    found = estimates.expected_s(connection, Work("fit", "boosting", n_rows, 10))
    assert found.is_known
    assert found.seconds == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "learner", "n_rows"),
    [
        ("predict", "boosting", 10_000),
        ("fit", "linear", 10_000),
        ("fit", "boosting", 100_000),
        ("fit", "boosting", 1_000),
    ],
)
def test_unlike_job_says_nothing(
    kind: Any, learner: str, n_rows: int, connection: redis.Redis
) -> None:
    estimates.note(connection, Work("fit", "boosting", 10_000, 10), 40.0)
    assert not estimates.expected_s(
        connection, Work(kind, learner, n_rows, 10)
    ).is_known


def test_nearest_size_counts(connection: redis.Redis) -> None:
    for n_rows, seconds in ((2_500, 1.0), (10_000, 8.0), (40_000, 100.0)):
        estimates.note(connection, Work("fit", "boosting", n_rows, 10), seconds)
    found = estimates.expected_s(connection, Work("fit", "boosting", 11_000, 10))
    assert found.seconds == pytest.approx(8.8, rel=0.01)


def test_newest_jobs_count_more(connection: redis.Redis) -> None:
    for seconds in [1.0] * 20 + [16.0] * 10:
        estimates.note(connection, Work("fit", "boosting", 10_000, 10), seconds)
    assert (
        12
        < estimates.expected_s(connection, Work("fit", "boosting", 10_000, 10)).seconds
        < 16
    )


def test_note_within_a_pipeline_is_made_when_that_is_executed(
    connection: redis.Redis,
) -> None:
    with connection.pipeline() as pipeline:
        estimates.note(pipeline, Work("fit", "boosting", 10_000, 10), 42.0)
        assert not connection.exists("rowcast:durations")
        pipeline.execute()
    assert estimates.expected_s(
        connection, Work("fit", "boosting", 10_000, 10)
    ).is_known


def test_table_of_one_cell_and_a_huge_one_are_expected(connection: redis.Redis) -> None:
    for n_rows, n_columns in ((0, 0), (1, 1), (10**10, 10**4)):
        estimates.note(connection, Work("predict", "linear", n_rows, n_columns), 0.0)
        found = estimates.expected_s(
            connection, Work("predict", "linear", n_rows, n_columns)
        )
        assert found.is_known
        assert 0 < found.seconds < 1


@pytest.mark.parametrize(
    ("learner", "params", "validation", "effort"),
    [
        ("boosting", {}, "auto", 1),
        ("boosting", {"max_iter": 5_000}, "auto", 50),
        ("boosting", {"max_iter": 200}, "cv", 12),
        ("forest", {"n_estimators": 10}, "none", 0.1),
        ("linear", {"max_iter": 5_000}, "auto", 1),
        ("boosting", {"max_iter": "all"}, "auto", 1),
        ("boosting", {"max_iter": float("nan")}, "auto", 1),
        ("unknown", {"max_iter": 300}, "auto", 3),
    ],
)
def test_effort_is_that_of_the_parameters(
    learner: str, params: dict[str, Any], validation: str, effort: float
) -> None:
    assert estimates.effort_of(learner, params, validation) == effort


def test_toy_of_many_iterations_is_long(connection: redis.Redis) -> None:
    effort = estimates.effort_of("boosting", {"max_iter": 10_000}, "cv")
    found = estimates.expected_s(
        connection, Work("fit", "boosting", 10_000, 10, effort=effort)
    )
    assert estimates.lane_of(found.seconds) == "long"


# The size of a table


def csv_of(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def written(write: Any, table: pd.DataFrame, **options: Any) -> bytes:
    buffer = io.BytesIO()
    write(pa.Table.from_pandas(table), buffer, **options)
    return buffer.getvalue()


FILES: dict[str, Any] = {
    "parquet": lambda table: written(pq.write_table, table),
    "arrow": lambda table: written(
        feather.write_feather, table, compression="uncompressed"
    ),
    "csv": csv_of,
    "utf-16": lambda table: csv_of(table).decode().encode("utf-16"),
    "gzip": lambda table: gzip.compress(csv_of(table)),
    "zstd": lambda table: pa.compress(csv_of(table), codec="zstd", asbytes=True),
    "jsonl": lambda table: table.to_json(orient="records", lines=True).encode(),
}
TABLES: dict[str, Any] = {
    "numbers": lambda n_rows: np.random.default_rng(0).normal(size=n_rows),
    "the same again and again": lambda n_rows: np.full(n_rows, 1.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [20, 100_000])
@pytest.mark.parametrize("values", TABLES)
@pytest.mark.parametrize("file", FILES)
def test_rows_are_estimated_within_a_factor_of_two(
    file: str, values: str, n_rows: int, tmp_path: Path
) -> None:
    content = FILES[file](
        pd.DataFrame({name: TABLES[values](n_rows) for name in "abc"})
    )
    sample = formats.peek(len(content), lambda at, n: content[at : at + n], LIMITS)
    found = sample.n_rows_expected(len(content))
    # A small Arrow file is mostly what it says of itself.
    assert n_rows / 2 <= found <= n_rows * 2 or (file == "arrow" and found < 200)
    path = tmp_path / "table"
    path.write_bytes(content)
    expected = formats.open_file(path, LIMITS).n_rows_expected
    assert expected is not None
    assert n_rows / 2 <= expected <= n_rows * 2


# The end of a running job


@pytest.mark.parametrize(
    ("expectation_s", "elapsed_s", "percent", "eta_s"),
    [
        (None, 10, None, None),
        (None, 10, 0, None),
        (100, 0, None, 100),
        (100, 30, None, 70),
        (None, 30, 60, 20),
        (None, 30, 100, 0),
        (100, 30, 100, 0),
        (100, 130, 0, None),
    ],
)
def test_eta_by_what_is_known(
    expectation_s: float | None,
    elapsed_s: float,
    percent: float | None,
    eta_s: float | None,
) -> None:
    found = estimates.remaining_s(expectation_s, elapsed_s, percent)
    assert found == (None if eta_s is None else pytest.approx(eta_s))


def test_eta_leans_on_the_estimate_first_and_on_progress_later() -> None:
    # Progress says ten times as long as the estimate.
    early, late = (
        estimates.remaining_s(100, 10 * percent, percent) for percent in (1, 70)
    )
    assert early == pytest.approx(90, abs=40)
    assert late == pytest.approx(300, rel=0.05)


def test_eta_is_never_negative() -> None:
    for expectation_s in (None, 0.0, 1.0, 1e6):
        for elapsed_s in (0.0, 1e-9, 1.0, 1e7):
            for percent in (None, 0.0, 1e-6, 50.0, 100.0, 101.0):
                found = estimates.remaining_s(expectation_s, elapsed_s, percent)
                assert found is None or 0 <= found < float("inf")


def test_explaining_rows_is_expected_to_take_as_long_as_predicting_many() -> None:
    manifest: dict[str, Any] = {"features": [{}] * 10}
    plain = estimates.of_prediction(manifest, 100, 10_000)
    explained = estimates.of_prediction(manifest, 100, 10_000, "contributions")
    assert 1_000 < explained.effort / plain.effort < 3_000


def test_time_to_search_comes_on_top_and_is_not_learned(
    connection: redis.Redis,
) -> None:
    usual = estimates.of_fit("auto", {}, "auto", 500, 10)
    thorough = estimates.of_fit("auto", {}, "auto", 500, 10, search_s=60)
    assert estimates.expected_s(connection, thorough).seconds > 60
    estimates.note(connection, thorough, 63.0)
    assert estimates.expected_s(connection, usual).seconds == pytest.approx(3, rel=1e-3)


def test_quick_fits_say_nothing_of_those_that_compare(connection: redis.Redis) -> None:
    estimates.note(
        connection, estimates.of_fit("auto", {}, "auto", 500, 10, is_quick=True), 0.1
    )
    usual = estimates.of_fit("auto", {}, "auto", 500, 10)
    assert not estimates.expected_s(connection, usual).is_known
