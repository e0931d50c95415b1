"""Owners have quotas, and what they use of them is counted as it comes and goes."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from rowcast.access import quotas
from rowcast.catalog import usage
from rowcast.config import Settings
from rowcast.errors import InvalidTable, QueueFull, QuotaExceeded
from rowcast.ids import new_id
from rowcast.jobs import Status, completion
from rowcast.jobs.estimates import Work
from rowcast.jobs.service import Jobs, Submission
from rowcast.store.object_store import Storage
from rowcast.store.publications import JobRef, Kind
from server import create_app
from tests.support.catalog import put_model
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack

HOUR_S = 3600


class Owner:
    """An owner with buckets and a Redis of a single test, and what it does."""

    def __init__(self, settings: Settings, connection: redis.Redis) -> None:
        self.settings, self.connection = settings, connection
        self.storage = Storage(settings)
        self.jobs = Jobs(connection, settings, self.storage)
        self.storage.ensure_buckets()

    def upload(self, n_bytes: int = 10) -> str:
        dataset_id = new_id()
        self.storage.write("datasets", "ann", dataset_id, "data", b"x" * n_bytes)
        return dataset_id

    def submit(
        self, dataset_id: str, size: int = 10, kind: Kind = "fit", **options: Any
    ) -> str:
        job_id = new_id()
        version = {"size": size, "tag": "t"}
        arguments = {
            "dataset_id": dataset_id,
            "model_id": job_id,
            "options": {"dataset": version, **options},
        }
        work = Work(kind, "boosting", 100, 3)
        self.jobs.submit(Submission(JobRef("ann", kind, job_id), arguments, "r", work))
        return job_id

    def end(self, job_id: str, error: InvalidTable | None = None) -> None:
        job = self.jobs.queue.job(job_id)
        assert job
        status: Status = "failed" if error else "finished"
        completion.end(self.jobs.queue, self.storage, job, status, error)

    def usage(self, *names: str) -> list[int]:
        found = quotas.usage(self.connection, "ann")
        return [found[name] for name in names]

    def recount(self, later_s: float = 0) -> None:
        now = time.time() + later_s
        n_owners = usage.recount(
            self.storage, self.jobs.queue, self.settings, now=now, limit_s=60
        )
        assert n_owners == 1


StartOwner = Callable[..., Owner]


@pytest.fixture
def start(
    stack: Stack, redis_server: RedisServer, connection: redis.Redis
) -> StartOwner:
    def make(**limits: Any) -> Owner:
        name = f"usage-{new_id()}"
        buckets = {
            f"{kind}_bucket": f"{name}-{kind}"
            for kind in ("datasets", "models", "results")
        }
        settings = stack.settings(
            redis_url=redis_server.url, api_keys="ann:key-of-ann", **buckets, **limits
        )
        return Owner(settings, connection)

    return make


def test_a_dataset_counts_once_however_many_jobs_name_it(start: StartOwner) -> None:
    ann = start()
    dataset_id = ann.upload()
    for _ in range(3):
        ann.submit(dataset_id)
    assert ann.usage("datasets", "stored_bytes", "models") == [1, 10, 3]
    assert ann.usage("queued_jobs", "queued_bytes") == [3, 30]


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        ({"max_datasets_per_owner": 2}, QuotaExceeded),
        ({"max_models_per_owner": 2}, QuotaExceeded),
        ({"max_stored_bytes_per_owner": 25}, QuotaExceeded),
        ({"max_queued_per_owner": 2}, QueueFull),
        ({"max_queued_bytes_per_owner": 25}, QueueFull),
    ],
    ids=str,
)
def test_a_job_over_a_quota_is_refused_with_limit_and_usage(
    start: StartOwner, limit: dict[str, int], error: type[QueueFull | QuotaExceeded]
) -> None:
    ann = start(**limit)
    ann.submit(ann.upload())
    ann.submit(ann.upload())
    with pytest.raises(error) as raised:
        ann.submit(ann.upload())
    (name, most) = next(iter(limit.items()))
    used = 20 if "bytes" in name else 2
    assert (raised.value.limit, raised.value.usage) == (most, used)
    assert f"({name.upper()})" in raised.value.detail
    # The refused job has left nothing.
    assert ann.usage("queued_jobs", "datasets", "models") == [2, 2, 2]


def test_an_owner_may_have_limits_of_its_own(start: StartOwner) -> None:
    ann = start(max_models_per_owner=1, quotas="ann:models=2,bob:models=0")
    ann.submit(ann.upload())
    ann.submit(ann.upload())
    with pytest.raises(QuotaExceeded):
        ann.submit(ann.upload())


def test_options_of_queued_jobs_are_bounded_in_all(
    start: StartOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "MAX_QUEUED_OPTION_BYTES", 100_000)
    ann = start()
    dataset_id = ann.upload()

    def submit_until_refused() -> None:
        for _ in range(100):
            ann.submit(dataset_id, keep=[new_id() for _ in range(1_000)])

    with pytest.raises(QueueFull, match="options of your queued jobs"):
        submit_until_refused()
    assert 2 <= ann.usage("queued_jobs")[0] <= 30


def test_what_leaves_the_queue_or_makes_nothing_counts_no_more(
    start: StartOwner,
) -> None:
    ann = start()
    dataset_id = ann.upload()
    ends = [ann.submit(dataset_id), ann.submit(dataset_id)]
    ann.jobs.cancel("ann", ann.submit(dataset_id))
    ann.end(ends[0], InvalidTable("Bad."))
    ann.end(ends[1])
    assert ann.usage("models", "queued_jobs", "queued_bytes") == [1, 0, 0]


def test_a_lost_redis_is_put_right_by_counting_the_store(start: StartOwner) -> None:
    ann = start()
    dataset_id = ann.upload(1_000)
    put_model(ann.storage, "ann", new_id())
    ann.connection.flushall()
    ann.recount()
    assert ann.usage("datasets", "models", "results") == [1, 1, 0]
    n_bytes = ann.usage("stored_bytes")[0]
    assert n_bytes > 1_000
    # It is known from now on, and counted again to the same end.
    ann.submit(dataset_id, size=1_000)
    ann.recount()
    ann.recount(later_s=30 * HOUR_S)
    ann.submit(dataset_id, size=1_000)
    assert ann.usage("datasets", "models", "stored_bytes") == [1, 3, n_bytes]


def test_jobs_that_are_not_over_keep_their_place_in_a_count(start: StartOwner) -> None:
    ann = start()
    dataset_id = ann.upload()
    ann.submit(dataset_id)
    ann.submit(dataset_id, kind="predict")
    ann.connection.hset("rowcast:usage:ann", "queued_bytes", 999)
    ann.recount()
    assert ann.usage("models", "results", "queued_bytes") == [1, 1, 20]


def ask(ann: Owner, method: str, path: str) -> Any:
    client = create_app(ann.settings).test_client()
    headers = {"Authorization": "Bearer key-of-ann"}
    return client.open(path, method=method, headers=headers)


def test_uploads_are_refused_once_the_quota_is_used_up(start: StartOwner) -> None:
    ann = start(max_datasets_per_owner=1, max_stored_bytes_per_owner=100)
    sized = f"/upload?sha256={'0' * 64}&size="
    assert ask(ann, "GET", f"{sized}100").status_code == 200
    assert ask(ann, "GET", f"{sized}101").json["code"] == "quota_exceeded"
    dataset_id = ann.upload()
    ann.submit(dataset_id)
    time.sleep(2.1)
    answer = ask(ann, "GET", "/upload")
    assert (answer.status_code, answer.json["code"]) == (413, "quota_exceeded")
    assert (answer.json["limit"], answer.json["usage"]) == (1, 1)

    # A deletion makes room immediately, and only once.
    assert ask(ann, "DELETE", f"/datasets/{dataset_id}").status_code == 204
    assert ask(ann, "DELETE", f"/datasets/{dataset_id}").status_code == 404
    assert ask(ann, "GET", "/upload").status_code == 200
    assert ann.usage("datasets", "stored_bytes") == [0, 0]


def test_a_form_is_limited_to_what_the_quota_leaves(start: StartOwner) -> None:
    ann = start(max_stored_bytes_per_owner=100, s3_post_forms=True)
    ann.submit(ann.upload())
    time.sleep(2.1)
    fields = ask(ann, "GET", "/upload?form=true").json["fields"]
    conditions = json.loads(base64.b64decode(fields["policy"]))["conditions"]
    assert ["content-length-range", 1, 90] in conditions
    assert ["eq", "$key", fields["key"]] in conditions


def test_a_form_is_refused_where_the_store_knows_none(start: StartOwner) -> None:
    answer = ask(start(), "GET", "/upload?form=true")
    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert "S3_POST_FORMS" in answer.json["hint"]


def test_deleting_what_was_not_counted_makes_no_room(start: StartOwner) -> None:
    ann = start()
    ann.submit(ann.upload())
    unknown = ann.upload()
    assert ask(ann, "DELETE", f"/datasets/{unknown}").status_code == 204
    assert ann.usage("datasets", "stored_bytes") == [1, 10]


def test_two_requests_at_the_same_time_do_not_exceed_a_quota(start: StartOwner) -> None:
    ann = start(max_models_per_owner=5)
    dataset_id = ann.upload()

    def try_submit(_: int) -> bool:
        try:
            ann.submit(dataset_id)
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(try_submit, range(20))) == 5
