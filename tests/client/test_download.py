"""Downloads of results, to a path and as a DataFrame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from client import Client, RowcastError
from tests.support.fake_service import DROP, PREDICTIONS, Reply, Server
from tests.support.tables import table as numbers


def test_result_is_a_url(client: Client, store: Server) -> None:
    assert client.result("r1") == f"{store.url}/results/r1?X-Amz-Signature=secret"


def test_download_is_a_dataframe(client: Client) -> None:
    pd.testing.assert_frame_equal(client.download("r1"), PREDICTIONS)


def test_download_to_a_path_replaces_the_file(
    client: Client, objects: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "result.parquet"
    path.write_bytes(b"old")
    assert client.download("r1", str(path)) == path
    assert path.read_bytes() == objects["/results/r1"]
    assert list(tmp_path.iterdir()) == [path]


def test_download_that_ends_early_is_repeated_from_its_start(
    client: Client,
    store: Server,
    objects: dict[str, bytes],
    tmp_path: Path,
    pauses: list[float],
) -> None:
    store.queued["/results/r1"] = [Reply(200, b"half", cut=100), Reply(200, b"", cut=5)]
    client.download("r1", tmp_path / "result.parquet")
    assert (tmp_path / "result.parquet").read_bytes() == objects["/results/r1"]


@pytest.mark.parametrize("fault", [Reply(200, b"half", cut=100), Reply(403), DROP])
def test_failed_download_leaves_the_old_file_and_nothing_else(
    client: Client, store: Server, tmp_path: Path, pauses: list[float], fault: Any
) -> None:
    path = tmp_path / "result.parquet"
    path.write_bytes(b"old")
    store.queued["/results/r1"] = [fault] * 4
    with pytest.raises(RowcastError):
        client.download("r1", path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_download_has_the_usual_permissions(client: Client, tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    path = client.download("r1", tmp_path / "result.parquet")
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_download_never_replaces_what_is_not_a_file(
    client: Client, service: Server, tmp_path: Path
) -> None:
    with pytest.raises(FileExistsError, match="Not a regular file"):
        client.download("r1", tmp_path)
    assert service.requests == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("result.csv", b'label,y\n"NA",1.5\n"1, 2",\n'),
        ("result.jsonl", b'{"label":"NA","y":1.5}\n{"label":"1, 2","y":null}\n'),
    ],
)
def test_download_of_another_format_is_a_dataframe_too(
    client: Client,
    service: Server,
    store: Server,
    objects: dict[str, bytes],
    name: Any,
    content: Any,
) -> None:
    objects[f"/results/1/{name}"] = content
    url = f"{store.url}/results/1/{name}?X-Amz-Signature=secret"
    service.queued["/result"] = [Reply(200, {"url": url})]
    expected = pd.DataFrame({"label": ["NA", "1, 2"], "y": [1.5, None]})
    pd.testing.assert_frame_equal(client.download("r1"), expected)


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_formats_of_results_are_the_same_dataframe(live: Client, form: Any) -> None:
    frame = numbers(60, 2)
    frame["code"] = [f"0{i}" for i in range(60)]
    frame["y"] = ["NA", "no, nor yes"] * 30
    model_id = live.fit(frame, None, validation="none", learner="linear")
    options = {"output": "probabilities", "keep": ["col_0"]}
    expected = live.predict_table(frame, model_id, **options)
    found = live.predict_table(frame, model_id, format=form, **options)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
