"""Connections that a firewall has forgotten: what is sent vanishes, without an error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Thread
from urllib.parse import urlsplit

import pytest
import redis

import client
from client import Client
from rowcast import redis_clients
from rowcast.config import Settings
from rowcast.errors import StoreUnavailable
from rowcast.ids import folder_of
from rowcast.redis_clients import FreshPool
from rowcast.store import Storage, connections
from rowcast.store.patience import WORKER
from rowcast.workers.maintenance import Maintenance
from tests.support.forgetful_proxy import ForgetfulProxy
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack

CLIENTS = (
    redis_clients.connect_for_requests,
    redis_clients.connect_for_limits,
    redis_clients.connect_for_heartbeats,
    redis_clients.connect_for_maintenance,
    redis_clients.connect_for_work,
)
# Where a connection is not known to be silent, work waits for an answer for 30 s.
IN_TIME_S = 3.0


@pytest.fixture
def forgetful() -> Iterator[Callable[[str], ForgetfulProxy]]:
    """Return what starts a forgetful proxy in front of a URL's port."""
    proxies = []

    def start(url: str) -> ForgetfulProxy:
        proxy = ForgetfulProxy(urlsplit(url).port or 0)
        proxies.append(proxy)
        Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        return proxy

    yield start
    for proxy in proxies:
        proxy.shutdown()
        proxy.server_close()


@pytest.fixture
def redis_proxy(
    stack: Stack, forgetful: Callable[[str], ForgetfulProxy]
) -> ForgetfulProxy:
    return forgetful(stack.settings().redis_url.get_secret_value())


@pytest.fixture
def store_proxy(
    stack: Stack, forgetful: Callable[[str], ForgetfulProxy]
) -> ForgetfulProxy:
    return forgetful(stack.settings().s3_endpoint)


@pytest.fixture
def dataset_id(stack: Stack) -> str:
    with Client(stack.url) as direct:
        return direct.upload(b"a\n1\n")


@pytest.fixture
def behind_redis(stack: Stack, redis_proxy: ForgetfulProxy) -> Settings:
    url = stack.settings().redis_url.get_secret_value()
    head, _, tail = url.rpartition(":")
    database = tail.partition("/")[2]
    return stack.settings(redis_url=f"{head}:{redis_proxy.port}/{database}")


@pytest.mark.parametrize("connect", CLIENTS)
@pytest.mark.parametrize(
    ("limit", "rest_s"), [("stale_after_s", 0.1), ("proven_after_s", 0.1)]
)
def test_a_forgotten_connection_to_redis_costs_no_request(
    connect: Callable[[Settings], redis.Redis],
    limit: str,
    rest_s: float,
    behind_redis: Settings,
    redis_proxy: ForgetfulProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FreshPool, limit, rest_s)
    with connect(behind_redis) as connection:
        assert connection.ping()
        redis_proxy.forget()
        time.sleep(2 * rest_s)

        started_at = time.monotonic()
        assert connection.eval("return 1", 0) == 1

    assert time.monotonic() - started_at < IN_TIME_S
    assert redis_proxy.n_accepted == 2


def test_maintenance_looks_for_lost_jobs_soon_although_its_connection_is_silent(
    behind_redis: Settings, redis_proxy: ForgetfulProxy
) -> None:
    maintenance = Maintenance(behind_redis)
    maintenance.recover()
    redis_proxy.forget()

    started_at = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        maintenance.recover()
    maintenance.recover()
    assert time.monotonic() - started_at < IN_TIME_S


def test_a_living_connection_to_redis_is_kept_after_a_short_rest(
    behind_redis: Settings,
    redis_proxy: ForgetfulProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FreshPool, "proven_after_s", 0.0)
    with redis_clients.connect_for_requests(behind_redis) as connection:
        for _ in range(3):
            assert connection.ping()

    assert redis_proxy.n_accepted == 1


def test_a_unix_socket_is_replaced_as_well(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FreshPool, "stale_after_s", 0.0)
    settings = Settings(redis_url=redis_server.url)
    with redis_clients.connect_for_requests(settings) as connection:
        first = connection.client_id()
        time.sleep(0.01)
        assert connection.client_id() != first


def test_a_read_on_a_forgotten_connection_to_the_store_is_repeated(
    stack: Stack, store_proxy: ForgetfulProxy, dataset_id: str
) -> None:
    key = f"{folder_of('default', dataset_id)}/data"
    storage = Storage(
        stack.settings(s3_endpoint=f"http://127.0.0.1:{store_proxy.port}")
    )
    storage.ensure_buckets()
    store_proxy.forget()

    started_at = time.monotonic()
    assert storage.read_key("datasets", key) == b"a\n1\n"
    assert time.monotonic() - started_at < IN_TIME_S


def test_a_write_is_sent_once(
    stack: Stack, store_proxy: ForgetfulProxy, dataset_id: str
) -> None:
    storage = Storage(
        stack.settings(s3_endpoint=f"http://127.0.0.1:{store_proxy.port}")
    )
    storage.ensure_buckets()
    store_proxy.forget()

    with pytest.raises(StoreUnavailable):
        storage.write("datasets", "default", dataset_id, "data", b"b\n1\n")


def test_a_rested_connection_to_the_store_is_replaced_before_a_write(
    stack: Stack,
    store_proxy: ForgetfulProxy,
    dataset_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections._FreshPool, "stale_after_s", 0.1)
    settings = stack.settings(s3_endpoint=f"http://127.0.0.1:{store_proxy.port}")
    storage = Storage(settings, WORKER)
    storage.ensure_buckets()
    store_proxy.forget()
    time.sleep(0.2)

    started_at = time.monotonic()
    storage.write("datasets", "default", dataset_id, "data", b"b\n1\n")
    assert time.monotonic() - started_at < IN_TIME_S


def test_the_client_replaces_connections_that_have_rested(
    stack: Stack,
    forgetful: Callable[[str], ForgetfulProxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "STALE_AFTER_S", 0.1)
    proxy = forgetful(stack.url)
    with Client(f"http://127.0.0.1:{proxy.port}") as behind:
        list(behind.models(limit=1))
        proxy.forget()
        time.sleep(0.2)

        started_at = time.monotonic()
        list(behind.models(limit=1))

    assert time.monotonic() - started_at < IN_TIME_S
