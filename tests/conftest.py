"""Fixtures for all tests: real parts, started once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.support.redis_server import RedisServer
from tests.support.stack import SETTINGS, Stack, StartStack, starting
from tests.support.tables import table

# In the background of a shell Ctrl-C is ignored, and so it would be by all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

STARTING = {"start_stack", "start_lasting_stack"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a stack, which `make test-fast` leaves out."""
    for item in items:
        if STARTING & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.stack)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS & set(os.environ):
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def libraries() -> Any:
    """Return what limits the threads of OpenMP and BLAS."""
    import sklearn.ensemble  # noqa: F401 - loads the libraries, which takes a second
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


@pytest.fixture
def one_thread(libraries: Any) -> Iterator[None]:
    """Fit with one thread; several, beside other busy processes, take up to 100 times as long."""
    with libraries.limit(limits=1):
        yield


@pytest.fixture(scope="module")
def start_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartStack]:
    """Return a function that starts a stack, which runs until the end of the module."""
    with starting(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def start_lasting_stack(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StartStack]:
    """Return a function that starts a stack, which runs until all tests have ended."""
    with starting(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def stack(start_lasting_stack: StartStack) -> Stack:
    """Return the stack that all tests share which break nothing."""
    return start_lasting_stack(ONLINE_WORKERS="1")


@pytest.fixture(scope="session")
def model_id(stack: Stack) -> str:
    """Return a finished model of `table()` on the shared stack."""
    return stack.fitted(table())


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return a Redis of the module's own, in which no worker works."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def connection(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """Return a connection to the module's own Redis, which is empty."""
    with redis_server.connect() as connection:
        connection.flushall()
        yield connection
