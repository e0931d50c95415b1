"""The two jobs, start to end, in this process and on a real store."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn
from conftest import Stack, parquet, table

import ml
from rowcast import publishing, run, signing
from rowcast.errors import (
    DatasetChanged,
    DatasetNotFound,
    InvalidTable,
    ModelNotFound,
    ModelUntrusted,
    RowcastError,
    StoreUnavailable,
)
from rowcast.ids import folder_of, new_id
from rowcast.storage import Storage

OLD_KEY, NEW_KEY = "an old signing key", "a new signing key"
N_ROWS = 60
LABELS = [0, 1] * 30


@dataclass
class Bench:
    """A store with datasets, and jobs that run on it here."""

    storage: Storage
    run: run.Run

    def upload(self, content: pd.DataFrame | pa.Table | bytes) -> str:
        identifier = new_id()
        self.overwrite(identifier, content)
        return identifier

    def overwrite(self, dataset_id: str, content: pd.DataFrame | pa.Table | bytes) -> None:
        if isinstance(content, pa.Table):
            buffer = io.BytesIO()
            pq.write_table(content, buffer)
            content = buffer.getvalue()
        elif isinstance(content, pd.DataFrame):
            content = parquet(content)
        self.storage.write("datasets", self.run.owner, dataset_id, "data", content)

    def noted(self, dataset_id: str) -> dict[str, Any]:
        """Return what submitting notes of a dataset."""
        return asdict(self.storage.version("datasets", self.run.owner, dataset_id, "data"))

    def fit(self, content: Any, *, target: str = "y", task: str = "auto", **changes: Any) -> str:
        dataset_id, model_id = self.upload(content), new_id()
        self.fit_on(dataset_id, model_id, self.noted(dataset_id), target=target, task=task, **changes)
        return model_id

    def fit_on(
        self,
        dataset_id: str,
        model_id: str,
        noted: dict[str, Any],
        *,
        target: str = "y",
        task: str = "auto",
        **changes: Any,
    ) -> None:
        with run.surround(self.fresh(**changes)):
            ml.fit(dataset_id, model_id, {"target": target, "task": task, "dataset": noted})

    def predict(self, content: Any, model_id: str, **changes: Any) -> pa.Table:
        dataset_id, result_id = self.upload(content), new_id()
        self.predict_on(dataset_id, model_id, result_id, self.noted(dataset_id), **changes)
        return self.result(result_id)

    def predict_on(
        self, dataset_id: str, model_id: str, result_id: str, noted: dict[str, Any], **changes: Any
    ) -> None:
        with run.surround(self.fresh(**changes)):
            ml.predict(dataset_id, model_id, result_id, {"dataset": noted})

    def fresh(self, **changes: Any) -> run.Run:
        """Return a run with a scratch folder of its own."""
        folder = self.run.folder / new_id()
        folder.mkdir()
        return replace(self.run, **{"folder": folder, **changes})

    def manifest(self, kind: publishing.Kind, identifier: str) -> dict[str, Any]:
        found = publishing.find(self.storage, kind, self.run.owner, identifier)
        assert found is not None
        return found.manifest

    def result(self, result_id: str) -> pa.Table:
        content = self.storage.read("results", self.run.owner, result_id, "1/result.parquet")
        return pq.read_table(io.BytesIO(content))

    def model_file(self, model_id: str) -> bytes:
        return self.storage.read("models", self.run.owner, model_id, "1/model.joblib")

    def replace_model(
        self, model_id: str, file: bytes, manifest: dict[str, Any], *, owner: str | None = None
    ) -> None:
        """Write a model's file and manifest, as whoever may write to the store can."""
        owner = owner or self.run.owner
        self.storage.write("models", owner, model_id, "1/model.joblib", file)
        self.storage.write("models", owner, model_id, "1/manifest.json", json.dumps(manifest).encode())


@pytest.fixture
def bench(stack: Stack, tmp_path: Path) -> Bench:
    settings = stack.settings(cores_dir=str(tmp_path / "cores"))
    storage = stack.storage()
    return Bench(storage, run.Run("acme", 1, settings, storage, tmp_path, others_wait=lambda: True))


@pytest.fixture(autouse=True)
def arrow_as_before() -> Iterator[None]:
    n_threads = pa.cpu_count()
    yield
    pa.set_cpu_count(n_threads)


def frame_of(labels: Any, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"x": np.arange(N_ROWS) % 2, **columns, "y": labels})


# What a fit publishes


def test_manifest_of_a_model_says_how_it_was_made(bench: Bench) -> None:
    frame = frame_of(pd.array([None, *LABELS[1:]], dtype="Int64"), word=["yes", "no"] * 30)
    content = parquet(frame)
    dataset_id, model_id = bench.upload(content), new_id()
    bench.fit_on(dataset_id, model_id, bench.noted(dataset_id))
    manifest = bench.manifest("fit", model_id)
    file = bench.model_file(model_id)
    assert manifest.pop("durations_s").keys() == {"download", "read", "fit"}
    assert manifest.pop("created_at") > 1_700_000_000
    assert manifest.pop("versions")["scikit-learn"] == sklearn.__version__
    assert len(manifest.pop("signature")) == 64
    assert manifest == {
        "id": model_id,
        "dataset_id": dataset_id,
        "dataset_sha256": hashlib.sha256(content).hexdigest(),
        "target": "y",
        "target_type": "int64",
        "task": "classification",
        "learner": "boosting",
        "seed": 0,
        "features": [{"name": "x", "kind": "numeric"}, {"name": "word", "kind": "text"}],
        "columns_left_out": [],
        "n_rows": N_ROWS - 1,
        "n_rows_left_out": 1,
        "n_threads": 1,
        "file": {"sha256": hashlib.sha256(file).hexdigest(), "size": len(file)},
    }


def test_attempt_is_published_under_its_number(bench: Bench) -> None:
    model_id = bench.fit(frame_of(LABELS), attempt=2)
    assert sorted(bench.storage.names("models", "acme", model_id)) == ["2/manifest.json", "2/model.joblib"]


def test_same_dataset_makes_the_same_model(bench: Bench) -> None:
    frame = table(300)
    first, second = (bench.predict(frame, bench.fit(frame, task="regression")) for _ in range(2))
    assert first.equals(second)


# What a prediction publishes


@pytest.mark.parametrize(
    ("labels", "arrow_type"),
    [
        (LABELS, "int64"),
        (np.array(LABELS, np.uint8), "uint8"),
        (["no", "yes"] * 30, "large_string"),
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
    model_id = bench.fit(frame_of(labels).rename(columns={"y": "the answer"}), target="the answer")
    rows = pd.DataFrame({"x": [1, 1, 0, 1, 0]})
    result = bench.predict(rows, model_id)
    assert str(result.schema.field("the answer").type) == arrow_type
    assert result.to_pydict() == {"the answer": [pa.array(labels)[x].as_py() for x in rows["x"]]}


def test_quantities_are_predicted_as_doubles(bench: Bench) -> None:
    x = np.arange(N_ROWS)
    frame = pd.DataFrame({"x": x % 2, "y": (x % 2) * 100 + x / 100})
    result = bench.predict(frame.drop(columns="y"), bench.fit(frame))
    assert str(result.schema.field("y").type) == "double"
    np.testing.assert_allclose(result["y"].to_numpy(), (x % 2) * 100, atol=5)


def test_rows_may_come_with_other_columns_and_their_target_and_in_any_order(bench: Bench) -> None:
    model_id = bench.fit(frame_of(LABELS, z=0.5))
    dataset_id, result_id = (
        bench.upload(frame_of(LABELS, z=0.5, extra="e")[["extra", "y", "z", "x"]]),
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
    assert (manifest["id"], manifest["model_id"], manifest["dataset_id"]) == (result_id, model_id, dataset_id)
    assert (manifest["target"], manifest["n_rows"]) == ("y", N_ROWS)
    assert manifest["file"] == {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


@pytest.mark.parametrize("labels", [["no", "yes"] * 30, LABELS], ids=["str", "int"])
def test_no_rows_give_an_empty_result_of_the_same_type(labels: list[Any], bench: Bench) -> None:
    model_id = bench.fit(frame_of(labels))
    full, empty = (bench.predict(frame_of(labels)[["x"]].head(n), model_id) for n in (1, 0))
    assert (empty.num_rows, empty.schema.types) == (0, full.schema.types)


# What is refused


def changed(bench: Bench, dataset_id: str) -> None:
    bench.overwrite(dataset_id, frame_of(LABELS[::-1]))


def deleted(bench: Bench, dataset_id: str) -> None:
    bench.storage._client.remove_object("datasets", f"{folder_of('acme', dataset_id)}/data")


@pytest.mark.parametrize(("spoil", "error"), [(changed, DatasetChanged), (deleted, DatasetNotFound)])
def test_dataset_that_is_not_as_it_was_submitted_is_refused(
    spoil: Callable[[Bench, str], None], error: type[RowcastError], bench: Bench
) -> None:
    model_id = bench.fit(frame_of(LABELS))
    dataset_id, new_model_id, result_id = bench.upload(frame_of(LABELS)), new_id(), new_id()
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
        (frame_of(pd.array([1] * 9 + [None] * 51, dtype="Int64")), {}, "Only 9 of 60 rows"),
        (frame_of([7] * N_ROWS), {"task": "classification"}, "same value"),
        (b"x,y\n1,0\n", {}, "cannot be read"),
        (frame_of([f"label {i}" for i in range(N_ROWS)]), {}, "60 classes; at most 50"),
    ],
    ids=["target", "fractions", "text", "infinite", "unknown", "constant", "CSV", "classes"],
)
def test_failing_fit_says_why_and_publishes_nothing(
    frame: Any, options: dict[str, Any], reason: str, bench: Bench, stack: Stack
) -> None:
    dataset_id, model_id = bench.upload(frame), new_id()
    settings = stack.settings(max_classes=50, cores_dir=bench.run.settings.cores_dir)
    with pytest.raises(InvalidTable, match=reason):
        bench.fit_on(dataset_id, model_id, bench.noted(dataset_id), settings=settings, **options)
    assert bench.storage.names("models", "acme", model_id) == []


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (pd.DataFrame({"z": [1]}), "'x' is missing"),
        (pd.DataFrame({"x": ["a"]}), "'x' has the type"),
        (pd.DataFrame({"x": [1, -np.inf]}), "'x' holds infinite values: 1, first in row 1"),
    ],
    ids=["missing", "type", "infinite"],
)
def test_rows_that_the_model_cannot_use_are_refused(frame: pd.DataFrame, reason: str, bench: Bench) -> None:
    model_id = bench.fit(frame_of(LABELS))
    with pytest.raises(InvalidTable, match=reason):
        bench.predict(frame, model_id)


def test_empty_column_does_not_keep_a_table_from_being_fitted(bench: Bench) -> None:
    frame = frame_of(LABELS, empty=np.nan, nothing=None)
    assert bench.predict(frame.drop(columns="y"), bench.fit(frame))["y"].to_pylist() == LABELS


def test_model_that_is_not_there_is_not_found(bench: Bench) -> None:
    with pytest.raises(ModelNotFound):
        bench.predict(frame_of(LABELS), new_id())


def test_model_whose_file_is_gone_is_not_found(bench: Bench) -> None:
    source, model_id = bench.fit(frame_of(LABELS)), new_id()
    manifest = signing.sign(bench.run.signing_keys, "acme", model_id, bench.manifest("fit", source))
    bench.storage.write("models", "acme", model_id, "1/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(ModelNotFound):
        bench.predict(frame_of(LABELS), model_id)


# What is not trusted


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


@pytest.mark.parametrize("is_manifest_adapted", [False, True], ids=["file alone", "file and digest"])
def test_file_that_was_replaced_in_the_store_is_not_unpickled(
    is_manifest_adapted: bool, bench: Bench, tmp_path: Path
) -> None:
    model_id, bomb = bench.fit(frame_of(LABELS)), pickle.dumps(Bomb(tmp_path / "mark"))
    manifest = bench.manifest("fit", model_id)
    if is_manifest_adapted:
        manifest["file"] = {"sha256": hashlib.sha256(bomb).hexdigest(), "size": len(bomb)}
    bench.replace_model(model_id, bomb, manifest)
    with pytest.raises(ModelUntrusted, match=model_id):
        bench.predict(frame_of(LABELS), model_id)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "change",
    [{"target": "x"}, {"features": []}, {"target_type": "string"}, {"signature": ""}, {"note": 1}],
    ids=str,
)
def test_manifest_that_was_changed_in_the_store_is_not_trusted(change: dict[str, Any], bench: Bench) -> None:
    model_id = bench.fit(frame_of(LABELS))
    bench.replace_model(model_id, bench.model_file(model_id), bench.manifest("fit", model_id) | change)
    with pytest.raises(ModelUntrusted):
        bench.predict(frame_of(LABELS), model_id)


@pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b"null", b"\xff"], ids=repr)
def test_manifest_that_is_none_is_not_trusted(manifest: bytes, bench: Bench) -> None:
    model_id = new_id()
    bench.storage.write("models", "acme", model_id, "1/manifest.json", manifest)
    with pytest.raises(ModelUntrusted):
        bench.predict(frame_of(LABELS), model_id)


def test_model_that_was_copied_to_another_id_or_owner_is_not_trusted(bench: Bench) -> None:
    source, copy = bench.fit(frame_of(LABELS)), new_id()
    file, manifest = bench.model_file(source), bench.manifest("fit", source)
    bench.replace_model(copy, file, manifest)
    bench.replace_model(source, file, manifest, owner="other")
    with pytest.raises(ModelUntrusted):
        bench.predict(frame_of(LABELS), copy)
    bench.run = replace(bench.run, owner="other")
    with pytest.raises(ModelUntrusted):
        bench.predict(frame_of(LABELS), source)


def test_model_of_another_owner_is_not_found(bench: Bench) -> None:
    model_id = bench.fit(frame_of(LABELS))
    bench.run = replace(bench.run, owner="other")
    with pytest.raises(ModelNotFound):
        bench.predict(frame_of(LABELS), model_id)


def test_keys_can_be_rotated(bench: Bench, stack: Stack) -> None:
    old, both, new = (
        stack.settings(signing_keys=keys, cores_dir=bench.run.settings.cores_dir)
        for keys in (OLD_KEY, f"{NEW_KEY},{OLD_KEY}", NEW_KEY)
    )
    of_old = bench.fit(frame_of(LABELS), settings=old)
    assert bench.predict(frame_of(LABELS), of_old, settings=both)["y"].to_pylist() == LABELS
    of_both = bench.fit(frame_of(LABELS), settings=both)
    assert bench.predict(frame_of(LABELS), of_both, settings=new)["y"].to_pylist() == LABELS
    with pytest.raises(ModelUntrusted):
        bench.predict(frame_of(LABELS), of_old, settings=new)


def test_store_that_is_down_is_said_to_be(bench: Bench, stack: Stack) -> None:
    dataset_id = bench.upload(frame_of(LABELS))
    noted = bench.noted(dataset_id)
    dead = Storage(stack.settings(s3_endpoint="http://127.0.0.1:9"))
    with pytest.raises(StoreUnavailable):
        bench.fit_on(dataset_id, new_id(), noted, storage=dead)


def test_cores_are_free_again_after_a_job_however_it_ended(bench: Bench) -> None:
    bench.fit(frame_of(LABELS))
    with pytest.raises(InvalidTable):
        bench.fit(frame_of([7] * N_ROWS), task="classification")
    locks = list(Path(bench.run.settings.cores_dir).glob("core-*"))
    assert locks
    for lock in locks:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
