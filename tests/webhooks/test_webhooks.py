"""Webhooks arrive signed, at least once and at nobody but the internet: real receivers, a real
Redis."""

from __future__ import annotations

import base64
import http.server
import ipaddress
import itertools
import json
import logging
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from standardwebhooks import Webhook, WebhookVerificationError

from rowcast.config import ConfigurationError, Settings
from rowcast.errors import InvalidRequest, StoreUnavailable
from rowcast.ids import new_id
from rowcast.local import programs
from rowcast.webhooks import delivery
from tests.support import ROOT
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
# A fake clock's time; far from now, as nothing here but the signature's age hangs on it.
NOW = 1_000_000.0


def settings(**changes: Any) -> Settings:
    return Settings(
        **{"webhook_secrets": SECRET, "webhook_allow_private": True, **changes}
    )


def status(owner: str, job_id: str) -> dict[str, Any]:
    """Answer what /status would."""
    return {
        "id": job_id,
        "kind": "fit",
        "status": "finished",
        "ended_at": NOW,
        "owner_asked": owner,
    }


class Receiver:
    """A web server on loopback that notes what is POSTed to it."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answer: Callable[[http.server.BaseHTTPRequestHandler], Any] = answering(
            204
        )
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook?token=of-the-receiver"
        threading.Thread(
            target=self.server.serve_forever, args=(0.01,), daemon=True
        ).start()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((self.path, headers, body))
                receiver.answer(self)

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

        return Handler


def answering(
    code: int, **headers: str
) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return answer


@pytest.fixture
def start_receiver() -> Iterator[Callable[[], Receiver]]:
    receivers: list[Receiver] = []

    def start() -> Receiver:
        receivers.append(Receiver())
        return receivers[-1]

    yield start
    for receiver in receivers:
        receiver.server.shutdown()
        receiver.server.server_close()


@pytest.fixture
def receiver(start_receiver: Callable[[], Receiver]) -> Receiver:
    return start_receiver()


def deliver(connection: redis.Redis, now: float = NOW, **changes: Any) -> int:
    """Send all that is due at a time, and return how much that was."""
    send = partial(delivery.deliver_next, connection, settings(**changes), status, now)
    return sum(1 for _ in iter(send, False))


def enqueued(
    connection: redis.Redis, url: str, now: float = NOW, owner: str = "acme"
) -> str:
    job_id = new_id()
    delivery.enqueue(connection, job_id, owner, url, now)
    return job_id


def due(connection: redis.Redis) -> float | None:
    """Return when the only webhook there is is due."""
    times = [
        time for _, time in connection.zrange(delivery.DUE, 0, -1, withscores=True)
    ]
    return times[0] if times else None


# What arrives.


def test_final_status_is_posted(connection: redis.Redis, receiver: Receiver) -> None:
    job_id = enqueued(connection, receiver.url)
    assert deliver(connection) == 1
    ((path, headers, body),) = receiver.requests
    assert path == "/hook?token=of-the-receiver"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == status("acme", job_id)


def test_nothing_is_left_once_it_has_arrived(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    deliver(connection)
    assert connection.keys() == []
    assert deliver(connection, NOW + 7200) == 0
    assert len(receiver.requests) == 1


def test_webhook_is_not_sent_before_it_is_due(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    assert deliver(connection, NOW - 1) == 0
    assert deliver(connection) == 1


def test_url_is_kept_until_the_last_try(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    ((name, _),) = connection.zrange(delivery.DUE, 0, -1, withscores=True)
    assert connection.ttl(f"rowcast:webhook:{name.decode()}") > delivery.GIVE_UP_S
    deliver(connection)
    assert connection.ttl(f"rowcast:webhook:{name.decode()}") < 0


def test_one_more_url_of_a_job_does_not_take_the_place_of_the_first(
    connection: redis.Redis, receiver: Receiver
) -> None:
    job_id = enqueued(connection, receiver.url + "?first")
    delivery.enqueue(connection, job_id, "acme", receiver.url + "?second", NOW)
    assert deliver(connection) == 2
    assert len({path for path, _, _ in receiver.requests}) == 2
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == {job_id}


# Signatures.


def test_signature_is_that_of_standard_webhooks(
    connection: redis.Redis, receiver: Receiver
) -> None:
    job_id = enqueued(connection, receiver.url, time.time())
    deliver(connection, time.time())
    ((_, headers, body),) = receiver.requests
    assert Webhook(SECRET).verify(body, headers)["id"] == job_id
    assert headers["webhook-id"] == job_id
    for forged_body, secret in ((body + b" ", SECRET), (body, OTHER)):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(forged_body, headers)


def test_every_secret_signs_so_that_they_can_be_changed(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    deliver(connection, time.time(), webhook_secrets=f"{SECRET},{OTHER}")
    ((_, headers, body),) = receiver.requests
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OTHER):
        Webhook(secret).verify(body, headers)


def test_owner_with_secrets_of_its_own_shares_none(
    connection: redis.Redis, receiver: Receiver
) -> None:
    for owner in ("acme", "other"):
        enqueued(connection, receiver.url, owner=owner)
        deliver(connection, time.time(), webhook_secrets=f"{SECRET},acme:{OTHER}")
    for (_, headers, body), own, foreign in zip(
        receiver.requests, (OTHER, SECRET), (SECRET, OTHER), strict=True
    ):
        Webhook(own).verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(foreign).verify(body, headers)


def test_documented_check_takes_ours_and_refuses_others(
    connection: redis.Redis, receiver: Receiver
) -> None:
    text = (ROOT / "docs" / "http_api.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    enqueued(connection, receiver.url)
    for sent_at, secrets in (
        (time.time(), f"{SECRET},{OTHER}"),
        (time.time() - 400, SECRET),
    ):
        deliver(connection, sent_at, webhook_secrets=secrets)
        enqueued(connection, receiver.url)
    (_, headers, body), (_, old_headers, old_body) = receiver.requests
    assert all(names["is_genuine"](secret, headers, body) for secret in (SECRET, OTHER))
    assert not names["is_genuine"](SECRET, headers, body + b" ")
    assert not names["is_genuine"]("whsec_" + "A" * 32, headers, body)
    assert not names["is_genuine"](SECRET, old_headers, old_body)


# Trying again.


def test_failures_are_tried_again_for_an_hour_at_growing_intervals(
    connection: redis.Redis, receiver: Receiver
) -> None:
    receiver.answer = answering(500)
    enqueued(connection, receiver.url)
    tries, now = [NOW], due(connection)
    while now is not None:
        deliver(connection, now)
        now = due(connection)
        tries += [now] if now else []
    assert len(receiver.requests) == len(tries)
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    for pause, longest in zip(pauses, (5, 15, 45, 135, 405), strict=False):
        # The second is what a try itself takes.
        assert 0.8 * longest <= pause <= longest + 1
    assert max(pauses) <= 601
    assert tries[-1] == NOW + 3600
    assert connection.keys() == []


def test_id_stays_and_the_time_does_not(
    connection: redis.Redis, receiver: Receiver
) -> None:
    receiver.answer = answering(503)
    job_id = enqueued(connection, receiver.url)
    times = [NOW, NOW + 60, NOW + 600]
    for now in times:
        assert deliver(connection, now) == 1
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == {job_id}
    assert [
        int(headers["webhook-timestamp"]) for _, headers, _ in receiver.requests
    ] == times


def test_receivers_that_fail_together_come_back_apart(
    connection: redis.Redis, receiver: Receiver
) -> None:
    receiver.answer = answering(500)
    for _ in range(5):
        enqueued(connection, receiver.url)
    deliver(connection)
    assert (
        len(
            {
                round(time, 1)
                for _, time in connection.zrange(delivery.DUE, 0, -1, withscores=True)
            }
        )
        > 1
    )


@pytest.mark.parametrize("code", [200, 202, 204, 299, 410])
def test_answer_that_ends_it(
    code: int, connection: redis.Redis, receiver: Receiver
) -> None:
    receiver.answer = answering(code)
    enqueued(connection, receiver.url)
    deliver(connection)
    assert due(connection) is None


@pytest.mark.parametrize("code", [300, 304, 400, 401, 404, 429, 500, 503])
def test_answer_that_does_not_end_it(
    code: int, connection: redis.Redis, receiver: Receiver
) -> None:
    receiver.answer = answering(code)
    enqueued(connection, receiver.url)
    deliver(connection)
    assert NOW + 4 <= (due(connection) or 0) < NOW + 7


@pytest.mark.parametrize(
    ("asked", "pause_s"), [("100", 100), ("1", 5), ("86400", 600), ("soon", 5)]
)
def test_pause_that_the_receiver_asks_for(
    asked: str, pause_s: float, connection: redis.Redis, receiver: Receiver
) -> None:
    receiver.answer = answering(429, Retry_After=asked)
    enqueued(connection, receiver.url)
    deliver(connection)
    assert 0.8 * pause_s <= (due(connection) or 0) - NOW < pause_s + 1


def test_redirect_is_not_followed(
    connection: redis.Redis, start_receiver: Callable[[], Receiver]
) -> None:
    first, second = start_receiver(), start_receiver()
    first.answer = answering(307, Location=second.url)
    enqueued(connection, first.url)
    deliver(connection)
    assert (len(first.requests), second.requests) == (1, [])
    assert due(connection)


def test_nobody_listens(
    connection: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    enqueued(connection, f"http://127.0.0.1:{port}/")
    deliver(connection)
    assert due(connection)
    assert "ConnectionRefusedError; again in" in caplog.text


def test_first_try_is_made_however_late(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    receiver.answer = answering(500)
    assert deliver(connection, NOW + 2 * 3600) == 1
    assert len(receiver.requests) == 1
    assert due(connection) is None


def test_status_that_cannot_be_read_is_read_later(
    connection: redis.Redis, receiver: Receiver
) -> None:
    def unreadable(owner: str, job_id: str) -> dict[str, Any]:
        raise StoreUnavailable

    enqueued(connection, receiver.url)
    assert delivery.deliver_next(connection, settings(), unreadable, NOW)
    assert receiver.requests == []
    assert deliver(connection, NOW + 60) == 1
    assert len(receiver.requests) == 1


def test_end_of_a_deleted_job_is_not_sent(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    assert delivery.deliver_next(
        connection, settings(), lambda owner, job_id: None, NOW
    )
    assert receiver.requests == []
    assert connection.keys() == []


def test_nothing_is_sent_without_a_signature(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    deliver(connection, webhook_secrets="")
    assert receiver.requests == []
    assert deliver(connection, NOW + 60) == 1
    assert len(receiver.requests) == 1


# Several maintenance processes, and dead ones.


def test_several_threads_deliver_each_once(
    connection: redis.Redis, receiver: Receiver
) -> None:
    job_ids = {enqueued(connection, receiver.url) for _ in range(40)}
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: deliver(connection), range(8)))
    assert sum(counts) == len(receiver.requests) == 40
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == job_ids


def test_what_a_killed_maintenance_process_had_begun_is_sent_again(
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
    assert deliver(connection, NOW + delivery.LEASE_S - 1) == 0
    assert deliver(connection, NOW + delivery.LEASE_S) == 1
    assert [headers["webhook-id"] for _, headers, _ in receiver.requests] == [
        job_id,
        job_id,
    ]


def test_maintenance_process_that_wakes_up_too_late_changes_nothing(
    connection: redis.Redis, receiver: Receiver
) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        receiver.answer = answering(500)
        if len(receiver.requests) == 1:
            # While the first maintenance process waits for its answer, another takes over.
            deliver(connection, NOW + delivery.LEASE_S)
            postponed.append(due(connection))
        receiver.answer(handler)

    postponed: list[float | None] = []
    receiver.answer = answer
    enqueued(connection, receiver.url)
    deliver(connection)
    assert len(receiver.requests) == 2
    assert postponed == [due(connection)]


def test_delivered_by_another_it_does_not_come_back(
    connection: redis.Redis, receiver: Receiver
) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        receiver.answer = answering(200)
        deliver(connection, NOW + delivery.LEASE_S)
        answering(500)(handler)

    receiver.answer = answer
    enqueued(connection, receiver.url)
    deliver(connection)
    assert len(receiver.requests) == 2
    assert due(connection) is None


@pytest.fixture
def threads(connection: redis.Redis) -> Iterator[list[threading.Thread]]:
    stopped = threading.Event()
    threads = delivery.start(connection, settings(), status, stopped)
    yield threads
    stopped.set()
    for thread in threads:
        thread.join(20)


def test_receiver_that_hangs_holds_up_no_other(
    connection: redis.Redis,
    start_receiver: Callable[[], Receiver],
    threads: list[threading.Thread],
) -> None:
    hanging, good = start_receiver(), start_receiver()
    is_over = threading.Event()
    hanging.answer = lambda handler: is_over.wait(30)
    enqueued(connection, hanging.url, time.time())
    eventually(lambda: hanging.requests)
    enqueued(connection, good.url, time.time())
    eventually(lambda: good.requests, timeout_s=5)
    assert due(connection)
    is_over.set()


def test_many_webhooks_to_one_that_hangs_hold_up_no_other(
    connection: redis.Redis,
    start_receiver: Callable[[], Receiver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hanging, good = start_receiver(), start_receiver()
    is_over = threading.Event()
    hanging.answer = lambda handler: is_over.wait(60)
    monkeypatch.setattr(delivery, "EXCHANGE_S", 1.0)
    monkeypatch.setattr(delivery, "SLOW_S", 0.5)
    monkeypatch.setattr(delivery, "REST", 60.0)
    for _ in range(20 * delivery.N_THREADS):
        enqueued(connection, hanging.url, time.time())
    stopped = threading.Event()
    threads = delivery.start(connection, settings(), status, stopped)
    eventually(lambda: len(hanging.requests) >= delivery.N_THREADS)
    # One by one they would take twenty seconds.
    enqueued(connection, good.url, time.time(), owner="other")
    eventually(lambda: good.requests, timeout_s=8)
    is_over.set()
    stopped.set()
    for thread in threads:
        thread.join(20)


def test_what_waits_for_a_slow_receiver_is_sent_once_it_has_rested(
    connection: redis.Redis, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "SLOW_S", 0.0)
    monkeypatch.setattr(delivery, "REST", 10_000.0)
    enqueued(connection, receiver.url)
    enqueued(connection, receiver.url.replace("hook", "another"))
    other = enqueued(connection, receiver.url, owner="other")
    assert deliver(connection) == 2
    assert [headers["webhook-id"] for _, headers, _ in receiver.requests][1:] == [other]
    connection.delete(*connection.keys("rowcast:webhooks:resting:*"))
    assert deliver(connection, NOW + 3600) == 1
    assert receiver.requests[2][0] == "/another?token=of-the-receiver"


def test_threads_survive_what_nobody_foresaw(
    connection: redis.Redis, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(owner: str, job_id: str) -> dict[str, Any]:
        calls.append(job_id)
        if len(calls) == 1:
            raise ZeroDivisionError
        return status(owner, job_id)

    calls: list[str] = []
    enqueued(connection, receiver.url, time.time())
    stopped = threading.Event()
    threads = delivery.start(connection, settings(), broken, stopped)
    eventually(lambda: calls)
    enqueued(connection, receiver.url, time.time())
    eventually(lambda: receiver.requests)
    stopped.set()
    for thread in threads:
        thread.join(20)
    assert "a webhook could not be sent" in caplog.text


# Receivers that take their time.


@pytest.mark.parametrize(
    ("start", "is_delivered"),
    [
        (b"HTTP/1.", False),
        (b"HTTP/1.1 200 OK\r\nX: ", False),
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
    ],
)
def test_answer_that_drips_is_cut_off(
    start: bytes,
    is_delivered: bool,
    connection: redis.Redis,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(start)
        with suppress(OSError):
            while not is_over.wait(0.05):
                handler.wfile.write(b"1")

    is_over = threading.Event()
    monkeypatch.setattr(delivery, "EXCHANGE_S", 0.5)
    receiver.answer = drip
    enqueued(connection, receiver.url)
    started_at = time.monotonic()
    deliver(connection)
    is_over.set()
    assert time.monotonic() - started_at < 3
    assert bool(due(connection)) is not is_delivered
    assert ("failed, TimeoutError" in caplog.text) is not is_delivered


def test_long_answer_is_not_read(connection: redis.Redis, receiver: Receiver) -> None:
    def pour(handler: http.server.BaseHTTPRequestHandler) -> None:
        answering(200)(handler)
        with suppress(OSError):
            for _ in range(200):
                handler.wfile.write(b"x" * 1_000_000)
                poured.append(1_000_000)

    poured: list[int] = []
    receiver.answer = pour
    enqueued(connection, receiver.url)
    deliver(connection)
    assert due(connection) is None
    assert sum(poured) < 50_000_000


def test_a_delivery_takes_less_than_its_lease() -> None:
    longest_s = delivery.PREPARE_S + 2 * delivery.CONNECT_S + delivery.EXCHANGE_S
    assert longest_s < delivery.LEASE_S


# Which URLs.

PRIVATE = [
    "http://localhost",
    "http://LOCALHOST.:8000/hook",
    "http://hook.localhost/",
    "http://localhost.localdomain/",
    "http://127.0.0.1",
    "http://127.8.8.8:80/",
    "http://127.0.0.1./",
    "http://0.0.0.0",
    "http://10.1.2.3",
    "http://100.64.0.1",
    "http://169.254.169.254/latest/meta-data",
    "http://172.16.0.1",
    "http://172.31.255.255",
    "http://192.0.0.192",
    "http://192.168.1.1",
    "http://198.18.0.1",
    "http://224.0.0.1",
    "http://255.255.255.255",
    "http://168.63.129.16",
    "http://[::]",
    "http://[::1]",
    "http://[0:0:0:0:0:0:0:1]:8000/",
    "http://[::127.0.0.1]",
    "http://[::ffff:127.0.0.1]",
    "http://[::ffff:7f00:1]",
    "http://[64:ff9b::127.0.0.1]",
    "http://[64:ff9b::a9fe:a9fe]",
    "http://[64:ff9b:1::1]",
    "http://[2002:7f00:1::]",
    "http://[2001::1]",
    "http://[2001:db8::1]",
    "http://[fd00::]",
    "http://[fd00:ec2::254]",
    "http://[fe80::1]",
    "http://[fec0::1]",
    "http://[ff02::1]",
]
PUBLIC = [
    "https://example.org",
    "https://example.org:8443/hook?token=x",
    "http://sub.example-of_names.org./",
    "https://xn--bcher-kva.example/",
    "HTTPS://EXAMPLE.ORG/",
    "http://93.184.216.34/",
    "http://172.32.0.1",
    "http://[2606:4700:4700::1111]/",
    "http://[64:ff9b::5db8:d822]/",
    "https://example.org/" + "x" * 1980,
]
MALFORMED = [
    "",
    "example.org",
    "ftp://example.org",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "http://",
    "http:///path",
    "http://:80",
    "https://user@example.org",
    "https://user:password@example.org",
    "https://example.org@127.0.0.1",
    "https://example.org\\@127.0.0.1/",
    "https://example.org#fragment",
    "https://example.org:0",
    "https://example.org:65536",
    "https://example.org:",
    "https://example.org:http",
    "https://exa mple.org",
    "https://example.org/\r\nHost: 127.0.0.1",
    "https://example.org/a\tb",
    "https://b\u00fccher.example",
    "https://\uff11\uff12\uff17.0.0.1",
    "https://-example.org",
    "https://example..org",
    "https://" + "a." * 127 + "org",
    "https://" + "a" * 64 + ".org",
    "https://example.org/" + "x" * 1981,
    "http://0x7f.1",
    "http://0x7f000001",
    "http://0177.0.0.1",
    "http://127.1",
    "http://127.0.0.1.1",
    "http://2130706433",
    "http://2130706433.",
    "http://127.0.0.0x1",
    "http://256.1.1.1",
    "http://[127.0.0.1]",
    "http://[::1",
    "http://[::1]x",
    "http://[fe80::1%25eth0]",
    "http://::1/",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_private_address_is_refused_unless_allowed(url: str) -> None:
    with pytest.raises(
        InvalidRequest, match=r"^callback_url must not lead to a private address\.$"
    ):
        delivery.check(url, settings(webhook_allow_private=False), "acme")
    delivery.check(url, settings(), "acme")


@pytest.mark.parametrize("url", PUBLIC)
def test_public_url_is_taken(url: str) -> None:
    delivery.check(url, settings(webhook_allow_private=False), "acme")


@pytest.mark.parametrize("url", MALFORMED)
@pytest.mark.parametrize("allow_private", [True, False])
def test_malformed_url_is_refused(url: str, allow_private: bool) -> None:
    with pytest.raises(InvalidRequest, match=r"^callback_url must "):
        delivery.check(url, settings(webhook_allow_private=allow_private), "acme")


def test_every_problem_is_listed_and_the_url_not_quoted() -> None:
    with pytest.raises(InvalidRequest) as caught:
        delivery.check(
            "https://user:THESECRET@example.org?THESECRET#THESECRET", settings(), "acme"
        )
    assert len(caught.value.errors) == 2
    assert "THESECRET" not in f"{caught.value.cause()}"


@pytest.mark.parametrize("secrets", ["", f"other:{SECRET}"])
def test_url_is_refused_while_nothing_would_sign(secrets: str) -> None:
    with pytest.raises(InvalidRequest, match="no secret to sign") as caught:
        delivery.check("https://example.org", settings(webhook_secrets=secrets), "acme")
    assert "WEBHOOK_SECRETS" in caught.value.hint


def test_check_asks_no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    delivery.check("https://example.org", settings(webhook_allow_private=False), "acme")


# Names, looked up right before sending.

Names = dict[str, list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> tuple[Names, list[str]]:
    """Return names that resolve as a test says, and a list of those that were looked up."""
    names: Names = {}
    looked_up: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host not in names:
            return real(host, port, *rest, **more)
        looked_up.append(host)
        return [
            answer
            for address in names[host]
            for answer in real(address, port, *rest, **more)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return names, looked_up


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["::1"]],
)
def test_name_of_a_private_address_is_not_called(
    addresses: list[str],
    names: tuple[Names, list[str]],
    connection: redis.Redis,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Stands for an address of the internet, which no test may call.
    monkeypatch.setattr(
        delivery, "_PRIVATE_IPV4", [ipaddress.IPv4Network("127.0.0.1/32")]
    )
    names[0]["receiver.example"] = addresses
    enqueued(connection, f"http://receiver.example:{receiver.port}/")
    deliver(connection, webhook_allow_private=False)
    assert receiver.requests == []
    assert "failed, PrivateAddress" in caplog.text


def test_literal_private_address_in_redis_is_not_called(
    connection: redis.Redis, receiver: Receiver
) -> None:
    enqueued(connection, receiver.url)
    deliver(connection, webhook_allow_private=False)
    assert receiver.requests == []


def test_name_is_looked_up_once_and_the_address_called_under_the_name(
    names: tuple[Names, list[str]], connection: redis.Redis, receiver: Receiver
) -> None:
    names[0]["receiver.example"] = ["127.0.0.1"]
    enqueued(connection, f"http://Receiver.Example:{receiver.port}/")
    deliver(connection)
    ((path, headers, _),) = receiver.requests
    assert (path, headers["host"]) == ("/", f"Receiver.Example:{receiver.port}")
    assert names[1] == ["receiver.example"]


@pytest.mark.parametrize("addresses", [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]])
def test_other_kind_of_address_is_called_where_one_does_not_answer(
    addresses: list[str],
    names: tuple[Names, list[str]],
    connection: redis.Redis,
    receiver: Receiver,
) -> None:
    names[0]["receiver.example"] = addresses
    enqueued(connection, f"http://receiver.example:{receiver.port}/")
    deliver(connection)
    assert len(receiver.requests) == 1


def test_name_that_leads_nowhere_is_tried_again(connection: redis.Redis) -> None:
    enqueued(connection, "http://nowhere.invalid/")
    deliver(connection)
    assert due(connection)


def test_no_proxy_is_asked(
    connection: redis.Redis,
    start_receiver: Callable[[], Receiver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver, proxy = start_receiver(), start_receiver()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    enqueued(connection, receiver.url)
    deliver(connection)
    assert (len(receiver.requests), proxy.requests) == (1, [])


def test_log_names_the_host_and_nothing_more_of_a_url(
    connection: redis.Redis, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    enqueued(connection, receiver.url)
    deliver(connection)
    receiver.answer = answering(500)
    enqueued(connection, receiver.url)
    deliver(connection)
    assert "webhook to 127.0.0.1, try 1: answered 204" in caplog.text
    assert "webhook to 127.0.0.1, try 1: answered 500; again in" in caplog.text
    assert "hook?" not in caplog.text
    assert "token" not in caplog.text


# Encrypted.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a certificate of receiver.example, with its key in the same file."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("there is no openssl on PATH to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]
    command += [
        "-subj",
        "/CN=receiver.example",
        "-addext",
        "subjectAltName=DNS:receiver.example",
    ]
    command += ["-days", "2", "-keyout", f"{path}.key", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    with path.open("a") as file:
        file.write(Path(f"{path}.key").read_text())
    return path


@pytest.fixture
def encrypted(
    receiver: Receiver, certificate: Path
) -> tuple[Receiver, list[str | None]]:
    """Return a receiver that speaks TLS, and a list of the names that it was called by."""
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _, name, __: asked.append(name)
    receiver.server.socket = context.wrap_socket(
        receiver.server.socket, server_side=True
    )
    # It says so of every client that does not trust it.
    receiver.server.handle_error = lambda *_: None  # type: ignore[method-assign]
    return receiver, asked


@pytest.mark.parametrize(
    ("name", "is_trusted", "arrives"),
    [
        ("receiver.example", True, True),
        ("receiver.example", False, False),
        ("another.example", True, False),
        ("127.0.0.1", True, False),
    ],
)
def test_certificate_must_be_that_of_the_host_of_the_url(
    name: str,
    is_trusted: bool,
    arrives: bool,
    encrypted: tuple[Receiver, list[str | None]],
    names: tuple[Names, list[str]],
    connection: redis.Redis,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver, asked = encrypted
    names[0].update(
        {f"{name}.example": ["127.0.0.1"] for name in ("receiver", "another")}
    )
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    enqueued(connection, f"https://{name}:{receiver.port}/hook")
    deliver(connection)
    assert len(receiver.requests) == (1 if arrives else 0)
    assert bool(due(connection)) is not arrives
    assert asked == [None if name == "127.0.0.1" else name]


# Settings, and the secret of a stack without Docker.


@pytest.mark.parametrize(
    "value",
    [
        "secret",
        "whsec_=",
        "whsec_THESECRET",
        SECRET[:-1],
        SECRET.removeprefix("whsec_"),
        f"{SECRET},{OTHER[:-1]}",
        f"Acme:{SECRET}",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
    ],
)
def test_bad_secret_is_refused_by_name(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRETS", value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment()
    assert str(caught.value).startswith("WEBHOOK_SECRETS: each entry must be whsec_")
    assert value not in str(caught.value)


def test_secrets_do_not_print() -> None:
    given = settings(webhook_secrets=f"{SECRET},acme:{OTHER}")
    for secret in (SECRET, OTHER):
        assert (
            secret
            not in f"{given} {given!r} {given.model_dump()} {given.model_dump_json()}"
        )


def test_stack_makes_a_secret_of_its_own(tmp_path: Path) -> None:
    made = programs.Keys.kept_in(tmp_path / "secrets.json")
    assert delivery.secrets_of("default", settings(webhook_secrets=made.webhook_secret))
    assert programs.Keys.kept_in(tmp_path / "secrets.json") == made


def test_secrets_of_before_webhooks_get_one_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    old = dict.fromkeys(
        ("s3_access_key", "s3_secret_key", "redis_password", "signing_key"), "x" * 20
    )
    path.write_text(json.dumps(old))
    kept = programs.Keys.kept_in(path)
    assert old.items() < vars(kept).items()
    assert programs.Keys.kept_in(path) == kept
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("given", ["", SECRET])
def test_server_and_worker_of_a_stack_share_the_secret(
    given: str, tmp_path: Path
) -> None:
    keys = programs.Keys.kept_in(tmp_path / "secrets.json")
    stack = programs.Parts(
        tmp_path, keys, programs.Ports(1, 2, 3), None, {"WEBHOOK_SECRETS": given}, None
    )
    shared = {
        program.env["WEBHOOK_SECRETS"] for program in (stack.server(), stack.worker())
    }
    assert shared == {given or keys.webhook_secret}
