"""/predict with rows in the body: an online worker predicts them, and nothing is stored."""

from __future__ import annotations

import flask

from rowcast import errors
from rowcast.api import lookups, table_bodies, waiting
from rowcast.api.schemas import PredictRequest
from rowcast.api.state import parts
from rowcast.online import protocol
from rowcast.store import JobRef, publications


def predict(query: PredictRequest) -> flask.Response:
    """Answer the predictions for the table in the request's body.

    Raises:
        InvalidRequest, UnsupportedMediaType, NotAcceptable, RequestTooLarge: as `table_bodies`.
        ModelNotFound, ModelNotReady, ModelFailed: as `lookups.model`.
        NoOnlineWorker, OnlineWorkerLost: no worker was free, or it died or took too long.
        RowcastError: what the worker refuses the table for.
    """
    table = table_bodies.table_of(query.only_for_jobs())
    answer_type = table_bodies.wanted_type()
    question = protocol.Question(
        owner=flask.g.owner,
        request_id=flask.g.request_id,
        model_id=query.model_id,
        options=query.work(),
        sent_as=flask.request.mimetype,
        wanted=answer_type,
    )
    try:
        answer = _ask(question, table)
    except errors.ModelNotFound:
        _explain_missing(query.model_id)
        raise
    return flask.Response(answer, mimetype=answer_type)


def _ask(question: protocol.Question, table: bytes) -> bytes:
    settings = parts.settings
    is_connected = waiting.connection_check(flask.request.environ)
    with parts.prediction_room.seat(question.owner) as seat:
        if not seat.may_stay():
            raise errors.NoOnlineWorker("Too many requests wait for an online worker.")
        return protocol.ask(
            settings.online_socket,
            question,
            table,
            settings.online_timeout_s,
            may_wait=lambda: seat.may_stay() and is_connected(),
        )


def _explain_missing(model_id: str) -> None:
    """Raise what Redis knows of a fit that goes on or failed; workers know published models."""
    job = JobRef(flask.g.owner, "fit", model_id)
    if not publications.is_deleted(parts.storage, job):
        lookups.model(model_id)
