"""What an owner sees of jobs: their list, their logs, and events as they change."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import uuid4

import pytest
import redis
import requests
from flask.testing import FlaskClient

from rowcast import errors
from rowcast.api import events
from rowcast.catalog import listing
from rowcast.config import Settings
from rowcast.ids import new_id
from rowcast.jobs import completion, log
from rowcast.jobs.estimates import Work
from rowcast.jobs.queue import LANES, AttemptError, JobQueue
from rowcast.jobs.service import Jobs, Submission
from rowcast.redis_clients import connect_for_requests
from rowcast.store import publications
from rowcast.store.object_store import Storage
from rowcast.store.publications import JobRef, Kind
from server import create_app
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack, StartStack
from tests.support.tables import slow_table, table
from tests.support.waiting import eventually

UNKNOWN = "01a20767-aca3-73f1-8125-5e2a6f7d6e75"
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 (info|warning|error) \S.*"
)


def submission(
    kind: Kind, owner: str, job_id: str, arguments: dict[str, Any]
) -> Submission:
    return Submission(
        JobRef(owner, kind, job_id), arguments, "r1", Work(kind, "boosting", 100, 3)
    )


@dataclass
class Queue:
    """An owner's jobs in a Redis of their own and in the shared store, and what workers would do to
    them."""

    settings: Settings
    storage: Storage
    connection: redis.Redis
    owner: str = field(default_factory=lambda: f"owner-{uuid4().hex[:8]}")

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.connection, self.settings, self.storage)

    def submit(self, kind: Kind = "fit", **more: Any) -> str:
        job_id = new_id()
        arguments = {"dataset_id": UNKNOWN, "model_id": job_id, "options": {}, **more}
        self.jobs.submit(submission(kind, self.owner, job_id, arguments))
        return job_id

    def submit_many(self, n_jobs: int) -> None:
        """Put many predictions into the queue in one round trip."""
        pipeline = self.connection.pipeline(transaction=False)
        jobs = self.jobs
        jobs.queue = JobQueue(pipeline)
        for _ in range(n_jobs):
            arguments = {"dataset_id": UNKNOWN, "model_id": UNKNOWN, "options": {}}
            jobs.submit(submission("predict", self.owner, new_id(), arguments))
        pipeline.execute()

    def start(self, job_id: str) -> None:
        """Let a worker take a job, which must be the next."""
        assert self.jobs.queue.take("test", LANES, 60) == job_id

    def log(self, job_id: str, *lines: str) -> None:
        self.jobs.queue.renew_lease(job_id, 1, 60, "", lines)

    def end(self, job_id: str, error: errors.RowcastError | None = None) -> None:
        queue = self.jobs.queue
        status: Any = "failed" if error else "finished"
        job = queue.job(job_id)
        assert job is not None
        assert completion.end(queue, self.storage, job, status, error, attempt=1)

    def run(
        self, kind: Kind = "fit", error: errors.RowcastError | None = None, **more: str
    ) -> str:
        job_id = self.submit(kind, **more)
        self.start(job_id)
        self.end(job_id, error)
        return job_id

    def forget(self, job_id: str, *, index: bool = True) -> None:
        """Let Redis forget a job; its place in the index goes a little later."""
        self.connection.delete(
            f"rq:job:{job_id}", f"rq:results:{job_id}", f"rowcast:log:{job_id}"
        )
        if index:
            self.connection.zrem(f"rowcast:jobs:{self.owner}", job_id)

    def page(
        self, limit: int = 20, before: str | None = None, **wanted: str
    ) -> listing.Page:
        return listing.jobs(
            self.jobs, self.storage, self.owner, before, limit, wanted=wanted
        )

    def listed(self, limit: int = 20, **wanted: str) -> list[str]:
        """Return the ids on all pages."""
        page = self.page(limit, **wanted)
        ids = [job["id"] for job in page.items]
        while page.next:
            page = self.page(limit, page.next, **wanted)
            ids += [job["id"] for job in page.items]
        return ids


@pytest.fixture
def queue(stack: Stack, redis_server: RedisServer) -> Iterator[Queue]:
    settings = stack.settings(
        redis_url=redis_server.url, api_keys="ann:key-of-ann,bob:key-of-bob"
    )
    with connect_for_requests(settings) as connection:
        connection.flushall()
        yield Queue(settings, stack.storage(), connection)


@pytest.fixture
def ann(queue: Queue) -> FlaskClient:
    """Return a client of a server before that queue, with the key of its owner."""
    queue.owner = "ann"
    client = create_app(queue.settings).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = "Bearer key-of-ann"
    return client


@pytest.fixture
def mixed(queue: Queue) -> list[str]:
    """Return jobs, newest first: one queued, one running, four ended, of which Redis has forgotten
    two."""
    old = [
        queue.run(),
        queue.run("predict", model_id=UNKNOWN),
        queue.run(error=errors.InvalidTable("Bad.")),
    ]
    queue.forget(old[0])
    queue.forget(old[1], index=False)
    new = [
        queue.run("predict", model_id=old[0]),
        queue.submit(),
        queue.submit(dataset_id=old[0]),
    ]
    queue.start(new[1])
    return [*old, *new][::-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_hold_every_job_once_newest_first(
    queue: Queue, mixed: list[str], limit: int
) -> None:
    assert queue.listed(limit) == mixed


def test_a_job_is_listed_as_status_tells_of_it(queue: Queue, mixed: list[str]) -> None:
    statuses = [queue.jobs.status(queue.owner, job_id) for job_id in mixed]
    assert queue.page().items == statuses
    assert {status["status"] for status in statuses if status} == {
        "queued",
        "started",
        "finished",
        "failed",
    }


@pytest.mark.parametrize("limit", [1, 100])
@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        ({"status": "queued"}, [0]),
        ({"status": "started"}, [1]),
        ({"status": "finished"}, [2, 4, 5]),
        ({"status": "failed"}, [3]),
        ({"status": "canceled"}, []),
        ({"kind": "predict"}, [2, 4]),
        ({"kind": "fit", "status": "finished"}, [5]),
        ({"model_id": 5}, [2, 5]),
        ({"dataset_id": 5}, [0]),
        ({"dataset_id": UNKNOWN, "kind": "fit"}, [1, 3, 5]),
    ],
    ids=str,
)
def test_jobs_are_filtered(
    queue: Queue,
    mixed: list[str],
    wanted: dict[str, Any],
    places: list[int],
    limit: int,
) -> None:
    given = {
        name: mixed[value] if isinstance(value, int) else value
        for name, value in wanted.items()
    }
    assert queue.listed(limit, **given) == [mixed[place] for place in places]


def test_what_has_not_ended_is_listed_without_the_store(
    queue: Queue, mixed: list[str]
) -> None:
    away = Storage(
        queue.settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:1"})
    )
    for status, place in (("queued", 0), ("started", 1)):
        page = listing.jobs(
            queue.jobs, away, queue.owner, None, 20, wanted={"status": status}
        )
        assert [job["id"] for job in page.items] == [mixed[place]]
    with pytest.raises(errors.StoreUnavailable):
        listing.jobs(queue.jobs, away, queue.owner, None, 20, wanted={})


def test_a_deleted_job_is_listed_for_as_long_as_status_knows_it(queue: Queue) -> None:
    known, forgotten = queue.run(), queue.run()
    queue.forget(forgotten, index=False)
    for job_id in (known, forgotten):
        queue.storage.write("models", queue.owner, job_id, publications.TOMBSTONE, b"")
    assert [
        queue.jobs.status(queue.owner, job) is None for job in (known, forgotten)
    ] == [False, True]
    assert queue.listed() == [known]


def test_notes_of_results_are_no_jobs(queue: Queue) -> None:
    queue.storage.write(
        "results", queue.owner, new_id(), publications.note_of(new_id()), b""
    )
    assert queue.listed() == []


def test_jobs_of_another_owner_do_not_exist(queue: Queue, ann: FlaskClient) -> None:
    theirs = queue.run()
    queue.owner = "bob"
    jobs = [queue.run(), queue.submit()]
    queue.start(jobs[1])
    for job in jobs:
        assert ann.get(f"/jobs/{job}").get_json()["code"] == "job_not_found"
        assert ann.get(f"/jobs/{job}/log").get_json()["code"] == "job_not_found"
        assert (
            ann.get(f"/status?id={job}&stream=1").get_json()["code"] == "job_not_found"
        )
        queue.forget(job)
        assert ann.get(f"/jobs/{job}/log").status_code == 404
    assert theirs in [each["id"] for each in ann.get("/jobs").get_json()["jobs"]]
    for filters in ("", "?status=started", "?status=queued", f"?model_id={jobs[0]}"):
        assert not {
            each["id"] for each in ann.get(f"/jobs{filters}").get_json()["jobs"]
        } & set(jobs)


def test_the_next_page_of_running_jobs_begins_at_no_other_owners_job(
    queue: Queue,
) -> None:
    other = Queue(queue.settings, queue.storage, queue.connection)
    for _ in range(listing.N_JOBS):
        other.start(other.submit())
    own = queue.submit()
    queue.start(own)
    page = queue.page(1, status="started")
    assert ([job["id"] for job in page.items], page.next) == ([own], None)


def test_jobs_are_answered_with_the_next_page(queue: Queue, ann: FlaskClient) -> None:
    jobs = [queue.submit() for _ in range(3)]
    page = ann.get("/jobs?limit=2&status=queued").get_json()
    assert ([job["position"] for job in page["jobs"]], page["next"]) == (
        [2, 1],
        jobs[1],
    )
    page = ann.get(f"/jobs?limit=2&status=queued&before={jobs[1]}").get_json()
    assert ([job["id"] for job in page["jobs"]], page["next"]) == (jobs[:1], None)
    assert (
        ann.get(f"/jobs/{jobs[0]}").get_json()
        == ann.get(f"/status?id={jobs[0]}").get_json()
    )


@pytest.mark.parametrize(
    "parameters",
    [
        "status=done",
        "kind=train",
        "model_id=7",
        "dataset_id=x",
        "limit=101",
        "before=x",
        "a=b",
    ],
)
def test_wrong_filters_are_refused(ann: FlaskClient, parameters: str) -> None:
    answer = ann.get(f"/jobs?{parameters}")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_request")


def test_an_id_that_is_none_of_ours_begins_no_page(ann: FlaskClient) -> None:
    answer = ann.get(f"/jobs?before={uuid4()}")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_request")


def calls(connection: redis.Redis, work: Callable[[], object]) -> dict[str, int]:
    """Return how often each command of Redis is called by some work, and the kilobytes that it
    answers."""
    connection.config_resetstat()
    work()
    found, stats = connection.info("commandstats"), connection.info("stats")
    called = {
        name.removeprefix("cmdstat_"): about["calls"] for name, about in found.items()
    }
    return {**called, "kilobytes": round(stats["total_net_output_bytes"] / 1000)}


@pytest.mark.parametrize("wanted", [{}, {"status": "queued"}], ids=str)
def test_a_page_of_10000_queued_jobs_costs_what_one_of_500_does(
    queue: Queue, wanted: dict[str, Any]
) -> None:
    queue.submit_many(500)
    few = calls(queue.connection, lambda: queue.page(**wanted))
    queue.submit_many(9_500)
    many = calls(queue.connection, lambda: queue.page(**wanted))
    assert abs(many.pop("kilobytes") - few.pop("kilobytes")) <= 2
    assert many == few
    assert many["hgetall"] <= listing.N_JOBS


def test_ended_jobs_are_found_behind_many_that_wait(queue: Queue) -> None:
    ended = [queue.run(error=errors.InvalidTable("Bad.")), queue.run()]
    queue.submit_many(1_000)
    called = calls(queue.connection, lambda: queue.listed(status="failed"))
    assert called["hgetall"] == 2
    assert [queue.listed(status=status) for status in ("failed", "finished")] == [
        ended[:1],
        ended[1:],
    ]


def test_a_search_for_nothing_ends_soon_with_where_to_go_on(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.submit_many(1_000)
    monkeypatch.setattr(listing, "MAX_PAGE_S", 0.0)
    page = queue.page(model_id=new_id())
    assert page.items == []
    # One batch is looked at, however little patience there is.
    assert page.next
    assert page.next == queue.page(limit=listing.N_JOBS).items[-1]["id"]
    assert queue.listed(model_id=new_id()) == []


# Logs


def test_a_log_is_what_the_job_has_said_so_far_and_stays_when_redis_forgets(
    queue: Queue, ann: FlaskClient
) -> None:
    job = queue.submit()
    assert ann.get(f"/jobs/{job}/log").get_json() == {"id": job, "lines": []}
    queue.start(job)
    queue.log(job, "one", "two")
    assert ann.get(f"/jobs/{job}/log").get_json() == {
        "id": job,
        "lines": ["one", "two"],
    }
    queue.end(job)
    queue.connection.delete(f"rowcast:log:{job}")
    assert ann.get(f"/jobs/{job}/log").get_json()["lines"] == ["one", "two"]
    queue.forget(job)
    assert ann.get(f"/jobs/{job}/log").get_json()["lines"] == ["one", "two"]
    assert "log" not in ann.get(f"/jobs/{job}").get_json()
    assert all("log" not in each for each in ann.get("/jobs").get_json()["jobs"])


def test_a_log_keeps_the_last_500_lines(queue: Queue, ann: FlaskClient) -> None:
    job = queue.submit()
    queue.start(job)
    queue.log(job, *map(str, range(510)))
    assert ann.get(f"/jobs/{job}/log").get_json()["lines"] == [
        str(n) for n in range(10, 510)
    ]


@pytest.mark.parametrize("job_id", [UNKNOWN, str(uuid4())], ids=["unknown", "foreign"])
def test_a_job_that_nobody_knows_has_no_log(ann: FlaskClient, job_id: str) -> None:
    for path in (f"/jobs/{job_id}", f"/jobs/{job_id}/log"):
        assert (ann.get(path).status_code, ann.get(path).get_json()["code"]) == (
            404,
            "job_not_found",
        )


def test_a_fault_of_the_service_is_logged_for_its_owner_without_its_traceback(
    stack: Stack,
) -> None:
    jobs = Jobs(stack.redis(), stack.settings(), stack.storage())
    job = new_id()
    arguments = {"dataset_id": UNKNOWN, "model_id": job, "options": {}}
    jobs.submit(submission("fit", "default", job, arguments))
    assert stack.wait(job)["error"]["code"] == "internal_error"
    lines = stack.get(f"/jobs/{job}/log").json()["lines"]
    assert lines[-1].endswith(" error the job failed")
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert not re.search("Traceback|KeyError|ml.py", "".join(lines))


def test_a_fit_says_what_it_did(stack: Stack, model_id: str) -> None:
    lines = stack.get(f"/jobs/{model_id}/log").json()["lines"]
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert [line for line in lines if "Fitting took" in line]


def recorded(*messages: str, logger: str = "rowcast.test") -> list[str]:
    with log.recorded([], lambda line: None) as lines:
        for message in messages:
            logging.getLogger(logger).info(message)
    return list(lines)


def test_lines_have_a_time_and_a_level_and_are_one_line_each_however_long() -> None:
    lines = recorded("Fitting took 1 s.", "Two\nlines.\r\nAnd a third.", "x" * 10_000)
    assert [line.partition(" info ")[2] for line in lines[:2]] == [
        "Fitting took 1 s.",
        "Two lines. And a third.",
    ]
    assert all(LINE.fullmatch(line) for line in lines)
    assert len(lines[2]) == log.MAX_LINE_CHARACTERS


def test_libraries_are_not_heard_because_they_may_quote_a_table() -> None:
    assert recorded("A cell holds 'CELL-42'.", logger="sklearn") == []


def test_the_owner_sees_what_the_operators_own_log_leaves_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = logging.getLogger()
    handler, level = logging.StreamHandler(), root.level
    root.addHandler(handler)
    root.setLevel("WARNING")
    try:
        assert len(recorded("Fitting took 1 s.")) == 1
        logging.getLogger("rowcast.test").warning("Something is wrong.")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert capsys.readouterr().err == "Something is wrong.\n"
    assert handler.level == logging.NOTSET


# Events


def read(chunks: Iterator[bytes]) -> dict[str, Any]:
    """Return the next event's status."""
    chunk = next(chunk for chunk in chunks if chunk.startswith(b"event: status\n"))
    assert chunk.endswith(b"\n\n")
    data = [line for line in chunk.decode().splitlines() if line.startswith("data: ")]
    return dict(json.loads(data[0].removeprefix("data: ")))


@pytest.fixture
def follow(ann: FlaskClient) -> Iterator[Callable[[str], Iterator[bytes]]]:
    """Return a function that reads a job's events, piece by piece."""
    with contextlib.ExitStack() as open_answers:

        def open_stream(job: str) -> Iterator[bytes]:
            answer = ann.get(f"/status?id={job}&stream=1", buffered=False)
            open_answers.callback(answer.close)
            assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
            chunks: Any = answer.iter_encoded()
            return iter(chunks)

        yield open_stream


def test_events_tell_of_every_change_and_end_with_the_job(
    queue: Queue, follow: Any, ann: Any
) -> None:
    first, job = queue.submit(), queue.submit()
    chunks = follow(job)
    assert next(chunks) == b"retry: 1000\n\n"
    seen = [read(chunks)]
    for change in (
        lambda: queue.start(first),
        lambda: queue.start(job),
        lambda: queue.jobs.queue.renew_lease(
            job, 1, 60, json.dumps({"phase": "fitting", "percent": 40.0})
        ),
        lambda: queue.end(job, errors.InvalidTable("Bad.")),
    ):
        change()
        seen.append(read(chunks))
    expected = [
        ("queued", 1),
        ("queued", 0),
        ("started", None),
        ("started", None),
        ("failed", None),
    ]
    assert [(status["status"], status["position"]) for status in seen] == expected
    assert seen[3]["progress"]["percent"] == 40.0
    assert seen[-1] == ann.get(f"/status?id={job}").get_json()
    assert next(chunks, None) is None


def test_the_time_to_go_alone_is_no_news() -> None:
    status = {"status": "started", "progress": {"percent": 40.0}}
    chunks_seen = list(
        events.stream(
            [{**status, "eta_s": 3.0}, {**status, "eta_s": 2.5}], lambda: True
        )
    )
    assert len([chunk for chunk in chunks_seen if chunk.startswith("event: ")]) == 1


def test_the_end_comes_at_once_and_other_changes_twice_a_second(
    queue: Queue, follow: Any
) -> None:
    job = queue.submit()
    queue.start(job)
    chunks = follow(job)
    read(chunks)
    began = time.monotonic()
    queue.end(job)
    read(chunks)
    assert time.monotonic() - began < 0.4


def test_a_browser_that_has_seen_the_end_is_told_not_to_come_again(
    queue: Queue, follow: Any, ann: Any
) -> None:
    job = queue.run()
    last = [chunk for chunk in follow(job) if chunk.startswith(b"event: ")]
    assert len(last) == 1
    (event_id,) = re.findall(rb"^id: (.*)$", last[0], re.MULTILINE)
    answer = ann.get(
        f"/status?id={job}&stream=1", headers={"Last-Event-ID": event_id.decode()}
    )
    assert (answer.status_code, answer.data) == (204, b"")


def test_a_quiet_stream_is_kept_alive(
    queue: Queue, follow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.0)
    chunks = follow(queue.submit())
    assert [chunk[:1] for chunk in islice(chunks, 4)] == [b"r", b"e", b":", b":"]


def test_a_stream_does_not_last_for_ever(
    queue: Queue, follow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LONGEST_S", 0.7)
    assert len(list(follow(queue.submit()))) == 2


def test_a_stream_outlives_an_outage_of_redis(
    queue: Queue,
    redis_server: RedisServer,
    follow: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.0)
    job = queue.submit()
    chunks = follow(job)
    read(chunks)
    redis_server.kill()
    assert next(chunks).startswith(b":")
    redis_server.start()
    queue.start(job)
    assert read(chunks)["status"] == "started"


@pytest.mark.parametrize(
    "parameters", [f"id={UNKNOWN}&stream=1", "id=x&stream=1", f"id={UNKNOWN}&stream=2"]
)
def test_what_is_wrong_before_a_stream_begins_is_a_problem(
    ann: FlaskClient, parameters: str
) -> None:
    answer = ann.get(f"/status?{parameters}")
    assert answer.mimetype == "application/problem+json"
    assert answer.status_code in (400, 404)


@dataclass
class Listener:
    """A caller that reads a job's events over a real connection."""

    url: str
    job: str

    def __enter__(self) -> Listener:
        self.answer = requests.get(
            f"{self.url}/status",
            params={"id": self.job, "stream": "1"},
            stream=True,
            timeout=30,
        )
        self.lines = self.answer.iter_lines()
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()

    def status(self) -> str:
        """Return the status that the next event tells, empty at the end."""
        data = next((line for line in self.lines if line.startswith(b"data: ")), None)
        return str(json.loads(data.removeprefix(b"data: "))["status"]) if data else ""


def test_events_arrive_as_they_happen(stack: Stack) -> None:
    job = stack.fit(slow_table(), validation="none", params='{"max_iter": 20}')
    with Listener(stack.url, job) as listener:
        assert listener.answer.headers["Content-Type"].startswith("text/event-stream")
        assert listener.answer.headers["Cache-Control"] == "no-store"
        seen = [listener.status()]
        assert stack.status(job)["ended_at"] is None
        while seen[-1]:
            seen.append(listener.status())
        assert seen[-2:] == ["finished", ""]


@pytest.fixture(scope="module")
def narrow(start_stack: StartStack) -> Iterator[Stack]:
    """Return a stack in which two may wait, and nothing happens to jobs."""
    stack = start_stack(
        workers=1, SHORT_WORKERS="0", SERVER_WORKERS="1", SERVER_THREADS="4"
    )
    # Once it has done a job, the worker is there to be suspended.
    stack.fitted(table(50, 2))
    processes = stack.part("worker").children()
    for process in processes:
        process.suspend()
    yield stack
    for process in processes:
        process.resume()
    stack.stop()


def is_seat_free(stack: Stack, job: str) -> bool:
    return "Retry-After" not in stack.get("/status", id=job, wait=0.01).headers


def test_streams_take_seats_and_give_them_back_when_the_caller_hangs_up(
    narrow: Stack,
) -> None:
    job = narrow.fit(table(50, 2))
    with Listener(narrow.url, job) as first, Listener(narrow.url, job) as second:
        assert [first.status(), second.status()] == ["queued", "queued"]
        assert not is_seat_free(narrow, job)
        with Listener(narrow.url, job) as third:
            assert third.answer.headers["Retry-After"] == "1"
            assert [third.status(), third.status()] == ["queued", ""]
    eventually(lambda: is_seat_free(narrow, job), timeout_s=5)


def test_a_stopping_server_ends_its_streams(narrow: Stack) -> None:
    job = narrow.fit(table(50, 2))
    with Listener(narrow.url, job) as listener:
        assert listener.status() == "queued"
        (worker,) = narrow.part("server").children()
        began = time.monotonic()
        worker.terminate()
        assert listener.status() == ""
        assert time.monotonic() - began < 5
    eventually(lambda: narrow.get("/healthz").status_code == 200)


# What Redis keeps


def test_redis_forgets_the_arguments_of_a_job_that_has_ended(queue: Queue) -> None:
    job_id = queue.submit(options={"keep": ["x" * 60_000]})
    queue.jobs.cancel(queue.owner, job_id)
    assert queue.connection.hget(f"rq:job:{job_id}", "data") is None
    assert queue.jobs.status(queue.owner, job_id)


def test_only_the_last_errors_of_attempts_are_kept(queue: Queue) -> None:
    job_id = queue.submit()
    for number in range(1, 61):
        assert queue.jobs.queue.take("worker", LANES, 10) == job_id
        error = AttemptError("worker_lost", "The worker stopped.")
        assert queue.jobs.queue.requeue(job_id, number, error) == "ok"
    status = queue.jobs.status(queue.owner, job_id)
    assert status
    assert [each["attempt"] for each in status["earlier"]] == list(range(11, 61))
