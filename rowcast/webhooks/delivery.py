"""Sending webhooks: the final status of a job is POSTed to its `callback_url`, signed.

A caller chooses the URL, so it must not lead into our own network. A name is resolved once, right
before sending, and the connection goes to the very address that was checked.
"""

from __future__ import annotations

import http.client
import json
import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import redis

from rowcast import __version__
from rowcast.config import Settings
from rowcast.errors import RowcastError
from rowcast.observability import logs
from rowcast.redis_clients import cause_of
from rowcast.webhooks import outbox, signatures, urls
from rowcast.webhooks.outbox import Delivery
from rowcast.webhooks.urls import Target

log = logging.getLogger("rowcast.webhooks")

# Returns what /status answers for an owner and a job id; None if the job was deleted.
ReadStatus = Callable[[str, str], dict[str, Any] | None]

# A try takes less than a lease: preparing, connecting to at most two addresses, the exchange.
PREPARE_S = 8.0
CONNECT_S = 5.0
EXCHANGE_S = 10.0
MOST_ANSWER_BYTES = 4096
# A receiver that hangs holds one thread for up to a lease.
N_THREADS = 8
# A receiver that takes longer than SLOW_S rests for REST_FACTOR times as long as it took. So it
# holds the threads for at most a quarter of the time, however many webhooks it gets.
SLOW_S = 3.0
REST_FACTOR = 3.0


@dataclass(frozen=True)
class Outcome:
    """The outcome of a try: words for the log, and the pause that the receiver asked for."""

    words: str
    is_over: bool = False
    asked_pause_s: float = 0.0


def start(
    connection: redis.Redis,
    settings: Settings,
    read_status: ReadStatus,
    stopped: threading.Event,
) -> list[threading.Thread]:
    """Send webhooks as they fall due, in N_THREADS threads, until `stopped` is set."""

    def send() -> None:
        while not stopped.wait(random.uniform(0.5, 1.5)):
            _deliver_due(connection, settings, read_status, stopped)

    threads = [threading.Thread(target=send, daemon=True) for _ in range(N_THREADS)]
    for thread in threads:
        thread.start()
    return threads


def _deliver_due(
    connection: redis.Redis,
    settings: Settings,
    read_status: ReadStatus,
    stopped: threading.Event,
) -> None:
    try:
        while not stopped.is_set():
            if not deliver_next(connection, settings, read_status, time.time()):
                return
    except redis.RedisError as error:
        log.warning("%s; webhooks wait", cause_of(error))
    except Exception:
        log.exception("a webhook could not be sent")


def deliver_next(
    connection: redis.Redis, settings: Settings, read_status: ReadStatus, now: float
) -> bool:
    """Send the webhook that is due first, and return whether there was one.

    `now` is in Unix seconds. It takes less than `outbox.LEASE_S`. Any number of threads and
    processes may call this in parallel.

    Raises:
        redis.RedisError: Redis does not answer; the webhook is due again when its lease ends.
    """
    delivery = outbox.claim(connection, now)
    if delivery is None:
        return False
    started_at = time.monotonic()
    with logs.bind(job_id=delivery.job_id):
        outcome = _try(delivery, settings, read_status, now)
        took_s = time.monotonic() - started_at
        if took_s > SLOW_S:
            outbox.rest(connection, delivery, took_s * REST_FACTOR)
        _record(connection, delivery, outcome, now + took_s)
    return True


def _record(
    connection: redis.Redis, delivery: Delivery, outcome: Outcome, now: float
) -> None:
    """Remove the webhook from the outbox or make it due again, and log the outcome."""
    host = urls.host_in(delivery.url)
    message = f"webhook to {host}, try {delivery.tries}: {outcome.words}"
    if outcome.is_over:
        outbox.remove(connection, delivery)
        log.info("%s", message)
        return

    due = outbox.next_try(delivery, outcome.asked_pause_s, now)
    if due is None:
        outbox.remove(connection, delivery)
        log.warning("%s; given up", message)
    else:
        outbox.postpone(connection, delivery, due)
        log.warning("%s; again in %.0f s", message, due - now)


def _try(
    delivery: Delivery, settings: Settings, read_status: ReadStatus, now: float
) -> Outcome:
    try:
        return _send(delivery, settings, read_status, now)
    except RowcastError as error:
        return Outcome(f"failed, {error.code}")
    except (OSError, http.client.HTTPException) as error:
        return Outcome(f"failed, {type(error).__name__}")


def _send(
    delivery: Delivery, settings: Settings, read_status: ReadStatus, now: float
) -> Outcome:
    started_at = time.monotonic()
    status = read_status(delivery.owner, delivery.job_id)
    if status is None:
        return Outcome("not sent, the job was deleted", is_over=True)
    secrets = signatures.secrets_of(delivery.owner, settings)
    if not secrets:
        return Outcome("not sent, WEBHOOK_SECRETS has none for this owner")

    target = urls.parse(delivery.url)
    addresses = urls.resolve(target, settings)
    if time.monotonic() - started_at > PREPARE_S:
        return Outcome("not sent, the store or the name server was too slow")

    body = json.dumps(status, separators=(",", ":")).encode()
    signed = signatures.headers_of(delivery.job_id, int(now), body, secrets)
    code, retry_after = _post(target, addresses, signed, body)
    # 410 Gone: the receiver wants no more webhooks.
    is_over = 200 <= code < 300 or code == http.client.GONE
    asked_pause_s = float(retry_after) if retry_after.isdecimal() else 0.0
    return Outcome(f"answered {code}", is_over, asked_pause_s)


def _post(
    target: Target, addresses: list[str], signed: dict[str, str], body: bytes
) -> tuple[int, str]:
    """Return the status and the Retry-After header of the answer; its body does not matter.

    Uses no proxy from the environment, and follows no redirect.

    Raises:
        OSError, http.client.HTTPException: no complete answer came in time, or it came from a
            server without a certificate for the host.
    """
    headers = {
        "Host": target.authority,
        "User-Agent": f"rowcast/{__version__}",
        "Connection": "close",
        "Content-Type": "application/json",
        **signed,
    }
    with (
        _connected(addresses, target.port) as raw,
        _time_limit(raw, EXCHANGE_S) as is_late,
        _encrypted(raw, target) as connected,
    ):
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.sock = connected
        connection.request("POST", target.path, body, headers)
        answer = connection.getresponse()
        if is_late.is_set():
            # Headers that were cut off look like the last ones.
            raise TimeoutError
        # Reading the start of the body lets the receiver finish sending a short one.
        with suppress(OSError, http.client.HTTPException):
            answer.read(MOST_ANSWER_BYTES)
        answer.close()
        return answer.status, answer.getheader("Retry-After", "")


def _connected(addresses: list[str], port: int) -> socket.socket:
    """Return a connection to the first address that answers."""
    for address in addresses[:-1]:
        with suppress(OSError):
            return _connect(address, port)
    return _connect(addresses[-1], port)


def _connect(address: str, port: int) -> socket.socket:
    connected = socket.create_connection((address, port), CONNECT_S)
    connected.settimeout(EXCHANGE_S)
    return connected


def _encrypted(raw: socket.socket, target: Target) -> socket.socket:
    """Return the connection over TLS if the URL is https, else as it is."""
    if not target.is_tls:
        return raw
    # The certificate is checked for the host of the URL, whatever the address.
    return ssl.create_default_context().wrap_socket(raw, server_hostname=target.host)


@contextmanager
def _time_limit(connected: socket.socket, limit_s: float) -> Iterator[threading.Event]:
    """Hang up after `limit_s`; a socket's own time limit starts anew with each byte received.

    Raises:
        TimeoutError: it took too long.
    """
    is_late = threading.Event()
    line = connected.dup()

    def hang_up() -> None:
        is_late.set()
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(limit_s, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield is_late
    except (OSError, http.client.HTTPException) as error:
        if is_late.is_set():
            raise TimeoutError(f"no complete answer within {limit_s:g} s") from error
        raise
    finally:
        timer.cancel()
        line.close()
