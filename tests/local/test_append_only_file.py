"""The end of Redis' append-only file as a power cut leaves it, with a real Redis."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rowcast.local import append_only_file
from rowcast.local.programs import redis_binary
from tests.support.redis_server import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a Redis that has written a value and a transaction, and was killed."""
    server = RedisServer(tmp_path)
    with server:
        with server.connect() as client, client.pipeline() as pipeline:
            client.set("binary", bytes(range(256)) + b"\r\n*1\r\n")
            pipeline.set("a", 1)
            pipeline.set("b", 2)
            pipeline.execute()
        server.kill()
        yield server


def last_file(folder: Path) -> Path:
    return folder / "appendonlydir" / "appendonly.aof.1.incr.aof"


def values(server: RedisServer) -> list[bytes | None]:
    with server.connect() as client:
        return client.mget("a", "b", "binary")


WHOLE = [b"1", b"2", bytes(range(256)) + b"\r\n*1\r\n"]


@pytest.mark.parametrize(
    "tail",
    [bytes(4096), b"*3\r\n$3\r\nSET\r\n$1\r\nc" + bytes(70_000), bytes(600) + b"\r\n"],
    ids=["zeros", "a torn command and zeros", "a hole"],
)
def test_zeros_at_the_end_are_cut_off_and_kept(
    server: RedisServer, tmp_path: Path, tail: bytes
) -> None:
    path = last_file(tmp_path)
    with path.open("ab") as file:
        file.write(tail)
    said = append_only_file.mend(tmp_path)
    assert f"the last {len(tail):,} bytes were cut off" in said
    kept = [each for each in path.parent.iterdir() if "cut-off" in each.name]
    assert [each.read_bytes() for each in kept] == [tail]
    server.start()
    assert values(server) == WHOLE


def test_a_torn_transaction_is_cut_off_as_a_whole(
    server: RedisServer, tmp_path: Path
) -> None:
    path = last_file(tmp_path)
    whole = path.read_bytes()
    torn = whole[: whole.rindex(b"*1\r\n$4\r\nEXEC")]
    path.write_bytes(torn + bytes(100))
    assert append_only_file.mend(tmp_path)
    assert b"MULTI" not in path.read_bytes()
    server.start()
    assert values(server) == [None, None, WHOLE[2]]


def test_a_whole_file_is_left_alone(server: RedisServer, tmp_path: Path) -> None:
    before = last_file(tmp_path).read_bytes()
    assert append_only_file.mend(tmp_path) == ""
    assert last_file(tmp_path).read_bytes() == before
    assert append_only_file.mend(tmp_path / "without a file") == ""


def test_damage_far_from_the_end_is_left_to_people(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append_only_file, "TAIL_BYTES", 100)
    path = last_file(tmp_path)
    damaged = path.read_bytes() + bytes(200)
    path.write_bytes(damaged)
    assert append_only_file.mend(tmp_path) == ""
    assert path.read_bytes() == damaged


def test_redis_alone_refuses_zeros(server: RedisServer, tmp_path: Path) -> None:
    """Fails once Redis mends its file by itself; then ours can go."""
    with last_file(tmp_path).open("ab") as file:
        file.write(bytes(4096))
    command = [
        redis_binary(),
        "--port",
        "0",
        "--unixsocket",
        "s",
        "--appendonly",
        "yes",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, timeout=10, check=False
    )
    assert done.returncode == 1
    assert b"Bad file format" in done.stdout
