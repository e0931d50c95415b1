"""The two jobs, start to end, in this process and on a real store."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import io
import json
import logging
import pickle
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn

import ml
from rowcast.api.schemas import FitRequest, PredictRequest
from rowcast.errors import (
    DatasetChanged,
    DatasetNotFound,
    InvalidTable,
    ModelIncompatible,
    ModelNotFound,
    ModelUntrusted,
    ObjectDamaged,
    RowcastError,
    StoreUnavailable,
)
from rowcast.ids import folder_of, new_id
from rowcast.jobs import context
from rowcast.learning.progress import Progress
from rowcast.signatures import PrivateKey, public_text
from rowcast.store import publications, signing
from rowcast.store.object_store import Storage
from rowcast.store.publications import JobRef
from tests.support.signing import new_key, sign_with, unsigned
from tests.support.stack import Stack
from tests.support.tables import parquet, table

OLD_KEY = "an HMAC key of an earlier version"
N_ROWS = 60
LABELS = [0, 1] * 30
# Scores do not matter to most of these tests.
QUICK: dict[str, Any] = {
    "learner": "boosting",
    "params": {"max_iter": 10},
    "validation": "none",
}


@dataclass
class Bench:
    """A store with datasets, and jobs that run on it here."""

    storage: Storage
    run: context.Run
    key: PrivateKey

    def upload(self, content: pd.DataFrame | pa.Table | bytes) -> str:
        identifier = new_id()
        self.overwrite(identifier, content)
        return identifier

    def overwrite(
        self, dataset_id: str, content: pd.DataFrame | pa.Table | bytes
    ) -> None:
        if isinstance(content, pa.Table):
            buffer = io.BytesIO()
            pq.write_table(content, buffer)
            content = buffer.getvalue()
        elif isinstance(content, pd.DataFrame):
            content = parquet(content)
        self.storage.write("datasets", self.run.owner, dataset_id, "data", content)

    def noted(self, dataset_id: str) -> dict[str, Any]:
        """Return what submitting notes of a dataset."""
        return asdict(
            self.storage.version("datasets", self.run.owner, dataset_id, "data")
        )

    def fit(
        self, content: Any, *, changes: dict[str, Any] | None = None, **options: Any
    ) -> str:
        dataset_id, model_id = self.upload(content), new_id()
        self.fit_on(
            dataset_id, model_id, self.noted(dataset_id), changes=changes, **options
        )
        return model_id

    def fit_on(
        self,
        dataset_id: str,
        model_id: str,
        noted: dict[str, Any],
        *,
        changes: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Fit as the server would request it, quickly unless `options` say otherwise."""
        asked = FitRequest(id=dataset_id, **{"target": "y", **QUICK, **options})
        job = JobRef(self.run.owner, "fit", model_id)
        signs = {"job": job, "sign": sign_with(self.key, job)}
        with context.surround(self.fresh(**{**signs, **(changes or {})})):
            ml.fit(
                dataset_id,
                model_id,
                {**asked.model_dump(exclude={"id"}), "dataset": noted},
            )

    def predict(
        self,
        content: Any,
        model_id: str,
        *,
        changes: dict[str, Any] | None = None,
        **options: Any,
    ) -> pa.Table:
        dataset_id, result_id = self.upload(content), new_id()
        noted = self.noted(dataset_id)
        self.predict_on(
            dataset_id, model_id, result_id, noted, changes=changes, **options
        )
        return self.result(result_id)

    def predict_on(
        self,
        dataset_id: str,
        model_id: str,
        result_id: str,
        noted: dict[str, Any],
        *,
        changes: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        asked = PredictRequest(dataset_id=dataset_id, model_id=model_id, **options)
        submitted = asked.model_dump(exclude={"dataset_id", "model_id"})
        job = JobRef(self.run.owner, "predict", result_id)
        with context.surround(self.fresh(job=job, **(changes or {}))):
            ml.predict(dataset_id, model_id, result_id, {**submitted, "dataset": noted})

    def fresh(self, **changes: Any) -> context.Run:
        """Return a run with a scratch folder of its own."""
        folder = self.run.folder / new_id()
        folder.mkdir()
        return replace(self.run, **{"folder": folder, **changes})

    def manifest(self, kind: publications.Kind, identifier: str) -> dict[str, Any]:
        found = publications.find(
            self.storage, JobRef(self.run.owner, kind, identifier)
        )
        assert found is not None
        return found.manifest

    def result(self, result_id: str) -> pa.Table:
        content = self.storage.read(
            "results", self.run.owner, result_id, "1/result.parquet"
        )
        return pq.read_table(io.BytesIO(content))

    def model_file(self, model_id: str) -> bytes:
        return self.storage.read("models", self.run.owner, model_id, "1/model.joblib")

    def remake_model(self, model_id: str, file: bytes, made_by: dict[str, str]) -> None:
        """Write a model's file as workers with other versions of libraries would have signed it."""
        manifest = self.manifest("fit", model_id)
        manifest["versions"] |= made_by
        manifest["file"] = {
            "sha256": hashlib.sha256(file).hexdigest(),
            "size": len(file),
        }
        self.replace_model(model_id, file, self.signed(model_id, manifest))

    def signed(self, model_id: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Return a manifest as workers would have signed it for another model."""
        job = JobRef(self.run.owner, "fit", model_id)
        return signing.signed(signing.members(manifest), sign_with(self.key, job))

    def replace_model(
        self,
        model_id: str,
        file: bytes,
        manifest: dict[str, Any],
        *,
        owner: str | None = None,
    ) -> None:
        """Write a model's file and manifest, as anybody with access to the store can."""
        owner = owner or self.run.owner
        self.storage.write("models", owner, model_id, "1/model.joblib", file)
        self.storage.write(
            "models", owner, model_id, "1/manifest.json", json.dumps(manifest).encode()
        )


@pytest.fixture
def bench(stack: Stack, tmp_path: Path) -> Bench:
    settings = stack.settings(cores_dir=str(tmp_path / "cores"))
    storage = stack.storage()
    return Bench(
        storage,
        context.Run(
            JobRef("acme", "fit", new_id()),
            1,
            settings,
            storage,
            tmp_path,
            lambda: True,
            storage,
            unsigned,
        ),
        stack.private_key(),
    )


@pytest.fixture(autouse=True)
def arrow_as_before() -> Iterator[None]:
    n_threads = pa.cpu_count()
    yield
    pa.set_cpu_count(n_threads)


def frame_of(labels: Any, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"x": np.arange(N_ROWS) % 2, **columns, "y": labels})


# What a fit publishes


def test_manifest_of_a_model_says_how_it_was_made(bench: Bench) -> None:
    frame = frame_of(
        pd.array([None, *LABELS[1:]], dtype="Int64"),
        word=["yes", "no", None] * 20,
        row=range(N_ROWS),
    )
    content = parquet(frame)
    dataset_id, model_id = bench.upload(content), new_id()
    bench.fit_on(
        dataset_id,
        model_id,
        bench.noted(dataset_id),
        learner="linear",
        params={"C": 2},
        seed=3,
    )
    manifest = bench.manifest("fit", model_id)
    file = bench.model_file(model_id)
    assert list(manifest.pop("durations_s")) == [
        *("downloading", "reading", "preparing", "fitting", "uploading")
    ]
    assert manifest.pop("created_at") > 1_700_000_000
    assert manifest.pop("versions")["scikit-learn"] == sklearn.__version__
    assert len(manifest.pop("signature")) == 88
    assert manifest.pop("key_id") == bench.key.key_id
    features = manifest.pop("features")
    assert [(feature["name"], feature["kind"]) for feature in features] == [
        ("x", "numeric"),
        ("word", "boolean"),
    ]
    assert manifest == {
        "id": model_id,
        "dataset_id": dataset_id,
        "dataset_sha256": hashlib.sha256(content).hexdigest(),
        "format": {"name": "parquet"},
        "target": "y",
        "target_type": "int64",
        "task": "classification",
        "classes": ["0", "1"],
        "learner": "linear",
        "params": {"C": 2},
        "chosen": [
            {"name": "linear", "learner": "linear", "params": {"C": 2}, "weight": 1.0}
        ],
        "why": "The request names the learner.",
        "effort": "normal",
        "search_s": None,
        "search": None,
        "leaderboard": [],
        "verdict": None,
        "seed": 3,
        "class_weight": None,
        "sample_weight": None,
        "time_column": None,
        "group_column": None,
        "identifiers": "leave_out",
        "infinite": "refuse",
        "background": "keep",
        "reading": {},
        "selection": {},
        "columns": [
            {
                "name": "x",
                "type": "int64",
                "kind": "numeric",
                "share_missing": 0.0,
                "n_distinct": 2,
                "n_distinct_is_exact": True,
                "left_out": None,
                "preparation": "as it is; missing ones by the mean; scaled",
            },
            {
                "name": "word",
                "type": "large_string",
                "kind": "boolean",
                "share_missing": 0.338983,
                "n_distinct": 2,
                "n_distinct_is_exact": True,
                "left_out": None,
                "preparation": "0 and 1; missing ones by the mean; scaled",
            },
            {
                "name": "row",
                "type": "int64",
                "kind": "numeric",
                "share_missing": 0.0,
                "n_distinct": N_ROWS - 1,
                "n_distinct_is_exact": True,
                "left_out": "an identifier with a different value in every row",
                "preparation": None,
            },
        ],
        "n_rows": N_ROWS - 1,
        "n_rows_left_out": 1,
        "validation": {"method": "none"},
        "importances": None,
        "effects": None,
        "n_background": 32,
        "intervals": None,
        "sets": None,
        "plots": None,
        "notes": [
            "The column 'row' was left out: an identifier with a different value in every row."
        ],
        "n_threads": 1,
        "file": {"sha256": hashlib.sha256(file).hexdigest(), "size": len(file)},
    }


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_manifest_of_a_model_says_how_good_it_is(task: str, bench: Bench) -> None:
    frame = frame_of(LABELS, noise=np.random.default_rng(0).normal(size=N_ROWS))
    manifest = bench.manifest("fit", bench.fit(frame, task=task, validation="auto"))
    figure = "accuracy" if task == "classification" else "r2"
    assert (
        manifest["validation"]["scores"][figure]
        > manifest["validation"]["baseline"][figure] + 0.4
    )
    assert [feature["name"] for feature in manifest["importances"]["features"]] == [
        "x",
        "noise",
    ]
    assert (manifest["intervals"] is None) is (task == "classification")
    assert "validating" in manifest["durations_s"]


def test_attempt_is_published_under_its_number(bench: Bench) -> None:
    model_id = bench.fit(frame_of(LABELS), changes={"attempt": 2})
    assert sorted(bench.storage.names("models", "acme", model_id)) == [
        "2/manifest.json",
        "2/model.joblib",
    ]


def test_same_dataset_makes_the_same_model(bench: Bench) -> None:
    frame = table(300)
    first, second = (
        bench.predict(frame, bench.fit(frame, task="regression")) for _ in range(2)
    )
    assert first.equals(second)


# What a job tells while it runs


def phases_of(sent: list[dict[str, Any]]) -> list[str]:
    phases = [message["phase"] for message in sent]
    return [
        phase
        for phase, before in zip(phases, [None, *phases], strict=False)
        if phase != before
    ]


def test_fit_tells_its_phases_until_all_is_done(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[dict[str, Any]] = []
    frame = frame_of(LABELS)
    with caplog.at_level(logging.INFO, "rowcast.job"):
        bench.fit(frame, changes={"progress": Progress(sent.append)})
    assert phases_of(sent) == [
        "downloading",
        "reading",
        "preparing",
        "fitting",
        "uploading",
    ]
    assert sent[-1]["percent"] == 100
    said = [message.partition(" took ")[0].lower() for message in caplog.messages]
    assert said == phases_of(sent)
    assert caplog.messages[0].endswith(f": {len(parquet(frame)):,} bytes.")
    assert caplog.messages[1].endswith(f": {N_ROWS} rows.")
    assert caplog.messages[3].endswith(": 10 iterations.")


def test_prediction_tells_its_phases_until_all_is_done(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[dict[str, Any]] = []
    model_id = bench.fit(frame_of(LABELS))
    with caplog.at_level(logging.INFO, "rowcast.job"):
        bench.predict(
            frame_of(LABELS), model_id, changes={"progress": Progress(sent.append)}
        )
    assert phases_of(sent) == ["downloading", "reading", "predicting", "uploading"]
    assert sent[-1]["percent"] == 100
    assert caplog.messages[2].endswith(f": {N_ROWS} rows.")


# What a prediction publishes


@pytest.mark.parametrize(
    ("labels", "arrow_type"),
    [
        (LABELS, "int64"),
        (np.array(LABELS, np.uint8), "uint8"),
        (["no", "yes"] * 30, "string"),
        (pd.Categorical(["no", "yes"] * 30), "string"),
        ([False, True] * 30, "bool"),
        ([1.0, 2.0] * 30, "double"),
        (np.array([1, 2] * 30, np.float32), "float"),
    ],
    ids=["int", "uint8", "str", "category", "bool", "float", "float32"],
)
def test_predictions_are_labels_of_the_targets_type_in_the_order_of_the_rows(
    labels: Any, arrow_type: str, bench: Bench
) -> None:
    model_id = bench.fit(
        frame_of(labels).rename(columns={"y": "the answer"}), target="the answer"
    )
    rows = pd.DataFrame({"x": [1, 1, 0, 1, 0]})
    result = bench.predict(rows, model_id)
    assert str(result.schema.field("the answer").type) == arrow_type
    assert result.to_pydict() == {
        "the answer": [pa.array(labels)[x].as_py() for x in rows["x"]]
    }


def test_quantities_are_predicted_as_doubles(bench: Bench) -> None:
    x = np.arange(N_ROWS)
    frame = pd.DataFrame({"x": x % 2, "y": (x % 2) * 100 + x / 100})
    result = bench.predict(frame.drop(columns="y"), bench.fit(frame, params={}))
    assert str(result.schema.field("y").type) == "double"
    np.testing.assert_allclose(result["y"].to_numpy(), (x % 2) * 100, atol=5)


def test_rows_may_come_with_other_columns_and_their_target_and_in_any_order(
    bench: Bench,
) -> None:
    z = np.arange(N_ROWS) % 3 / 2
    model_id = bench.fit(frame_of(LABELS, z=z))
    dataset_id, result_id = (
        bench.upload(frame_of(LABELS, z=z, extra="e")[["extra", "y", "z", "x"]]),
        new_id(),
    )
    bench.predict_on(dataset_id, model_id, result_id, bench.noted(dataset_id))
    assert bench.result(result_id)["y"].to_pylist() == LABELS
    assert bench.manifest("predict", result_id)["ignored_columns"] == ["extra"]


def test_manifest_of_a_result_says_what_it_was_made_from(bench: Bench) -> None:
    model_id = bench.fit(frame_of(LABELS))
    dataset_id, result_id = bench.upload(frame_of(LABELS)[["x"]]), new_id()
    bench.predict_on(dataset_id, model_id, result_id, bench.noted(dataset_id))
    manifest = bench.manifest("predict", result_id)
    content = bench.storage.read("results", "acme", result_id, "1/result.parquet")
    assert (manifest["id"], manifest["model_id"], manifest["dataset_id"]) == (
        result_id,
        model_id,
        dataset_id,
    )
    assert (manifest["target"], manifest["n_rows"]) == ("y", N_ROWS)
    assert manifest["file"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }


def test_prediction_gives_what_was_asked_for(bench: Bench) -> None:
    model_id = bench.fit(frame_of(["no", "yes"] * 30))
    rows = pd.DataFrame({"x": [1, 0], "id": ["a", "b"]})
    options: dict[str, Any] = {
        "output": "probabilities",
        "keep": ["id"],
        "format": "csv",
    }
    dataset_id, result_id = bench.upload(rows), new_id()
    bench.predict_on(
        dataset_id, model_id, result_id, bench.noted(dataset_id), **options
    )
    lines = (
        bench.storage.read("results", "acme", result_id, "1/result.csv")
        .decode()
        .splitlines()
    )
    assert lines[0] == '"id","y","probability_no","probability_yes"'
    assert [line.split(",")[:2] for line in lines[1:]] == [
        ['"a"', '"yes"'],
        ['"b"', '"no"'],
    ]
    manifest = bench.manifest("predict", result_id)
    assert (manifest["output"], manifest["format"], manifest["ignored_columns"]) == (
        "probabilities",
        "csv",
        [],
    )


def test_quantiles_of_a_regression_are_predicted(bench: Bench) -> None:
    frame = frame_of(
        np.arange(N_ROWS) % 2 + np.random.default_rng(0).normal(size=N_ROWS)
    )
    result = bench.predict(
        frame,
        bench.fit(frame, validation="auto"),
        output="quantiles",
        quantiles=[0.25, 0.75],
    )
    assert result.column_names == ["y", "quantile_0.25", "quantile_0.75"]


def test_manifest_of_a_result_counts_missing_and_unseen_values_and_tells_drift(
    bench: Bench,
) -> None:
    model_id = bench.fit(frame_of(LABELS, word=["a", "b", "c"] * 20))
    dataset_id, result_id = (
        bench.upload(pd.DataFrame({"x": [1, None] * 30, "word": ["d"] * 60})),
        new_id(),
    )
    bench.predict_on(dataset_id, model_id, result_id, bench.noted(dataset_id))
    manifest = bench.manifest("predict", result_id)
    columns = manifest["columns"]
    assert [(c["name"], c["n_missing"], c["n_unseen"]) for c in columns] == [
        ("x", 30, 0),
        ("word", 0, 60),
    ]
    assert [column["drift"] for column in columns] == ["strong", "strong"]
    assert columns[1]["bins"][-2] == {"label": "unseen", "trained": 0.0, "new": 1.0}
    assert manifest["drift"]["verdict"] == "strong"


@pytest.mark.parametrize("labels", [["no", "yes"] * 30, LABELS], ids=["str", "int"])
def test_no_rows_give_an_empty_result_of_the_same_type(
    labels: list[Any], bench: Bench
) -> None:
    model_id = bench.fit(frame_of(labels))
    full, empty = (
        bench.predict(frame_of(labels)[["x"]].head(n), model_id) for n in (1, 0)
    )
    assert (empty.num_rows, empty.schema.types) == (0, full.schema.types)


# What is refused


def changed(bench: Bench, dataset_id: str) -> None:
    bench.overwrite(dataset_id, frame_of(LABELS[::-1]))


def deleted(bench: Bench, dataset_id: str) -> None:
    bench.storage._client.remove_object(
        "datasets", f"{folder_of('acme', dataset_id)}/data"
    )


@pytest.mark.parametrize(
    ("spoil", "error"), [(changed, DatasetChanged), (deleted, DatasetNotFound)]
)
def test_dataset_that_is_not_as_it_was_submitted_is_refused(
    spoil: Callable[[Bench, str], None], error: type[RowcastError], bench: Bench
) -> None:
    model_id = bench.fit(frame_of(LABELS))
    dataset_id, new_model_id, result_id = (
        bench.upload(frame_of(LABELS)),
        new_id(),
        new_id(),
    )
    noted = bench.noted(dataset_id)
    spoil(bench, dataset_id)
    with pytest.raises(error, match=dataset_id):
        bench.fit_on(dataset_id, new_model_id, noted)
    with pytest.raises(error, match=dataset_id):
        bench.predict_on(dataset_id, model_id, result_id, noted)
    assert bench.storage.names("models", "acme", new_model_id) == []
    assert bench.storage.names("results", "acme", result_id) == []


@pytest.mark.parametrize(
    ("frame", "options", "reason"),
    [
        (frame_of(LABELS), {"target": "label"}, "'label' is missing"),
        (frame_of([1.5, 2.5] * 30), {"task": "classification"}, "fractions"),
        (frame_of(["a", "b"] * 30), {"task": "regression"}, "text"),
        (frame_of(LABELS, z=np.inf), {}, "infinite values: 60, first"),
        (
            frame_of(pd.array([1] * 9 + [None] * 51, dtype="Int64")),
            {},
            "Only 9 of 60 rows",
        ),
        (frame_of([7] * N_ROWS), {"task": "classification"}, "same value"),
        (bytes(100), {}, "neither Parquet, Arrow nor Excel"),
        (b"x,y\n1,0\n", {}, "Only 1 of 1 rows"),
        (frame_of([f"label {i}" for i in range(N_ROWS)]), {}, "60 classes; at most 50"),
    ],
    ids=[
        "target",
        "fractions",
        "text",
        "infinite",
        "unknown",
        "constant",
        "zeros",
        "CSV",
        "classes",
    ],
)
def test_failing_fit_says_why_and_publishes_nothing(
    frame: Any, options: dict[str, Any], reason: str, bench: Bench, stack: Stack
) -> None:
    dataset_id, model_id = bench.upload(frame), new_id()
    settings = stack.settings(max_classes=50, cores_dir=bench.run.settings.cores_dir)
    with pytest.raises(InvalidTable, match=reason):
        bench.fit_on(
            dataset_id,
            model_id,
            bench.noted(dataset_id),
            changes={"settings": settings},
            **options,
        )
    assert bench.storage.names("models", "acme", model_id) == []


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (pd.DataFrame({"z": [1]}), "'x', which the model was trained on, is missing"),
        (pd.DataFrame({"x": ["a"]}), "'x' has the type"),
        (
            pd.DataFrame({"x": [1, -np.inf]}),
            "'x' holds infinite values: 1, first in row 1",
        ),
    ],
    ids=["missing", "type", "infinite"],
)
def test_rows_that_the_model_cannot_use_are_refused(
    frame: pd.DataFrame, reason: str, bench: Bench
) -> None:
    model_id = bench.fit(frame_of(LABELS))
    with pytest.raises(InvalidTable, match=reason):
        bench.predict(frame, model_id)


def test_empty_column_does_not_keep_a_table_from_being_fitted(bench: Bench) -> None:
    frame = frame_of(LABELS, empty=np.nan, nothing=None)
    assert (
        bench.predict(frame.drop(columns="y"), bench.fit(frame))["y"].to_pylist()
        == LABELS
    )


def test_model_that_is_not_there_is_not_found(bench: Bench) -> None:
    with pytest.raises(ModelNotFound):
        bench.predict(frame_of(LABELS), new_id())


def test_model_whose_file_is_gone_is_not_found(bench: Bench) -> None:
    source, model_id = bench.fit(frame_of(LABELS)), new_id()
    manifest = bench.signed(model_id, bench.manifest("fit", source))
    bench.storage.write(
        "models", "acme", model_id, "1/manifest.json", json.dumps(manifest).encode()
    )
    with pytest.raises(ModelNotFound):
        bench.predict(frame_of(LABELS), model_id)


# Models of other versions


def test_model_of_other_versions_that_does_not_load_is_refused_with_these_versions(
    bench: Bench,
) -> None:
    model_id = bench.fit(frame_of(LABELS))
    # A pickle of a class that no library has.
    file = b"csklearn.ensemble\nOldBooster\n."
    bench.remake_model(model_id, file, {"scikit-learn": "0.99.7", "skrub": "0.0.1"})
    with pytest.raises(ModelIncompatible) as caught:
        bench.predict(frame_of(LABELS), model_id)
    assert f"scikit-learn 0.99.7, here {sklearn.__version__}" in caught.value.detail
    assert "skrub 0.0.1" in caught.value.detail
    assert "Fit the model again" in caught.value.hint


def test_model_of_other_versions_that_loads_and_fails_is_refused_too(
    bench: Bench,
) -> None:
    model_id = bench.fit(frame_of(LABELS))
    bench.remake_model(
        model_id, pickle.dumps({"no": "model"}), {"scikit-learn": "0.99.7"}
    )
    with pytest.raises(ModelIncompatible, match=r"scikit-learn 0\.99\.7"):
        bench.predict(frame_of(LABELS), model_id)


def test_model_of_other_versions_that_works_is_used(bench: Bench) -> None:
    model_id = bench.fit(frame_of(LABELS))
    bench.remake_model(
        model_id,
        bench.model_file(model_id),
        {"scikit-learn": "0.99.7", "pandas": "9.9"},
    )
    assert bench.predict(frame_of(LABELS), model_id)["y"].to_pylist() == LABELS


# What is not trusted


def test_file_that_joblib_wrote_is_read_as_ours_is(bench: Bench) -> None:
    frame = table(300)
    model_id = bench.fit(frame, task="regression")
    before, file = bench.predict(frame, model_id), io.BytesIO()
    joblib.dump(joblib.load(io.BytesIO(bench.model_file(model_id))), file)
    bench.remake_model(model_id, file.getvalue(), {})
    assert bench.predict(frame, model_id).equals(before)


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        """Note where."""
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_bomb_leaves_its_mark_when_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "is_manifest_adapted", [False, True], ids=["file alone", "file and digest"]
)
def test_file_that_was_replaced_in_the_store_is_not_unpickled(
    is_manifest_adapted: bool, bench: Bench, tmp_path: Path
) -> None:
    model_id, bomb = bench.fit(frame_of(LABELS)), pickle.dumps(Bomb(tmp_path / "mark"))
    manifest = bench.manifest("fit", model_id)
    if is_manifest_adapted:
        manifest["file"] = {
            "sha256": hashlib.sha256(bomb).hexdigest(),
            "size": len(bomb),
        }
    bench.replace_model(model_id, bomb, manifest)
    with pytest.raises(ModelUntrusted, match=model_id):
        bench.predict(frame_of(LABELS), model_id)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"target": "x"},
        {"features": []},
        {"target_type": "string"},
        {"signature": ""},
        {"note": 1},
    ],
    ids=str,
)
def test_manifest_that_was_changed_in_the_store_is_not_trusted(
    change: dict[str, Any], bench: Bench
) -> None:
    model_id = bench.fit(frame_of(LABELS))
    bench.replace_model(
        model_id, bench.model_file(model_id), bench.manifest("fit", model_id) | change
    )
    with pytest.raises(ModelUntrusted):
        bench.predict(frame_of(LABELS), model_id)


@pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b"null", b"\xff"], ids=repr)
def test_manifest_that_is_none_is_damaged(manifest: bytes, bench: Bench) -> None:
    model_id = new_id()
    bench.storage.write("models", "acme", model_id, "1/manifest.json", manifest)
    with pytest.raises(ObjectDamaged, match=model_id):
        bench.predict(frame_of(LABELS), model_id)


def test_model_that_was_copied_to_another_id_or_owner_is_not_trusted(
    bench: Bench,
) -> None:
    source, copy = bench.fit(frame_of(LABELS)), new_id()
    file, manifest = bench.model_file(source), bench.manifest("fit", source)
    bench.replace_model(copy, file, manifest)
    bench.replace_model(source, file, manifest, owner="other")
    with pytest.raises(ModelUntrusted):
        bench.predict(frame_of(LABELS), copy)
    bench.run = replace(bench.run, job=replace(bench.run.job, owner="other"))
    with pytest.raises(ModelUntrusted):
        bench.predict(frame_of(LABELS), source)


def test_model_of_another_owner_is_not_found(bench: Bench) -> None:
    model_id = bench.fit(frame_of(LABELS))
    bench.run = replace(bench.run, job=replace(bench.run.job, owner="other"))
    with pytest.raises(ModelNotFound):
        bench.predict(frame_of(LABELS), model_id)


def test_keys_can_be_rotated(bench: Bench, stack: Stack) -> None:
    old, new = bench.key, new_key()
    cores_dir = bench.run.settings.cores_dir
    of_old = bench.fit(frame_of(LABELS))
    bench.key = new
    of_new = bench.fit(frame_of(LABELS))

    def trusting(*keys: PrivateKey) -> dict[str, Any]:
        public = ",".join(public_text(key.public_bytes) for key in keys)
        return {"settings": stack.settings(verify_keys=public, cores_dir=cores_dir)}

    both = trusting(new, old)
    for model_id in (of_old, of_new):
        found = bench.predict(frame_of(LABELS), model_id, changes=both)
        assert found["y"].to_pylist() == LABELS
    bench.predict(frame_of(LABELS), of_new, changes=trusting(new))
    with pytest.raises(ModelUntrusted):
        bench.predict(frame_of(LABELS), of_old, changes=trusting(new))


def test_model_that_was_copied_to_another_attempt_is_not_trusted(bench: Bench) -> None:
    model_id = bench.fit(frame_of(LABELS))
    for name in ("model.joblib", "manifest.json"):
        content = bench.storage.read("models", "acme", model_id, f"1/{name}")
        bench.storage.write("models", "acme", model_id, f"2/{name}", content)
    bench.storage.write("models", "acme", model_id, "2/started", b"")
    with pytest.raises(ModelUntrusted):
        bench.predict(frame_of(LABELS), model_id)


def test_model_of_an_earlier_version_is_used_while_its_key_is_known(
    bench: Bench, stack: Stack
) -> None:
    model_id = bench.fit(frame_of(LABELS))
    manifest = signing.members(bench.manifest("fit", model_id))
    content = ["acme", model_id, manifest]
    message = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    mac = hmac.new(OLD_KEY.encode(), message, hashlib.sha256).hexdigest()
    signed = {**manifest, "signature": mac}
    bench.replace_model(model_id, bench.model_file(model_id), signed)
    cores_dir = bench.run.settings.cores_dir
    known = stack.settings(hmac_signing_keys=OLD_KEY, cores_dir=cores_dir)
    found = bench.predict(frame_of(LABELS), model_id, changes={"settings": known})
    assert found["y"].to_pylist() == LABELS
    with pytest.raises(ModelUntrusted):
        bench.predict(frame_of(LABELS), model_id)


def test_store_that_is_down_is_said_to_be(bench: Bench, stack: Stack) -> None:
    dataset_id = bench.upload(frame_of(LABELS))
    noted = bench.noted(dataset_id)
    dead = Storage(stack.settings(s3_endpoint="http://127.0.0.1:9"))
    with pytest.raises(StoreUnavailable):
        bench.fit_on(dataset_id, new_id(), noted, changes={"storage": dead})


def test_cores_are_free_again_after_a_job_however_it_ended(bench: Bench) -> None:
    bench.fit(frame_of(LABELS))
    with pytest.raises(InvalidTable):
        bench.fit(frame_of([7] * N_ROWS), task="classification")
    locks = list(Path(bench.run.settings.cores_dir).glob("core-*"))
    assert locks
    for lock in locks:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
