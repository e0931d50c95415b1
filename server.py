"""The Flask application, and the routes that the picture names. Table bytes pass by it.

`gunicorn`, started in this folder, serves it (see gunicorn.conf.py). The other routes are in
rowcast/api/routes.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any

import flask
from flask_openapi3.openapi import OpenAPI

from rowcast.api import (
    admission,
    answers,
    application,
    authentication,
    events,
    idempotency,
    lookups,
    online_predictions,
    openapi,
    presigning,
    quotas,
    routes,
    schemas,
    state,
    table_bodies,
    waiting,
)
from rowcast.catalog import expiry
from rowcast.config import Settings
from rowcast.jobs import FINAL
from rowcast.store import deduplication, publications

Answer = dict[str, Any]

RESOURCES = (
    routes.jobs,
    routes.models,
    routes.datasets,
    routes.results,
    routes.keys,
    routes.health,
    routes.documents,
)
JOB_ANSWERS: Any = {200: answers.JobAnswer, 202: answers.JobAnswer}
PREDICT_ANSWERS: Any = {
    200: table_bodies.job_or_table("JobAnswer"),
    202: answers.JobAnswer,
}
STATUS_ANSWERS: Any = {200: openapi.status_or_events("StatusAnswer"), 204: None}

api = openapi.blueprint("api")
parts = state.parts


def create_app(settings: Settings | None = None) -> OpenAPI:
    """Build the application; settings come from the environment unless given."""
    settings = settings or Settings.from_environment()
    app = application.new_app(__name__, settings)
    state.install(app, settings)
    app.register_api(api)
    for resource in RESOURCES:
        app.register_api(resource.api)
    openapi.describe(app)
    return app


@api.get("/upload", endpoint="upload_by_get", responses={200: answers.UploadAnswer})
@api.post(
    "/upload",
    responses={200: answers.UploadAnswer},
    openapi_extensions=schemas.parameters_schema(schemas.UploadRequest),
)
@authentication.needs("predict", "fit")
@idempotency.idempotent
def upload(query: schemas.UploadRequest) -> Answer:
    """Get an id and a URL to PUT a new dataset to, or the id of one that holds these bytes.

    The URL cannot limit the size: /fit and /predict refuse a table over the limit. A form can.
    """
    if query.form:
        presigning.check_forms()
    parts.storage.ensure_buckets()
    kept_days = parts.settings.retain_datasets_days
    known_id = deduplication.find(
        parts.connection,
        parts.storage,
        flask.g.owner,
        query.sha256,
        query.size,
        oldest=expiry.oldest_offered(kept_days, time.time()),
    )
    if known_id:
        return {"id": known_id, "exists": True, **presigning.nothing(form=query.form)}
    quotas.check_upload(query.size)
    dataset_id = flask.g.object_id = idempotency.id_of_request()
    if query.form:
        signed = presigning.upload_form(dataset_id, quotas.max_upload_bytes())
    else:
        signed = presigning.upload(dataset_id)
    return {"id": dataset_id, "exists": False, **signed}


@api.post(
    "/fit",
    responses=JOB_ANSWERS,
    openapi_extensions=schemas.parameters_schema(schemas.FitRequest),
)
@authentication.needs("fit")
@idempotency.idempotent
def fit(query: schemas.FitRequest) -> tuple[Answer, int]:
    """Fit a model on a dataset. The answered id is that of the job and of the model."""
    return admission.submit(admission.fit(query))


@api.post(
    "/predict",
    responses=PREDICT_ANSWERS,
    openapi_extensions=table_bodies.table_or_parameters(schemas.PredictRequest),
)
@authentication.needs("predict")
def predict(query: schemas.PredictRequest) -> Any:
    """Predict the rows of a dataset by a job, whose id is answered, or the rows in the body."""
    if query.dataset_id is None:
        return online_predictions.predict(query)
    return _predict_by_job(query=query)


@idempotency.idempotent
def _predict_by_job(query: schemas.PredictRequest) -> tuple[Answer, int]:
    return admission.submit(admission.predict(query))


@api.get("/status", responses=STATUS_ANSWERS)
@authentication.needs("read")
def status(query: schemas.StatusRequest) -> flask.Response:
    """Describe how a job is doing: now, with `wait` at its end, with `stream` as it changes."""
    return _stream(query.id) if query.stream else _wait(query.id, query.wait)


def _wait(job_id: str, wait_s: float) -> flask.Response:
    flask.g.job_id = job_id
    is_connected = waiting.connection_check(flask.request.environ)
    no_seat = nullcontext(waiting.Seat(flask.g.owner, was_given=False))
    seat = parts.waiting_room.seat(flask.g.owner) if wait_s else no_seat
    with seat as taken:
        found = parts.jobs.wait(
            flask.g.owner,
            job_id,
            wait_s,
            is_wanted=lambda: taken.may_stay() and is_connected(),
        )
    answer = lookups.existing(found, job_id)
    response = flask.jsonify(answer)
    if wait_s and not taken.may_stay() and answer["status"] not in FINAL:
        response.headers["Retry-After"] = "1"
    return response


def _stream(job_id: str) -> flask.Response:
    """Answer by events; 204 keeps a browser that reconnects by itself from asking after the end."""
    flask.g.job_id = job_id
    if flask.request.headers.get("Last-Event-ID") == events.ENDED:
        return flask.Response(status=204)
    lookups.status(job_id)
    statuses = parts.jobs.follow(flask.g.owner, job_id)
    return waiting.event_stream(statuses, parts.waiting_room.seat(flask.g.owner))


@api.post(
    "/cancel",
    responses={200: answers.StatusAnswer},
    openapi_extensions=schemas.parameters_schema(schemas.CancelRequest),
)
@authentication.needs("predict", "fit")
@idempotency.idempotent
def cancel(query: schemas.CancelRequest) -> Answer:
    """End a job for good, with those that wait for the model it makes; it leaves nothing behind."""
    flask.g.job_id = query.id
    # A kind of job is also the scope that it needs.
    found = parts.jobs.cancel(
        flask.g.owner,
        query.id,
        lambda kind: authentication.check_scopes(flask.g.caller, (kind,)),
    )
    return dict(lookups.existing(found, query.id))


@api.get("/result", responses={200: answers.ResultAnswer})
@authentication.needs("read")
def result(query: schemas.ResultRequest) -> Answer:
    """Get the URL of a predict job's result."""
    found = lookups.result(query.id)
    name = f"{found.attempt}/{publications.result_file(found.manifest)}"
    file = lookups.file_of(found, query.id)
    return {**presigning.download("results", query.id, name), **file._asdict()}
