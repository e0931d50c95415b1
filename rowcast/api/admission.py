"""What is checked before a job is queued, so that errors come early and say why."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import flask

from rowcast.api import lookups
from rowcast.api.idempotency import id_of_request
from rowcast.api.schemas import FitRequest, JobRequest, PredictRequest
from rowcast.api.state import parts
from rowcast.catalog import expiry
from rowcast.errors import InvalidRequest
from rowcast.inspection import Check
from rowcast.jobs import Submission, estimates, reuse
from rowcast.learning import learners, prediction, spaces
from rowcast.store import JobRef, Kind, Publication
from rowcast.webhooks import outbox, urls


@dataclass(frozen=True)
class Admitted:
    """A job that may be submitted, and whether an earlier one with the same outcome will do."""

    submission: Submission
    may_reuse: bool
    model_sha256: str | None = None


def fit(query: FitRequest) -> Admitted:
    """Check a fit.

    Raises:
        InvalidRequest: parameters that do not fit the learner, the file, the service or each other.
        DatasetNotFound, DatasetTooLarge, InvalidTable, NoInspector: as `lookups.dataset`.
        StoreUnavailable: the store does not answer.
    """
    learners.check(
        query.learner, query.params, task=query.task, class_weight=query.class_weight
    )
    spaces.check(query.learner, query.params, effort=query.effort, task=query.task)
    search_s = _search_s(query)
    check = Check.fit(
        query.target,
        query.sample_weight,
        query.time_column,
        query.group_column,
        query.selection().given(),
    )
    dataset = lookups.dataset(query.id, check, query.reading())
    shown = dataset.shown
    model_id = id_of_request()
    options = {
        **query.work(),
        "search_s": search_s,
        "target": shown.target,
        **dataset.as_noted(),
    }
    arguments = {"dataset_id": query.id, "model_id": model_id, "options": options}
    work = estimates.of_fit(
        query.learner,
        query.params,
        query.validation,
        shown.n_rows,
        shown.n_columns,
        is_quick=query.effort == "quick",
        search_s=search_s or 0.0,
    )
    submission = _submission("fit", model_id, arguments, work, query)
    return Admitted(submission, may_reuse=query.reuse)


def _search_s(query: FitRequest) -> float | None:
    """Return the seconds of a thorough fit's search, None for any other fit.

    Raises:
        InvalidRequest: they are over the service's maximum.
    """
    most_s = parts.settings.max_search_s
    if query.search_s and query.search_s > most_s:
        raise InvalidRequest(
            f"The parameter 'search_s' is over {most_s}, the most that a fit may search."
        )
    if query.effort != "thorough":
        return None
    return query.search_s or min(spaces.DEFAULT_SEARCH_S, most_s)


def predict(query: PredictRequest) -> Admitted:
    """Check a prediction of a dataset's rows; its model may still be in the making.

    Raises:
        InvalidRequest: parameters that do not fit the model, the file, the service or each other.
        ModelNotFound, ModelFailed, ObjectDamaged: the model cannot be used.
        DatasetNotFound, DatasetTooLarge, InvalidTable, NoInspector: as `lookups.dataset`.
        StoreUnavailable, QueueUnavailable: a part does not answer.
    """
    dataset_id = str(query.dataset_id)
    model = lookups.model_or_fit(query.model_id)
    check = _check_of(model, query) if model else Check.none()
    manifest = model.manifest if model else {}
    reading = query.reading().of_model(manifest)
    dataset = lookups.dataset(dataset_id, check, reading)
    result_id = id_of_request()
    arguments = {
        "dataset_id": dataset_id,
        "model_id": query.model_id,
        "result_id": result_id,
        "options": {**query.work(), **dataset.as_noted()},
    }
    work = estimates.of_prediction(
        manifest, dataset.shown.n_rows, dataset.shown.n_columns, query.output
    )
    if model is None:
        submission = _submission(
            "predict", result_id, arguments, work, query, waits_for=query.model_id
        )
        return Admitted(submission, may_reuse=False)
    submission = _submission("predict", result_id, arguments, work, query)
    sha256 = lookups.file_of(model, query.model_id).sha256
    return Admitted(submission, query.reuse, sha256)


def _check_of(model: Publication, query: PredictRequest) -> Check:
    """Return what the model needs of the table; refuse what it cannot predict of any table."""
    try:
        features = [
            {
                "name": str(feature["name"]),
                "kind": str(feature["kind"]),
                "reading": feature.get("reading"),
                "date_format": feature.get("date_format"),
                "infinite": feature.get("infinite"),
            }
            for feature in model.manifest["features"]
        ]
        plan = prediction.Plan.of(query.work())
        prediction.check_plan(model.manifest, plan)
    except (KeyError, TypeError):
        raise lookups.damaged(query.model_id) from None
    return Check.predict(features, query.keep)


def _submission(
    kind: Kind,
    job_id: str,
    arguments: dict[str, Any],
    work: estimates.Work,
    query: JobRequest,
    *,
    waits_for: str | None = None,
) -> Submission:
    _check_terms(query)
    return Submission(
        JobRef(flask.g.owner, kind, job_id),
        arguments,
        flask.g.request_id,
        work,
        priority=query.priority,
        timeout_s=query.timeout_s,
        waits_for=waits_for,
        callback_url=query.callback_url,
    )


def _check_terms(query: JobRequest) -> None:
    """Refuse a job that may not run so long, or whose end cannot be reported to its URL."""
    most_s = parts.settings.job_timeout_s
    if query.timeout_s and query.timeout_s > most_s:
        raise InvalidRequest(
            f"The parameter 'timeout_s' is over {most_s}, the most that a job may run."
        )
    if query.callback_url:
        urls.check(query.callback_url, parts.settings, flask.g.owner)


def submit(admitted: Admitted) -> tuple[dict[str, Any], int]:
    """Submit a job, or answer with an earlier one of the same outcome: the answer and its status.

    Raises:
        QueueFull, FitEnded, QueueUnavailable, StoreUnavailable: as `Jobs.submit`.
    """
    submission = admitted.submission
    earlier_id = _earlier(admitted) if admitted.may_reuse else None
    flask.g.job_id = earlier_id or submission.ref.id
    if earlier_id:
        _report_again(earlier_id, submission)
        return {"id": earlier_id, "reused": True}, 200
    parts.jobs.submit(submission)
    return {"id": submission.ref.id, "reused": False}, 202


def _earlier(admitted: Admitted) -> str | None:
    settings, submission = parts.settings, admitted.submission
    kept_days = {
        "fit": settings.retain_models_days,
        "predict": settings.retain_results_days,
    }
    days = kept_days[submission.ref.kind]
    return reuse.earlier(
        parts.connection,
        parts.storage,
        submission,
        admitted.model_sha256,
        oldest=expiry.oldest_offered(days, time.time()),
    )


def _report_again(job_id: str, submission: Submission) -> None:
    """Report the end of an earlier job to one more URL."""
    if submission.callback_url:
        outbox.enqueue(
            parts.connection,
            job_id,
            submission.ref.owner,
            submission.callback_url,
            time.time(),
        )
