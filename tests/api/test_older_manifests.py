"""A manifest that lacks members, as another version may have written it, is never a 500 without a
name."""

from __future__ import annotations

import json

import pytest
import requests

from rowcast.ids import new_id
from rowcast.store import JobRef, Kind, documents, publications
from tests.support.stack import Stack
from tests.support.tables import table

ROWS = table(3, 3).drop(columns="y").to_dict("records")
READS: dict[Kind, tuple[str, ...]] = {
    "fit": ("/models", "/models/{id}", "/models/{id}/file", "/status?id={id}"),
    "predict": ("/results/{id}", "/result?id={id}", "/status?id={id}"),
}


@pytest.fixture(scope="module")
def manifests(stack: Stack) -> dict[Kind, dict[str, object]]:
    """Return a whole manifest of each kind."""
    model = stack.fitted(table(60, 3))
    result = stack.predict(table(20, 3), model)
    stack.finished(result)
    refs = [JobRef("default", "fit", model), JobRef("default", "predict", result)]
    found = {ref.kind: publications.find(stack.storage(), ref) for ref in refs}
    return {kind: each.manifest for kind, each in found.items() if each}


def published(stack: Stack, kind: Kind, manifest: dict[str, object]) -> str:
    """Publish a manifest, and return its id."""
    ref = JobRef("default", kind, new_id())
    content = documents.as_json(manifest)
    stack.storage().write(*ref.place, "1/manifest.json", content)
    return ref.id


def assert_is_named(answer: requests.Response) -> None:
    if answer.status_code >= 500:
        assert answer.json()["code"] == "object_damaged", answer.text


@pytest.mark.parametrize("kind", ["fit", "predict"])
def test_every_route_answers_for_a_manifest_that_lacks_a_member(
    stack: Stack, manifests: dict[Kind, dict[str, object]], kind: Kind
) -> None:
    whole = manifests[kind]
    shortened = [{}, *({k: v for k, v in whole.items() if k != name} for name in whole)]
    for manifest in shortened:
        identifier = published(stack, kind, manifest)
        for path in READS[kind]:
            assert_is_named(stack.get(path.format(id=identifier)))


def test_a_job_with_such_a_model_is_refused_or_fails_with_a_cause(
    stack: Stack, manifests: dict[Kind, dict[str, object]]
) -> None:
    whole = manifests["fit"]
    dataset = stack.upload(table(20, 3))
    for name in ("features", "target", "file", "task", "classes"):
        manifest = {key: value for key, value in whole.items() if key != name}
        model = published(stack, "fit", manifest)
        answer = stack.post("/predict", dataset_id=dataset, model_id=model)
        assert_is_named(answer)
        if answer.status_code == 202:
            status = stack.wait(answer.json()["id"])
            assert status["error"]["code"] != "internal_error", json.dumps(status)
