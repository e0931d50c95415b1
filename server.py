"""The Flask application: every route. Table bytes never pass through it.

`gunicorn`, started in this folder, serves it (see gunicorn.conf.py).
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import flask
import redis
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.openapi import OpenAPI
from werkzeug.local import LocalProxy

from rowcast import errors
from rowcast.api import admission, application, events, schemas, table_bodies
from rowcast.catalog import deletion, listing, retention
from rowcast.config import Settings
from rowcast.jobs import FINAL, Jobs, Submission, estimates, reuse
from rowcast.learning import learners
from rowcast.online import protocol
from rowcast.redis_clients import connect_for_requests
from rowcast.store import JobRef, Kind, Storage, deduplication, publications
from rowcast.system import scratch
from rowcast.tables import checks
from rowcast.webhooks import outbox

Answer = dict[str, Any]

STATUS_ANSWERS: Any = {200: application.status_or_events("StatusAnswer"), 204: None}
JOB_ANSWERS: Any = {200: schemas.JobAnswer, 202: schemas.JobAnswer}
PREDICT_ANSWERS: Any = {
    200: table_bodies.job_or_table("JobAnswer"),
    202: schemas.JobAnswer,
}
PREDICT_BODY: Any = table_bodies.table_or_parameters(schemas.PredictRequest)

api = APIBlueprint(
    "api",
    __name__,
    abp_responses=application.PROBLEM_ANSWERS,
    abp_security=[{"key": []}],
)


@dataclass(frozen=True)
class Parts:
    """What the routes work with."""

    settings: Settings
    storage: Storage
    connection: redis.Redis
    jobs: Jobs
    waiting_room: application.WaitingRoom


parts = cast(Parts, LocalProxy(lambda: flask.current_app.extensions["rowcast"]))
idempotent = application.idempotent(lambda: parts.connection)


def create_app(settings: Settings | None = None) -> OpenAPI:
    """Build the application; settings come from the environment unless given."""
    settings = settings or Settings.from_environment()
    storage = Storage(settings, connections=settings.server_threads)
    connection = connect_for_requests(settings, connections=2 * settings.server_threads)
    app = application.new_app(__name__, settings)
    jobs, waiting_room = (
        Jobs(connection, settings, storage),
        application.WaitingRoom(settings.server_threads // 2),
    )
    app.extensions["rowcast"] = Parts(settings, storage, connection, jobs, waiting_room)
    app.register_api(api)
    application.describe(app)
    return app


@api.get("/upload", endpoint="upload_by_get", responses={200: schemas.UploadAnswer})
@api.post(
    "/upload",
    responses={200: schemas.UploadAnswer},
    openapi_extensions=schemas.parameters_schema(schemas.UploadRequest),
)
@idempotent
def upload(query: schemas.UploadRequest) -> Answer:
    """Get an id for a new dataset and the URL to PUT its bytes to, or the id of one that holds
    these bytes.

    The URL cannot bound the size: a table over the limit is refused by /fit and /predict.
    """
    parts.storage.ensure_buckets()
    oldest = retention.oldest_offered(parts.settings.retain_datasets_days, time.time())
    asked = (query.sha256, query.size)
    if known := deduplication.find(
        parts.connection, parts.storage, flask.g.owner, *asked, oldest=oldest
    ):
        return {"id": known, "exists": True, "url": None, "expires_at": None}
    dataset_id, ttl_s = application.new_id(), parts.settings.upload_url_ttl_s
    url = parts.storage.upload_url(
        flask.g.owner,
        dataset_id,
        ttl_s,
        internal=application.is_internal(parts.settings),
    )
    return {
        "id": dataset_id,
        "exists": False,
        "url": url,
        "expires_at": time.time() + ttl_s,
    }


@api.post(
    "/fit",
    responses=JOB_ANSWERS,
    openapi_extensions=schemas.parameters_schema(schemas.FitRequest),
)
@idempotent
def fit(query: schemas.FitRequest) -> tuple[Answer, int]:
    """Fit a model on a dataset. The id answered is that of the job and of the model."""
    learners.check(
        query.learner, query.params, task=query.task, class_weight=query.class_weight
    )
    version, sample = admission.dataset(
        parts.storage, parts.settings, flask.g.owner, query.id
    )
    target = checks.check_fit(sample, query.target, query.sample_weight)
    model_id = application.new_id()
    options = {**query.work(), "target": target, "dataset": vars(version)}
    arguments = {"dataset_id": query.id, "model_id": model_id, "options": options}
    effort = estimates.effort_of(query.learner, query.params, query.validation)
    work = estimates.Work(
        "fit", query.learner, *estimates.size_of(sample, version), effort
    )
    return _submit("fit", model_id, arguments, query, work)


@api.post("/predict", responses=PREDICT_ANSWERS, openapi_extensions=PREDICT_BODY)
def predict(query: schemas.PredictRequest) -> Any:
    """Predict rows with a model: those of a dataset by a job, whose id is answered, or those sent
    at once."""
    return (
        _predict_online(query)
        if query.dataset_id is None
        else _predict_by_job(query=query)
    )


@idempotent
def _predict_by_job(query: schemas.PredictRequest) -> tuple[Answer, int]:
    dataset_id = cast(str, query.dataset_id)
    model = admission.model_or_fit(
        parts.storage, parts.jobs, flask.g.owner, query.model_id
    )
    version, sample = admission.dataset(
        parts.storage, parts.settings, flask.g.owner, dataset_id
    )
    if model:
        admission.check_predict(model, query, sample)
    result_id = application.new_id()
    arguments = {
        "dataset_id": dataset_id,
        "model_id": query.model_id,
        "result_id": result_id,
        "options": {**query.work(), "dataset": vars(version)},
    }
    work = estimates.of_prediction(model.manifest if model else {}, sample, version)
    if model is None:
        return _submit(
            "predict", result_id, arguments, query, work, waits_for=query.model_id
        )
    model_sha256, _ = admission.file_of(model, query.model_id)
    return _submit(
        "predict", result_id, arguments, query, work, model_sha256=model_sha256
    )


def _predict_online(query: schemas.PredictRequest) -> flask.Response:
    """Have an online worker predict the rows of the body; nothing is stored."""
    table, wanted = (
        table_bodies.table_of(query.only_for_jobs()),
        table_bodies.wanted_type(),
    )
    question = protocol.Question(
        flask.g.owner,
        flask.g.request_id,
        query.model_id,
        query.output,
        query.quantiles,
        query.keep,
        flask.request.mimetype,
        wanted,
    )
    settings = parts.settings
    try:
        answer = protocol.ask(
            settings.online_socket, question, table, settings.online_timeout_s
        )
    except errors.ModelNotFound:
        # The workers know published models alone; Redis may know of a fit that goes on or failed.
        if not publications.is_deleted(
            parts.storage, JobRef(flask.g.owner, "fit", query.model_id)
        ):
            admission.model(parts.storage, parts.jobs, flask.g.owner, query.model_id)
        raise
    return flask.Response(answer, mimetype=wanted)


def _submit(
    kind: Kind,
    job_id: str,
    arguments: Answer,
    query: schemas.JobRequest,
    work: estimates.Work,
    *,
    waits_for: str | None = None,
    model_sha256: str | None = None,
) -> tuple[Answer, int]:
    """Answer with an earlier job of the same outcome, where `reuse` asks for it; else submit this
    one."""
    owner, url = flask.g.owner, query.callback_url
    admission.terms(parts.settings, owner, query)
    submission = Submission(
        JobRef(owner, kind, job_id),
        arguments,
        flask.g.request_id,
        work,
        priority=query.priority,
        timeout_s=query.timeout_s,
        waits_for=waits_for,
        callback_url=url,
    )
    if query.reuse and not waits_for and (known := _earlier(submission, model_sha256)):
        flask.g.job_id = known
        if url:
            outbox.enqueue(parts.connection, known, owner, url, time.time())
        return {"id": known, "reused": True}, 200
    flask.g.job_id = job_id
    parts.jobs.submit(submission)
    return {"id": job_id, "reused": False}, 202


def _earlier(submission: Submission, model_sha256: str | None) -> str | None:
    days = {
        "fit": parts.settings.retain_models_days,
        "predict": parts.settings.retain_results_days,
    }
    oldest = retention.oldest_offered(days[submission.ref.kind], time.time())
    return reuse.earlier(
        parts.connection, parts.storage, submission, model_sha256, oldest=oldest
    )


@api.get("/status", responses=STATUS_ANSWERS)
def status(query: schemas.StatusRequest) -> flask.Response:
    """Tell how a job is doing; with `wait`, answer as soon as it ends; with `stream`, as it
    changes."""
    flask.g.job_id = query.id
    if query.stream:
        return _stream(query.id)
    is_connected = application.connection_check(flask.request.environ)
    with parts.waiting_room.seat() if query.wait else nullcontext(False) as may_wait:
        answer = parts.jobs.wait(
            flask.g.owner, query.id, query.wait if may_wait else 0, is_connected
        )
    if answer is None:
        raise errors.JobNotFound(f"There is no job {query.id}.")
    response = flask.jsonify(answer)
    if query.wait and not may_wait and answer["status"] not in FINAL:
        response.headers["Retry-After"] = "1"
    return response


def _stream(job_id: str) -> flask.Response:
    """Answer by events; 204 keeps a browser, which comes again by itself, from asking after the
    end."""
    if flask.request.headers.get("Last-Event-ID") == events.ENDED:
        return flask.Response(status=204)
    _status(job_id)
    return application.event_stream(
        parts.jobs.follow(flask.g.owner, job_id), parts.waiting_room.seat()
    )


def _status(job_id: str) -> Answer:
    flask.g.job_id = job_id
    status = parts.jobs.status(flask.g.owner, job_id)
    if status is None:
        raise errors.JobNotFound(f"There is no job {job_id}.")
    return status


@api.get("/jobs", responses={200: schemas.JobsAnswer})
def jobs(query: schemas.JobsRequest) -> Answer:
    """List the jobs, newest first, each as /status tells of it."""
    page = listing.jobs(
        parts.jobs,
        parts.storage,
        flask.g.owner,
        query.before,
        query.limit,
        wanted=query.wanted(),
    )
    return {"jobs": page.items, "next": page.next}


@api.get("/jobs/<id>", responses={200: schemas.StatusAnswer})
def job(path: schemas.Named, query: schemas.Nothing) -> Answer:  # noqa: ARG001 - as in upload
    """Tell how a job is doing."""
    return _status(path.id)


@api.get("/jobs/<id>/log", responses={200: schemas.LogAnswer})
def job_log(path: schemas.Named, query: schemas.Nothing) -> Answer:  # noqa: ARG001 - as in upload
    """Tell what a job has logged itself, so far or in all."""
    flask.g.job_id = path.id
    lines = parts.jobs.log(flask.g.owner, path.id)
    if lines is None:
        raise errors.JobNotFound(f"There is no job {path.id}.")
    return {"id": path.id, "lines": lines}


@api.post(
    "/cancel",
    responses={200: schemas.StatusAnswer},
    openapi_extensions=schemas.parameters_schema(schemas.CancelRequest),
)
@idempotent
def cancel(query: schemas.CancelRequest) -> Answer:
    """End a job for good, with those that wait for the model it makes; it leaves nothing behind."""
    flask.g.job_id = query.id
    status = parts.jobs.cancel(flask.g.owner, query.id)
    if status is None:
        raise errors.JobNotFound(f"There is no job {query.id}.")
    return status


@api.get("/result", responses={200: schemas.ResultAnswer})
def result(query: schemas.ResultRequest) -> Answer:
    """Get the URL of a predict job's result."""
    flask.g.job_id = query.id
    found = admission.result(parts.storage, parts.jobs, flask.g.owner, query.id)
    name = f"{found.attempt}/{publications.result_file(found.manifest)}"
    ttl_s = parts.settings.download_url_ttl_s
    internal = application.is_internal(parts.settings)
    url = parts.storage.download_url(
        "results", flask.g.owner, query.id, name, ttl_s, internal=internal
    )
    return {"url": url, "expires_at": time.time() + ttl_s}


@api.get("/models", responses={200: schemas.ModelsAnswer})
def models(query: schemas.PageRequest) -> Answer:
    """List the finished models, newest first."""
    page = listing.models(parts.storage, flask.g.owner, query.before, query.limit)
    return {"models": page.items, "next": page.next}


@api.get("/models/<id>", responses={200: schemas.ModelAnswer})
def model(path: schemas.Named, query: schemas.Nothing) -> Answer:  # noqa: ARG001 - as in upload
    """Tell all that is known of a model."""
    found = admission.model(parts.storage, parts.jobs, flask.g.owner, path.id)
    # Only the workers can check the signature.
    about = {
        name: value for name, value in found.manifest.items() if name != "signature"
    }
    gone_at = retention.of_manifest(about, path.id, parts.settings.retain_models_days)
    return {**about, "id": path.id, "expires_at": gone_at}


@api.get("/models/<id>/file", responses={200: schemas.FileAnswer})
def model_file(path: schemas.Named, query: schemas.Nothing) -> Answer:  # noqa: ARG001 - as in upload
    """Get the URL of a model's file, and the SHA-256 that its bytes must have."""
    found = admission.model(parts.storage, parts.jobs, flask.g.owner, path.id)
    sha256, size = admission.file_of(found, path.id)
    name, ttl_s = (
        f"{found.attempt}/{publications.MODEL_FILE}",
        parts.settings.download_url_ttl_s,
    )
    internal = application.is_internal(parts.settings)
    url = parts.storage.download_url(
        "models", flask.g.owner, path.id, name, ttl_s, internal=internal
    )
    return {
        "url": url,
        "expires_at": time.time() + ttl_s,
        "sha256": sha256,
        "size": size,
    }


@api.delete("/models/<id>", responses={204: None})
def delete_model(path: schemas.Named, query: schemas.Nothing) -> tuple[str, int]:  # noqa: ARG001 - as in upload
    """Delete a model with all results that were made with it, or what a failed fit left."""
    deletion.model(parts.storage, parts.jobs, flask.g.owner, path.id)
    return "", 204


@api.get("/datasets", responses={200: schemas.DatasetsAnswer})
def datasets(query: schemas.PageRequest) -> Answer:
    """List the uploaded datasets, newest first."""
    kept_days = parts.settings.retain_datasets_days
    page = listing.datasets(
        parts.storage, flask.g.owner, query.before, query.limit, kept_days=kept_days
    )
    return {"datasets": page.items, "next": page.next}


@api.delete("/datasets/<id>", responses={204: None})
def delete_dataset(path: schemas.Named, query: schemas.Nothing) -> tuple[str, int]:  # noqa: ARG001 - as in upload
    """Delete a dataset; the models and results that were made from it stay."""
    deletion.dataset(parts.storage, flask.g.owner, path.id)
    return "", 204


@api.get("/results/<id>", responses={200: schemas.ResultManifest})
def result_manifest(path: schemas.Named, query: schemas.Nothing) -> Answer:  # noqa: ARG001 - as in upload
    """Tell all that is known of a result."""
    found = admission.result(parts.storage, parts.jobs, flask.g.owner, path.id)
    gone_at = retention.of_manifest(
        found.manifest, path.id, parts.settings.retain_results_days
    )
    return {**found.manifest, "id": path.id, "expires_at": gone_at}


@api.delete("/results/<id>", responses={204: None})
def delete_result(path: schemas.Named, query: schemas.Nothing) -> tuple[str, int]:  # noqa: ARG001 - as in upload
    """Delete a result, or what a failed prediction left."""
    deletion.result(parts.storage, parts.jobs, flask.g.owner, path.id)
    return "", 204


@api.get("/healthz", responses={200: schemas.Alive})
def healthz() -> Answer:
    """Tell that the process is up."""
    return {"status": "ok"}


@api.get("/readyz", responses={200: schemas.Ready})
def readyz() -> Answer:
    """Tell whether Redis and the buckets answer, and which does not, and whether workers have space
    left."""
    checks = {"redis": parts.jobs.check, "store": parts.storage.check_buckets}
    application.check({**checks, "scratch": partial(scratch.check, parts.connection)})
    return {"status": "ready"}


@api.get("/openapi.json", doc_ui=False)
def openapi() -> Answer:
    """Describe the API."""
    return cast(OpenAPI, flask.current_app).api_doc


@api.get("/client.py", doc_ui=False)
def client() -> flask.Response:
    """Hand out the Python client that matches this server."""
    return flask.send_file(
        Path(__file__).with_name("client.py"), mimetype="text/x-python"
    )


@api.get("/estimators.py", doc_ui=False)
def estimators() -> flask.Response:
    """Hand out the scikit-learn estimators that go with the Python client."""
    return flask.send_file(
        Path(__file__).with_name("estimators.py"), mimetype="text/x-python"
    )
