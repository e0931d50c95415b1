"""One byte that flips on the disk is an error that names the object, or does no harm."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest

from client import Client, JobFailedError, RowcastError
from rowcast.errors import ObjectDamaged
from rowcast.ids import folder_of
from rowcast.store import documents
from tests.support.http import assert_problem
from tests.support.stack import Stack
from tests.support.tables import parquet, table

DOCUMENT = {"id": "x", "n": [1, 0.5, None], "text": "größe", "by": {2: "b", 10: "a"}}


def file_of(stack: Stack, bucket: str, identifier: str, pattern: str) -> Path:
    """Return the file of an object in the folder of the store."""
    folder = stack.data / "store" / bucket / str(folder_of("default", identifier))
    (found,) = folder.glob(pattern)
    return found


def flip(path: Path, at: int | bytes = -1) -> None:
    """Flip a bit of a file, as the disk does it: the file is as old as before."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[content.index(at) if isinstance(at, bytes) else at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def forget(stack: Stack, job_id: str) -> None:
    """Have Redis forget a job that has ended."""
    stack.redis().delete(f"rq:job:{job_id}")


@pytest.fixture
def client(stack: Stack) -> Client:
    return Client(stack.url)


@pytest.mark.parametrize("result_format", ["csv", "parquet", "jsonl"])
def test_damaged_result_is_refused_and_leaves_no_file(
    stack: Stack, client: Client, model_id: str, tmp_path: Path, result_format: str
) -> None:
    data = parquet(table(50))
    result_id = client.predict(data, model_id, timeout=None, format=result_format)
    assert client.download(result_id, tmp_path / "whole").exists()
    flip(file_of(stack, "results", result_id, "*/result.*"), at=10)
    for path in (None, tmp_path / "part"):
        with pytest.raises(RowcastError, match=result_id) as raised:
            client.download(result_id, path)  # type: ignore[arg-type]
        assert raised.value.code == "object_damaged"
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_damaged_dataset_ends_the_next_job_also_if_redis_was_lost(
    stack: Stack, client: Client
) -> None:
    data = table(60).to_csv(index=False).encode()
    dataset_id = client.upload(data)
    client.fit(dataset_id, target="y", timeout=None, learner="boosting")
    flip(file_of(stack, "datasets", dataset_id, "data"), at=len(data) - 2)
    connection = stack.redis()
    for key in connection.scan_iter("rowcast:digest:*"):
        connection.delete(key)
    with pytest.raises(JobFailedError, match=dataset_id) as raised:
        client.fit(dataset_id, target="y", timeout=None, learner="boosting")
    assert raised.value.code == "dataset_damaged"


def test_job_that_waited_beside_the_first_one_notices_damage_too(
    stack: Stack, client: Client
) -> None:
    data = table(60).to_csv(index=False).encode()
    dataset_id = client.upload(data)
    with stack.frozen():
        fits = [
            client.fit(dataset_id, target="y", seed=seed, learner="boosting")
            for seed in (1, 2)
        ]
        storage = stack.storage()
        digest = "0" * 64
        storage.write("datasets", "default", dataset_id, f"sha256-{digest}", b"")
    for fit in fits:
        assert stack.wait(fit)["error"]["code"] == "dataset_damaged"


@pytest.mark.parametrize("damage", [b"target", b'"file"', b"checksum", b"sha256:"])
def test_damaged_manifest_is_an_error_that_names_it(
    stack: Stack, client: Client, model_id: str, damage: bytes
) -> None:
    result_id = client.predict(parquet(table(50)), model_id, timeout=None)
    flip(file_of(stack, "results", result_id, "*/manifest.json"), at=damage)
    for answer in (
        stack.get("/result", id=result_id),
        stack.get(f"/results/{result_id}"),
    ):
        problem = assert_problem(answer, 500, "object_damaged")
        assert f"manifest of result {result_id}" in str(problem["detail"])


def test_damaged_manifest_of_a_model_is_an_error_that_names_it(
    stack: Stack, client: Client
) -> None:
    model_id = stack.fitted(table(60))
    flip(file_of(stack, "models", model_id, "*/manifest.json"), at=b"target")
    for path in (f"/models/{model_id}", f"/models/{model_id}/file"):
        problem = assert_problem(stack.get(path), 500, "object_damaged")
        assert model_id in str(problem["detail"])


@pytest.mark.parametrize("damage", [b"finished", b"{", b"checksum"])
def test_status_answers_from_the_manifest_if_the_record_is_damaged(
    stack: Stack, damage: bytes
) -> None:
    fit = stack.fitted(table(60))
    status = stack.status(fit)
    flip(file_of(stack, "models", fit, "record/*.json"), at=damage)
    forget(stack, fit)
    answer = stack.status(fit)
    names = ("id", "kind", "status", "dataset_id", "model_id", "attempts", "error")
    assert {name: answer[name] for name in names} == {
        name: status[name] for name in names
    }
    assert stack.get(f"/jobs/{fit}/log").json()["lines"] == []


def test_damaged_record_of_a_failed_job_is_an_error_that_names_it(
    stack: Stack,
) -> None:
    fit = stack.fit(b"a,y\n1,2\n3,inf\n", target="y")
    assert stack.wait(fit)["status"] == "failed"
    flip(file_of(stack, "models", fit, "record/*.json"), at=b"failed")
    forget(stack, fit)
    problem = assert_problem(stack.get("/status", id=fit), 500, "object_damaged")
    assert f"record/1.json of job {fit}" in str(problem["detail"])
    assert stack.get("/jobs", limit=100).status_code == 200


def test_document_survives_its_file() -> None:
    content = documents.as_json(DOCUMENT)
    assert documents.parsed(content, "x") == json.loads(json.dumps(DOCUMENT))


def test_document_of_an_earlier_version_is_read() -> None:
    content = json.dumps(DOCUMENT, indent=1).encode()
    assert documents.parsed(content, "x") == json.loads(content)


def _flipped(content: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    return bytes(changed)


@pytest.mark.parametrize("bit", [0, 2, 5])
def test_no_flipped_byte_changes_what_a_document_says(bit: int) -> None:
    content = documents.as_json(DOCUMENT)
    whole = documents.parsed(content, "x")
    for at in range(len(content)):
        with suppress(ObjectDamaged):
            assert documents.parsed(_flipped(content, at, bit), "x") == whole
