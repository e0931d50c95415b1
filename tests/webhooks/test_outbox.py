"""Each webhook is sent at least once, at growing intervals, whichever senders die."""

from __future__ import annotations

import http.server
import itertools
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from rowcast.webhooks import delivery, outbox
from tests.support import ROOT
from tests.support.receiver import Receiver, answering
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually
from tests.support.webhooks import NOW, SECRET, deliver, due, enqueued


def test_webhook_that_arrived_leaves_nothing_in_redis(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    deliver(connection)
    assert connection.keys() == []
    assert deliver(connection, NOW + 2 * outbox.RETRY_FOR_S) == 0
    assert len(receiver.requests) == 1


def test_webhook_is_not_sent_before_it_is_due(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    assert deliver(connection, NOW - 1) == 0
    assert deliver(connection) == 1


def test_webhook_is_kept_in_redis_for_longer_than_it_is_tried(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    waiting: Any = connection.zrange(outbox.DUE, 0, -1, withscores=True)
    ((name, _),) = waiting
    assert connection.ttl(f"rowcast:webhook:{name.decode()}") > outbox.RETRY_FOR_S
    deliver(connection)
    assert connection.ttl(f"rowcast:webhook:{name.decode()}") < 0


def test_second_url_of_a_job_does_not_replace_the_first(
    connection: redis.Redis, receiver: Receiver
) -> None:
    job_id = enqueued(connection, receiver.url + "?first")
    outbox.enqueue(connection, job_id, "acme", receiver.url + "?second", NOW)
    assert deliver(connection) == 2
    assert len({path for path, _, _ in receiver.requests}) == 2
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == {job_id}


def test_failures_are_tried_again_at_growing_intervals_until_the_last_try(
    connection: redis.Redis, receiver: Receiver
) -> None:
    receiver.answer = answering(500)
    enqueued(connection, receiver.url)
    tries = []
    while (now := due(connection)) is not None:
        deliver(connection, now)
        tries.append(now)
    assert len(receiver.requests) == len(tries)
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    for pause, longest in zip(pauses, (5, 15, 45, 135, 405), strict=False):
        # The second is what a try itself takes.
        assert 0.8 * longest <= pause <= longest + 1
    assert max(pauses) <= 601
    assert tries[-1] == NOW + outbox.RETRY_FOR_S
    assert connection.keys() == []


def test_every_try_has_the_same_id_and_its_own_time(
    connection: redis.Redis, receiver: Receiver
) -> None:
    receiver.answer = answering(503)
    job_id = enqueued(connection, receiver.url)
    times = [NOW, NOW + 60, NOW + 600]
    for now in times:
        assert deliver(connection, now) == 1
    signed = [headers for _, headers, _ in receiver.requests]
    assert {headers["webhook-id"] for headers in signed} == {job_id}
    assert [int(headers["webhook-timestamp"]) for headers in signed] == times


def test_webhooks_that_fail_together_are_not_tried_again_together(
    connection: redis.Redis, receiver: Receiver
) -> None:
    receiver.answer = answering(500)
    for _ in range(5):
        enqueued(connection, receiver.url)
    deliver(connection)
    waiting: Any = connection.zrange(outbox.DUE, 0, -1, withscores=True)
    assert len({round(time, 1) for _, time in waiting}) > 1


@pytest.mark.parametrize(
    ("asked", "pause_s"), [("100", 100), ("1", 5), ("86400", 600), ("soon", 5)]
)
def test_retry_after_is_respected_up_to_ten_minutes(
    asked: str, pause_s: float, connection: redis.Redis, receiver: Receiver
) -> None:
    receiver.answer = answering(429, Retry_After=asked)
    enqueued(connection, receiver.url)
    deliver(connection)
    assert 0.8 * pause_s <= (due(connection) or 0) - NOW < pause_s + 1


def test_late_first_try_is_made_and_is_the_last(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    receiver.answer = answering(500)
    assert deliver(connection, NOW + 2 * outbox.RETRY_FOR_S) == 1
    assert len(receiver.requests) == 1
    assert due(connection) is None


def test_several_threads_deliver_each_once(
    connection: redis.Redis, receiver: Receiver
) -> None:
    job_ids = {enqueued(connection, receiver.url) for _ in range(40)}
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: deliver(connection), range(8)))
    assert sum(counts) == len(receiver.requests) == 40
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == job_ids


def test_webhook_of_a_killed_maintenance_process_is_sent_again(
    connection: redis.Redis, receiver: Receiver, redis_server: RedisServer
) -> None:
    is_over = threading.Event()
    receiver.answer = lambda handler: is_over.wait(30)
    job_id = enqueued(connection, receiver.url)
    script = f"""
import redis
from rowcast.webhooks import delivery
from rowcast.config import Settings
settings = Settings(webhook_secrets={SECRET!r}, webhook_allow_private=True)
connection = redis.Redis(unix_socket_path={str(redis_server.socket)!r})
delivery.deliver_next(connection, settings, lambda owner, job_id: {{"id": job_id}}, {NOW})
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as maintenance:
        eventually(lambda: receiver.requests)
        maintenance.send_signal(signal.SIGKILL)
    is_over.set()
    receiver.answer = answering(200)
    assert deliver(connection, NOW + outbox.LEASE_S - 1) == 0
    assert deliver(connection, NOW + outbox.LEASE_S) == 1
    ids = [headers["webhook-id"] for _, headers, _ in receiver.requests]
    assert ids == [job_id, job_id]


def test_sender_whose_lease_has_ended_changes_nothing(
    connection: redis.Redis, receiver: Receiver
) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        receiver.answer = answering(500)
        if len(receiver.requests) == 1:
            # While the first sender waits for its answer, another claims the webhook.
            deliver(connection, NOW + outbox.LEASE_S)
            postponed.append(due(connection))
        receiver.answer(handler)

    postponed: list[float | None] = []
    receiver.answer = answer
    enqueued(connection, receiver.url)
    deliver(connection)
    assert len(receiver.requests) == 2
    assert postponed == [due(connection)]


def test_webhook_that_another_sender_delivered_does_not_come_back(
    connection: redis.Redis, receiver: Receiver
) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        receiver.answer = answering(200)
        deliver(connection, NOW + outbox.LEASE_S)
        answering(500)(handler)

    receiver.answer = answer
    enqueued(connection, receiver.url)
    deliver(connection)
    assert len(receiver.requests) == 2
    assert due(connection) is None


def test_webhooks_to_a_slow_receiver_are_sent_after_its_rest(
    connection: redis.Redis, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "SLOW_S", 0.0)
    monkeypatch.setattr(delivery, "REST_FACTOR", 10_000.0)
    enqueued(connection, receiver.url)
    enqueued(connection, receiver.url.replace("hook", "another"))
    other = enqueued(connection, receiver.url, owner="other")
    assert deliver(connection) == 2
    assert [headers["webhook-id"] for _, headers, _ in receiver.requests][1:] == [other]
    connection.delete(*connection.keys("rowcast:webhooks:resting:*"))
    assert deliver(connection, NOW + 3600) == 1
    assert receiver.requests[2][0] == "/another?token=of-the-receiver"
