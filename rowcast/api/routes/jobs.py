"""/jobs: what an owner's jobs do, and what they have logged."""

from __future__ import annotations

from typing import Any

import flask

from rowcast.api import lookups
from rowcast.api.answers import JobsAnswer, LogAnswer, StatusAnswer
from rowcast.api.authentication import needs
from rowcast.api.openapi import blueprint
from rowcast.api.schemas import JobsRequest, Named, Nothing
from rowcast.api.state import parts
from rowcast.catalog import listing

api = blueprint("jobs")


@api.get("/jobs", responses={200: JobsAnswer})
@needs("read")
def jobs(query: JobsRequest) -> dict[str, Any]:
    """List the jobs, newest first, each as /status describes it."""
    page = listing.jobs(
        parts.jobs,
        parts.storage,
        flask.g.owner,
        query.before,
        query.limit,
        wanted=query.wanted(),
    )
    return {"jobs": page.items, "next": page.next}


@api.get("/jobs/<id>", responses={200: StatusAnswer})
@needs("read")
def job(path: Named, query: Nothing) -> dict[str, Any]:
    """Describe how a job is doing."""
    return lookups.status(path.id)


@api.get("/jobs/<id>/log", responses={200: LogAnswer})
@needs("read")
def job_log(path: Named, query: Nothing) -> dict[str, Any]:
    """Return what a job itself has logged, so far or in all."""
    flask.g.job_id = path.id
    lines = parts.jobs.log(flask.g.owner, path.id)
    return {"id": path.id, "lines": lookups.existing(lines, path.id)}
