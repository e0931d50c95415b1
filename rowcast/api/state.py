"""What the routes work with: settings, store, Redis, jobs, and the room for requests that wait."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import flask
import redis
from flask.globals import app_ctx

from rowcast.access import KeyRing, KeyStore
from rowcast.api.rate_limiting import RateLimits
from rowcast.api.waiting import WaitingRoom
from rowcast.config import Settings
from rowcast.errors import NoInspector
from rowcast.inspection import Inspectors
from rowcast.jobs import Jobs
from rowcast.observability import AuditLog, FloodGate
from rowcast.redis_clients import connect_for_limits, connect_for_requests
from rowcast.store import Storage, key_copy

_NAME = "rowcast"


@dataclass(frozen=True)
class Parts:
    """What the routes of one application work with."""

    settings: Settings
    storage: Storage
    connection: redis.Redis
    jobs: Jobs
    waiting_room: WaitingRoom
    prediction_room: WaitingRoom
    rate_limits: RateLimits
    keys: KeyStore
    key_ring: KeyRing
    audit: AuditLog
    refusals: FloodGate
    inspectors: Inspectors


def parts_of(app: flask.Flask) -> Parts:
    """Return the parts of an application."""
    return cast(Parts, app.extensions[_NAME])


class _Current:
    """The parts of the application that answers the current request.

    It looks behind one proxy; werkzeug's LocalProxy in front of `flask.current_app` would be two.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(app_ctx.app.extensions[_NAME], name)


parts = cast(Parts, _Current())


def install(app: flask.Flask, settings: Settings) -> None:
    """Give an application its parts. Nothing connects or starts before the first request."""
    storage = Storage(settings, connections=settings.server_threads)
    connection = connect_for_requests(settings, connections=2 * settings.server_threads)
    keys = KeyStore(connection)
    app.extensions[_NAME] = Parts(
        settings=settings,
        storage=storage,
        connection=connection,
        jobs=Jobs(connection, settings, storage),
        waiting_room=WaitingRoom(settings.server_threads // 2),
        prediction_room=WaitingRoom(max(1, settings.server_threads // 4)),
        rate_limits=RateLimits(connect_for_limits(settings), settings),
        keys=keys,
        key_ring=KeyRing(keys, partial(key_copy.restore, storage)),
        audit=AuditLog(settings.audit_log),
        refusals=FloodGate(),
        inspectors=Inspectors(settings),
    )


def start(app: flask.Flask) -> None:
    """Start the inspectors of an application, so that its first request does not wait for them."""
    with suppress(NoInspector):
        parts_of(app).inspectors.start()
