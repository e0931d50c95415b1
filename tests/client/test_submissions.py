"""fit() and predict(): the data that they accept, and the requests that they send."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from client import Client, Model, RowcastError
from tests.support.fake_service import D1, D2, Reply, Server
from tests.support.tables import table as numbers


def test_fit_and_predict_send_ids_and_options_as_json(
    client: Client, service: Server
) -> None:
    assert client.fit(D1, target="price", seed=3) == "j1"
    assert client.predict(D2, "j1", proba=True) == "r1"
    fit, predict = service.requests
    assert (fit.method, fit.query) == ("POST", {})
    assert json.loads(fit.body) == {"id": D1, "target": "price", "seed": 3}
    sent = {"dataset_id": D2, "model_id": "j1", "proba": True}
    assert json.loads(predict.body) == sent
    assert fit.headers["content-type"] == "application/json"


def test_options_that_are_not_json_are_rejected(
    client: Client, service: Server
) -> None:
    with pytest.raises(RowcastError, match="cannot be sent: Out of range float"):
        client.fit(D1, rate=float("nan"))
    assert service.requests == []


def test_jobs_lists_what_was_submitted_oldest_first(client: Client) -> None:
    client.fit(D1)
    client.predict(D1, "j1")
    assert client.jobs == [{"id": "j1", "kind": "fit"}, {"id": "r1", "kind": "predict"}]


def test_fit_and_predict_upload_what_is_not_an_id(
    client: Client, service: Server, objects: dict[str, bytes], table: Path
) -> None:
    content = table.read_bytes()
    frame = pd.DataFrame({"a": [1]})
    for data in (table, str(table), content, io.BytesIO(content), frame):
        objects.clear()
        client.fit(data)
        assert json.loads(service.requests[-1].body) == {"id": D1}
        assert "/datasets/d1" in objects
    client.predict(table, "j1")
    assert json.loads(service.requests[-1].body) == {"dataset_id": D1, "model_id": "j1"}


def test_fit_of_an_id_uploads_nothing(client: Client, service: Server) -> None:
    client.fit(D2.upper())
    assert [request.path for request in service.requests] == ["/fit"]


def test_text_that_is_not_an_id_is_a_path(client: Client, service: Server) -> None:
    with pytest.raises(FileNotFoundError):
        client.fit(f"{D1}.parquet")
    assert service.requests == []


def test_model_can_replace_its_id(
    client: Client, service: Server, known: Model
) -> None:
    service.queued["/models/m1"] = [Reply(204)]
    client.predict(D1, known)
    client.delete(known)
    assert json.loads(service.received("/predict")[0].body)["model_id"] == "m1"
    assert service.requests[-1][:2] == ("DELETE", "/models/m1")


def test_every_kind_of_data_gives_the_same_predictions(
    live: Client, tmp_path: Path
) -> None:
    frame = numbers(200, 3)
    path = tmp_path / "train.csv"
    frame.to_csv(path, index=False)
    model_id = live.fit(frame, None)
    dataset_id = live.upload(path)
    with path.open("rb") as file:
        kinds: list[Any] = [
            frame,
            path,
            str(path),
            path.read_bytes(),
            file,
            dataset_id,
        ]
        first, *others = [live.predict_table(data, model_id) for data in kinds]
    for other in others:
        pd.testing.assert_frame_equal(other, first)
    assert (first["y"] == frame["y"]).mean() > 0.9


def test_prediction_may_be_submitted_before_its_fit_has_ended(live: Client) -> None:
    frame = numbers(300, 4)
    assert len(live.predict_table(frame, live.fit(frame))) == 300
