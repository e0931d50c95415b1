"""Predictions in batches: the result, and the report on its rows."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import pytest
import threadpoolctl

from rowcast.errors import InvalidRequest, InvalidTable, TooManyRows
from rowcast.learning import learners, prediction, training
from rowcast.learning.prediction import Plan, Predictor
from rowcast.learning.training import Rows
from rowcast.tables import formats, training_table
from tests.support.tables import source_of

N_ROWS = 400
RNG = np.random.default_rng(0)
X = RNG.normal(size=N_ROWS)
WORDS = np.array(["red", "green", "blue"])[RNG.integers(0, 3, N_ROWS)]
TABLE = pa.table(
    {
        "x": X,
        "word": pa.array(WORDS.tolist()),
        "when": pa.array(
            [dt.date(2020, 1, 1) + dt.timedelta(days=i % 50) for i in range(N_ROWS)]
        ),
    }
)


def fitted(
    y: Any, *, validation: Any = "none", target: str = "y", asked: str = "auto"
) -> Predictor:
    table = TABLE.append_column(target, y if isinstance(y, pa.Array) else pa.array(y))
    data = training_table.read(source_of(table), target, task=asked)
    task = learners.task_of(data.target, asked, max_classes=1000)
    plan = training.Plan(
        "boosting", task, {"max_iter": 10}, validation=validation, importance_s=0
    )
    with threadpoolctl.threadpool_limits(1):
        found = training.train(plan, data.features, Rows(data.frame, data.target))
    is_classes = task == "classification"
    return Predictor(
        found.model,
        data.features,
        target,
        data.target_type if is_classes else "double",
        [training.label_text(label) for label in found.model.classes_]
        if is_classes
        else None,
        found.intervals,
        sets=found.sets,
    )


CLASSIFIER = fitted(["yes" if x > 0 else "no" for x in X], validation="auto")
REGRESSOR = fitted(3 * X, validation="auto")


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Return a function that predicts a table and returns the result's path and report."""

    def write(
        predictor: Predictor, table: pa.Table = TABLE, **wanted: Any
    ) -> tuple[Path, dict[str, Any]]:
        path = tmp_path / "result"
        with threadpoolctl.threadpool_limits(1):
            return path, prediction.write(
                path, predictor, source_of(table), Plan(**wanted)
            )

    return write


Written = Callable[..., tuple[Path, dict[str, Any]]]


# Progress


def test_progress_is_reported_batch_by_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "MAX_BATCH_ROWS", 150)
    reported: list[tuple[int, int | None, int | None]] = []
    with threadpoolctl.threadpool_limits(1):
        source = source_of(TABLE)
        prediction.write(
            tmp_path / "result",
            CLASSIFIER,
            source,
            Plan(),
            lambda *counts: reported.append(counts),
        )
    assert reported == [(150, 400, None), (300, 400, None), (400, 400, None)]


# The result


def test_labels_are_one_column_named_as_the_target(written: Written) -> None:
    result = pq.read_table(written(CLASSIFIER)[0])
    assert result.column_names == ["y"]
    assert np.mean(result["y"].to_numpy() == np.where(X > 0, "yes", "no")) > 0.95


def test_probabilities_stand_beside_the_most_probable_label(written: Written) -> None:
    result = pq.read_table(written(CLASSIFIER, output="probabilities")[0])
    assert result.column_names == ["y", "probability_no", "probability_yes"]
    no, yes = (result[name].to_numpy() for name in result.column_names[1:])
    np.testing.assert_allclose(no + yes, 1)
    assert result["y"].to_pylist() == np.where(yes > no, "yes", "no").tolist()
    assert result["y"] == pq.read_table(written(CLASSIFIER)[0])["y"]


def test_quantiles_stand_beside_the_prediction(written: Written) -> None:
    result = pq.read_table(
        written(REGRESSOR, output="quantiles", quantiles=[0.9, 0.1, 0.5])[0]
    )
    assert result.column_names == ["y", "quantile_0.9", "quantile_0.1", "quantile_0.5"]
    assert (
        result["quantile_0.1"].to_numpy() <= result["quantile_0.9"].to_numpy()
    ).all()
    assert result["y"] == pq.read_table(written(REGRESSOR)[0])["y"]


def test_quantiles_that_hardly_differ_have_names_of_their_own(written: Written) -> None:
    result = pq.read_table(
        written(REGRESSOR, output="quantiles", quantiles=[0.1234567, 0.1234568])[0]
    )
    assert result.column_names == ["y", "quantile_0.1234567", "quantile_0.1234568"]


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_sets_are_a_boolean_for_each_level_and_class(
    written: Written, form: str
) -> None:
    path, _ = written(CLASSIFIER, output="sets", levels=[0.5, 1], format=form)
    read = {
        "parquet": pq.read_table,
        "csv": pa.csv.read_csv,
        "jsonl": pa.json.read_json,
    }
    result = read[form](path)
    assert result.column_names == [
        "y",
        "set_0.5_no",
        "set_0.5_yes",
        "set_1_no",
        "set_1_yes",
    ]
    sizes = result.to_pandas().drop(columns="y").astype(int).sum()
    assert sizes["set_0.5_no"] + sizes["set_0.5_yes"] == N_ROWS
    assert sizes["set_1_no"] + sizes["set_1_yes"] == 2 * N_ROWS


@pytest.mark.parametrize(
    ("target", "task", "how"),
    [
        ("probability_no", "classification", {"output": "probabilities"}),
        ("quantile_0.5", "regression", {"output": "quantiles"}),
        ("set_0.9_yes", "classification", {"output": "sets"}),
        ("base_value", "regression", {"output": "contributions"}),
        ("contribution_x", "classification", {"output": "contributions"}),
    ],
)
def test_target_named_as_another_column_of_the_result_is_refused(
    target: str, task: str, how: dict[str, Any]
) -> None:
    classes = ["no", "yes"]
    manifest = {
        "features": [{"name": "x"}],
        "n_background": 32,
        "task": task,
        "target": target,
        "classes": classes,
        "intervals": {"x": 1},
        "sets": {"x": 1},
    }
    with pytest.raises(InvalidRequest, match=f"makes a column '{target}'"):
        prediction.check_plan(manifest, Plan(**how))


@pytest.mark.parametrize("predictor", [CLASSIFIER, REGRESSOR])
def test_contributions_of_columns_add_up_to_what_is_predicted(
    written: Written, predictor: Predictor
) -> None:
    path, report = written(predictor, TABLE.slice(0, 30), output="contributions")
    explained = ["probability"] if predictor.classes else []
    by_column = [f"contribution_{name}" for name in TABLE.column_names]
    found = pq.read_table(path).to_pandas()
    assert list(found) == ["y", *explained, "base_value", *by_column]
    whole = found[["base_value", *by_column]].sum(axis=1)
    plain, _ = written(predictor, TABLE.slice(0, 30), output="labels")
    labels = pq.read_table(plain).to_pandas()["y"]
    assert found["y"].equals(labels)
    np.testing.assert_allclose(whole, found[(explained or ["y"])[0]], atol=1e-12)
    assert found["contribution_x"].abs().max() > 0.1
    account = report["contributions"]
    assert (account["method"], account["standard_error"]) == ("exact", 0)


def test_more_rows_than_can_be_explained_are_refused_with_the_most(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "MAX_EXPLAINING_S", 0.05)
    with pytest.raises(TooManyRows, match=r"can explain (\d+) rows") as raised:
        written(REGRESSOR, output="contributions")
    most = int(str(raised.value).partition("can explain ")[2].split()[0])
    written(REGRESSOR, TABLE.slice(0, most), output="contributions")
    written(REGRESSOR, output="quantiles")


def test_model_without_rows_to_compare_with_is_not_explained() -> None:
    manifest: dict[str, Any] = {
        "task": "regression",
        "classes": None,
        "target": "y",
        "features": [],
    }
    plan = Plan(output="contributions")
    with pytest.raises(
        InvalidRequest, match=r"an earlier version made it.*fit it again"
    ):
        prediction.check_plan(manifest, plan)
    wide = [{"name": f"x{place}"} for place in range(1_001)]
    with pytest.raises(InvalidRequest, match="at most 1,000 columns"):
        prediction.check_plan({**manifest, "n_background": 32, "features": wide}, plan)


def test_kept_columns_come_first_in_their_own_types(written: Written) -> None:
    kept = {
        "id": pa.array(range(N_ROWS), pa.int16()),
        "price": pa.array([Decimal("1.10")] * N_ROWS),
        "at": pa.array([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)] * N_ROWS),
        "kind": pa.array(WORDS.tolist()).dictionary_encode(),
    }
    table = TABLE
    for name, column in kept.items():
        table = table.append_column(name, column)
    result = pq.read_table(written(CLASSIFIER, table, keep=[*kept, "x"])[0])
    assert result.column_names == [*kept, "x", "y"]
    for name in kept:
        assert result[name].to_pylist() == table[name].to_pylist()
    assert result.schema.field("id").type == pa.int16()


@pytest.mark.parametrize(
    "plan",
    [{}, {"output": "probabilities", "keep": ["word", "x", "when"]}],
    ids=["labels", "all"],
)
def test_every_format_holds_the_same(plan: dict[str, Any], written: Written) -> None:
    expected = pq.read_table(written(CLASSIFIER, **plan)[0]).to_pylist()
    as_csv = pyarrow.csv.read_csv(
        written(CLASSIFIER, format="csv", **plan)[0]
    ).to_pylist()
    lines = written(CLASSIFIER, format="jsonl", **plan)[0].read_text().splitlines()
    assert as_csv == expected
    assert [json.loads(line) for line in lines] == json.loads(
        json.dumps(expected, default=str)
    )


ODD = {
    "decimal": pa.array([Decimal("1.10"), None] * 200),
    "category": pa.array(["a", None] * 200).dictionary_encode(),
    "large category": pa.array([1, None] * 200, pa.int64()).dictionary_encode(),
    "time": pa.array(
        [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None] * 200,
        pa.timestamp("ns", "Europe/Paris"),
    ),
    "date": pa.array([dt.date(2020, 1, 1), None] * 200, pa.date64()),
    "duration": pa.array([5, None] * 200, pa.duration("ms")),
    "time of day": pa.array([dt.time(1), None] * 200),
    "float16": pa.array(np.full(N_ROWS, 0.5, np.float16)),
    "null": pa.nulls(N_ROWS),
    "NaN": pa.array([float("nan"), None] * 200),
    "text": pa.array(['a "quoted", text\nof two lines', "größe 日本"] * 200),
    "large text": pa.array(["a", None] * 200, pa.large_string()),
}


@pytest.mark.parametrize("format_", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("name", ODD)
def test_column_of_any_type_is_kept_in_any_format(
    name: str, format_: Any, written: Written
) -> None:
    table = TABLE.append_column("odd", ODD[name])
    path, report = written(CLASSIFIER, table, keep=["odd"], format=format_)
    assert report["n_rows"] == N_ROWS
    if format_ == "jsonl":
        assert (
            len([json.loads(line)["odd"] for line in path.read_text().splitlines()])
            == N_ROWS
        )
    elif format_ == "csv":
        assert pyarrow.csv.read_csv(
            path, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)
        ).column_names == ["odd", "y"]
    else:
        assert str(pq.read_table(path)["odd"].to_pylist()) == str(ODD[name].to_pylist())


@pytest.mark.parametrize("format_", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**50] * N_ROWS, pa.timestamp("ms")),
        pa.array([2**29] * N_ROWS, pa.int32()).cast(pa.date32()),
        pa.array([0] * N_ROWS, pa.timestamp("us", "Mars/Olympus")),
    ],
    ids=["far time", "far date", "zone"],
)
def test_times_that_text_cannot_hold_are_kept_in_parquet_alone(
    column: pa.Array, format_: Any, written: Written
) -> None:
    table = TABLE.append_column("odd", column)
    if format_ == "parquet":
        path, _ = written(CLASSIFIER, table, keep=["odd"], format=format_)
        assert pq.read_schema(path).field("odd").type == column.type
    else:
        with pytest.raises(InvalidTable, match="'odd', which keep names") as caught:
            written(CLASSIFIER, table, keep=["odd"], format=format_)
        assert "format=parquet" in caught.value.hint


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_durations_are_kept_as_seconds_in_text(format_: Any, written: Written) -> None:
    table = TABLE.append_column(
        "odd", pa.array([1_500_000_001] * N_ROWS, pa.duration("ns"))
    )
    first, *_ = (
        written(CLASSIFIER, table, keep=["odd"], format=format_)[0]
        .read_text()
        .splitlines()[1:]
    )
    assert "1.500000001" in first


def test_categories_with_a_missing_value_among_them_are_kept(written: Written) -> None:
    places = pa.array([0, 1] * (N_ROWS // 2), pa.int8())
    odd = pa.DictionaryArray.from_arrays(places, pa.array(["a", None]))
    result = pq.read_table(
        written(CLASSIFIER, TABLE.append_column("odd", odd), keep=["odd"])[0]
    )
    assert result["odd"].to_pylist() == ["a", None] * (N_ROWS // 2)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([True, False], ["probability_false", "probability_true"]),
        ([10, 9], ["probability_9", "probability_10"]),
        ([1.0, 2.5e3], ["probability_1.0", "probability_2500.0"]),
        (["b", "a"], ["probability_a", "probability_b"]),
        (
            [dt.date(2020, 1, 2), dt.date(2020, 1, 1)],
            ["probability_2020-01-01", "probability_2020-01-02"],
        ),
    ],
    ids=str,
)
def test_probabilities_are_named_by_their_classes_in_order(
    labels: list[Any], names: list[str], written: Written
) -> None:
    y = pa.array(labels).take(pa.array((X > 0).astype(int)))
    predictor = fitted(y, asked="classification")
    result = pq.read_table(written(predictor, output="probabilities")[0])
    assert result.column_names == ["y", *names]
    assert result.schema.field("y").type == y.type
    assert (
        np.mean(
            [
                a == b
                for a, b in zip(result["y"].to_pylist(), y.to_pylist(), strict=True)
            ]
        )
        > 0.95
    )


@pytest.mark.parametrize("format_", ["parquet", "csv", "jsonl"])
def test_no_rows_give_a_result_without_rows(format_: Any, written: Written) -> None:
    path, report = written(
        CLASSIFIER,
        TABLE.slice(0, 0),
        format=format_,
        output="probabilities",
        keep=["x"],
    )
    assert report["n_rows"] == 0
    assert [column["stability_index"] for column in report["columns"]] == [None] * 3
    if format_ == "parquet":
        result = pq.read_table(path)
        assert (result.num_rows, result.column_names) == (
            0,
            ["x", "y", "probability_no", "probability_yes"],
        )


# Batches


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [1, 7, 150, 400])
@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_result_does_not_depend_on_the_size_of_batches(
    n_rows: int, format_: Any, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = {"output": "probabilities", "keep": ["word"], "format": format_}
    path, expected = written(CLASSIFIER, **plan)
    content = path.read_bytes()
    monkeypatch.setattr(prediction, "MAX_BATCH_ROWS", n_rows)
    path, report = written(CLASSIFIER, **plan)
    assert path.read_bytes() == content
    assert report == expected


def test_batches_shrink_with_the_width_of_features_and_classes() -> None:
    wide = Predictor(
        None, [*CLASSIFIER.features] * 1000, "y", "string", ["a", "b"], None
    )
    many = Predictor(None, CLASSIFIER.features, "y", "string", ["a"] * 1000, None)
    assert prediction.batch_rows(CLASSIFIER, Plan()) == 65_536
    assert prediction.batch_rows(wide, Plan()) == 666
    assert prediction.batch_rows(many, Plan()) == 2_000


def test_rows_of_bad_values_are_counted_through_all_batches(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = X.copy()
    x[[95, 230, 399]] = np.inf
    when = pa.array(["2020-01-01"] * 399 + ["x"])
    table = pa.table({"x": x, "word": WORDS.tolist(), "when": when})
    monkeypatch.setattr(prediction, "MAX_BATCH_ROWS", 50)
    with pytest.raises(InvalidTable) as caught:
        written(CLASSIFIER, table)
    assert caught.value.errors == [
        "The column 'x' holds infinite values: 3, first in row 95.",
        "The column 'when' holds values that are not dates (ISO 8601): 1, first in row 399.",
    ]


def test_values_that_cannot_be_converted_are_refused_without_quoting_them(
    written: Written,
) -> None:
    table = TABLE.set_column(
        2, "when", pa.array([2**61 + 12345] * N_ROWS, pa.timestamp("ms"))
    )
    with pytest.raises(
        InvalidTable, match="'when' holds values that cannot be converted"
    ) as caught:
        written(CLASSIFIER, table)
    assert str(2**61 + 12345) not in str(caught.value.problem())


# The report


def test_missing_and_unseen_values_are_counted_by_column(written: Written) -> None:
    table = pa.table(
        {
            "x": [None] * 30 + [0.5] * 70,
            "word": ["red"] * 80 + ["never seen"] * 15 + [None] * 5,
            "when": TABLE["when"].slice(0, 100),
        }
    )
    report = written(CLASSIFIER, table)[1]
    assert report["n_rows"] == 100
    assert [(c["name"], c["n_missing"], c["n_unseen"]) for c in report["columns"]] == [
        ("x", 30, 0),
        ("word", 5, 15),
        ("when", 0, 0),
    ]


def test_rows_like_those_of_the_training_have_not_drifted(written: Written) -> None:
    report = written(CLASSIFIER)[1]
    assert {column["drift"] for column in report["columns"]} == {"stable"}
    assert all(column["stability_index"] < 0.01 for column in report["columns"])


@pytest.mark.parametrize(
    ("place", "shifted"),
    [
        (0, pa.array(X + 3)),
        (0, pa.array([None] * 200 + [0.0] * 200, pa.float64())),
        (1, pa.array(["red"] * N_ROWS)),
        (1, pa.array(["never seen"] * N_ROWS)),
        (2, pa.array([dt.date(2024, 1, 1)] * N_ROWS)),
    ],
    ids=["numbers", "missing", "one category", "unseen", "dates"],
)
def test_column_that_has_shifted_is_reported_as_drifted(
    place: int, shifted: pa.Array, written: Written
) -> None:
    table = TABLE.set_column(place, TABLE.column_names[place], shifted)
    columns = written(CLASSIFIER, table)[1]["columns"]
    assert [column["drift"] == "strong" for column in columns] == [
        i == place for i in range(3)
    ]


def test_report_is_ready_for_json(written: Written) -> None:
    report = written(REGRESSOR)[1]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_decimal_sign_of_the_file_is_used(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = "".join(
        f"{x:.6f};{word};2020-01-01\n".replace(".", ",")
        for x, word in zip(X, WORDS, strict=True)
    )
    path.write_text("x;word;when\n" + rows)
    limits = source_of(TABLE).limits
    report = prediction.write(
        tmp_path / "result", CLASSIFIER, formats.open_file(path, limits), Plan()
    )
    assert report["columns"][0]["drift"] == "stable"
