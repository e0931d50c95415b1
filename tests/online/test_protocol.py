"""The socket between server and online workers: what arrives, and sides that give up or die."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest

from rowcast.errors import InvalidTable, NoOnlineWorker, OnlineWorkerLost
from rowcast.online import limits, protocol
from rowcast.online.broker import Broker
from rowcast.online.protocol import Question
from tests.support.online import (
    JSON,
)

QUESTION = Question("default", "request-1", "model-1", {"output": "labels"}, JSON, JSON)


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("s") / "online" / "socket")


@contextmanager
def brokered(path: str) -> Iterator[socket.socket]:
    """Run a broker by a thread, and yield the channel of its only worker."""
    done = threading.Event()
    with protocol.listen(path) as listener:
        broker = Broker(listener)

        def run() -> None:
            while not done.is_set():
                broker.serve(0.05)

        thread = threading.Thread(target=run)
        with broker.hire() as channel:
            thread.start()
            yield channel
            done.set()
            thread.join()
        broker.close_copies()


@contextmanager
def serving(path: str, serve: Callable[[Any], Any]) -> Iterator[None]:
    """Serve one question by a thread, in place of a worker."""
    with brokered(path) as channel:

        def run() -> None:
            with protocol.accept(channel) as connection:
                serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield
        thread.join()


def connected(path: str, *said: bytes) -> Connection:
    """Connect as a server does, and send messages."""
    attempt = socket.socket(socket.AF_UNIX)
    attempt.connect(path)
    connection = Connection(attempt.detach())
    for message in said:
        connection.send_bytes(message)
    return connection


def test_question_and_table_arrive_and_the_answer_comes_back(path: str) -> None:
    def serve(connection: Any) -> None:
        question, rows = protocol.receive_question(connection) or (None, b"")
        assert question is not None
        protocol.send_outcome(connection, f"{question.model_id} {rows!r}".encode())

    with serving(path, serve):
        assert protocol.ask(path, QUESTION, b"rows", 5) == b"model-1 b'rows'"


def test_server_raises_the_error_that_the_worker_sent(path: str) -> None:
    def serve(connection: Any) -> None:
        protocol.receive_question(connection)
        protocol.send_outcome(
            connection, InvalidTable("Wrong.", hint="Do this.", errors=["a", "b"])
        )

    with serving(path, serve), pytest.raises(InvalidTable) as raised:
        protocol.ask(path, QUESTION, b"rows", 5)
    assert (
        raised.value.cause()
        == InvalidTable("Wrong.", hint="Do this.", errors=["a", "b"]).cause()
    )


def test_worker_that_is_lost_with_the_question_is_an_error_of_its_own(
    path: str,
) -> None:
    with serving(path, lambda _: None), pytest.raises(OnlineWorkerLost):
        protocol.ask(path, QUESTION, b"x" * 10_000_000, 5)


@pytest.mark.slow
def test_server_does_not_wait_forever_for_a_worker_that_reads_no_more(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ANSWER_MARGIN_S", 0.0)
    done = threading.Event()
    with serving(path, lambda _: done.wait(20)):
        with pytest.raises(OnlineWorkerLost):
            protocol.ask(path, QUESTION, b"x" * 10_000_000, 1)
        done.set()


HELLO = b'{"owner": "ann"}'


def test_worker_notices_that_the_server_has_given_up(path: str) -> None:
    with brokered(path) as channel:
        server = connected(path, HELLO)
        with protocol.accept(channel) as worker:
            server.close()
            assert protocol.receive_question(worker) is None
            protocol.send_outcome(worker, b"nobody hears this")


@pytest.mark.parametrize("said", [b"no JSON", b"[]", b'{"of": "a later version"}'])
def test_worker_lives_on_after_a_question_that_it_does_not_understand(
    path: str, said: bytes
) -> None:
    with (
        brokered(path) as channel,
        connected(path, HELLO) as server,
        protocol.accept(channel) as worker,
    ):
        server.recv_bytes()
        server.send_bytes(said)
        server.send_bytes(b"rows")
        assert protocol.receive_question(worker) is None


@pytest.mark.parametrize(
    "said", [b"no JSON", b"[]", b'{"of": "a later version"}', b" " * 2_000, b""]
)
def test_broker_lives_on_after_a_hello_that_it_does_not_understand(
    path: str, said: bytes
) -> None:
    with brokered(path) as channel, connected(path, said) as stranger:
        assert stranger.poll(10)
        with pytest.raises((EOFError, OSError)):
            stranger.recv_bytes()
        with connected(path, HELLO) as server, protocol.accept(channel):
            assert b"accepted" in server.recv_bytes()


def test_broker_drops_a_silent_connection_and_serves_others_meanwhile(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HELLO_S", 0.3)
    with brokered(path) as channel, connected(path) as silent:
        with connected(path, HELLO) as server, protocol.accept(channel):
            assert b"accepted" in server.recv_bytes()
        assert silent.poll(10)
        with pytest.raises((EOFError, OSError)):
            silent.recv_bytes()


def test_connection_that_gave_up_while_it_waited_reaches_no_worker(path: str) -> None:
    with brokered(path) as channel:
        with connected(path, HELLO):
            time.sleep(0.2)
        time.sleep(0.2)
        with connected(path, b'{"owner": "bob"}') as server, protocol.accept(channel):
            assert b"accepted" in server.recv_bytes()


def test_question_that_went_ahead_of_a_server_that_gave_up_reaches_no_worker(
    path: str,
) -> None:
    with brokered(path) as channel:
        with connected(path, HELLO, b'{"model_id": "model-1"}', b"rows"):
            time.sleep(0.2)
        time.sleep(0.2)
        with connected(path, b'{"owner": "bob"}') as server, protocol.accept(channel):
            assert b"accepted" in server.recv_bytes()


@pytest.mark.parametrize("n_bytes", [10, limits.AHEAD_BYTES, 10_000_000])
def test_table_of_any_size_arrives_whole(path: str, n_bytes: int) -> None:
    def serve(connection: Any) -> None:
        _, rows = protocol.receive_question(connection) or (None, b"")
        protocol.send_outcome(connection, rows[::-1])

    table = bytes(range(250)) * (n_bytes // 250 + 1)
    with serving(path, serve):
        assert protocol.ask(path, QUESTION, table[:n_bytes], 5) == table[:n_bytes][::-1]


def test_server_that_waits_with_a_large_table_may_give_up(path: str) -> None:
    # The only worker is never free.
    with brokered(path), pytest.raises(NoOnlineWorker):
        protocol.ask(path, QUESTION, b"x" * 10_000_000, 60, may_wait=lambda: False)


def test_owners_whose_connections_wait_take_turns(path: str) -> None:
    with brokered(path) as channel, ExitStack() as stack:
        servers = {}
        for number, owner in enumerate(("ann", "ann", "ann", "bob")):
            hello = b'{"owner": "%s"}' % owner.encode()
            servers[number] = stack.enter_context(connected(path, hello))
            time.sleep(0.1)
        order = []
        for _ in servers:
            with protocol.accept(channel):
                ready = wait(list(servers.values()), timeout=10)
                order += [n for n, server in servers.items() if server in ready]
            servers = {n: each for n, each in servers.items() if n not in order}
        assert order == [0, 3, 1, 2]


def test_server_without_online_workers_raises(path: str) -> None:
    with pytest.raises(NoOnlineWorker, match="No online worker runs"):
        protocol.ask(path, QUESTION, b"", 5)
    protocol.listen(path).close()
    with pytest.raises(NoOnlineWorker, match="No online worker runs"):
        protocol.ask(path, QUESTION, b"", 5)


def test_requests_beyond_the_waiting_connections_find_no_free_worker(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_WAITING_CONNECTIONS", 0)
    monkeypatch.setattr(limits, "WAIT_FOR_WORKER_S", 0.5)
    with protocol.listen(path), socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(path)
        with pytest.raises(NoOnlineWorker, match="was free"):
            protocol.ask(path, QUESTION, b"", 5)


def test_socket_lies_in_a_folder_of_its_own_user(path: str) -> None:
    folder = Path(path).parent
    protocol.listen(path).close()
    protocol.listen(path).close()
    assert [each.name for each in folder.iterdir()] == ["socket"]
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="nobody else may write to it"):
        protocol.listen(path)
