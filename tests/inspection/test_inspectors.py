"""The inspectors of a server process: what they find, and pools that die, hang or are busy."""

from __future__ import annotations

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from rowcast.config import Settings
from rowcast.errors import InvalidTable, NoInspector, RowcastError, TableTooComplex
from rowcast.inspection import Check, Findings, Inspectors, Question, limits
from rowcast.tables import Limits
from tests.faults.breaking import is_alive, kill, stopped
from tests.support.processes import has_ended
from tests.support.tables import parquet, table
from tests.support.waiting import eventually

SECRET = "the-secret-of-the-server"
SETTINGS = Settings(
    inspectors=2,
    server_threads=10,
    s3_secret_key=SECRET,
    api_keys=f"ann:{SECRET}",
    log_level="error",
)
LIMITS = vars(Limits.of(SETTINGS))
CSV = b"a,b,y\n1,2,3\n4,5,6\n"


def look(
    inspectors: Inspectors, content: bytes, check: Check | None = None
) -> Findings:
    check = check or Check.fit(None, None)
    return inspectors.inspect(
        "ann",
        Question(len(content), LIMITS, check),
        lambda offset, length: content[offset : offset + length],
    )


@pytest.fixture(scope="module")
def inspectors() -> Inspectors:
    found = Inspectors(SETTINGS)
    look(found, CSV)
    return found


def pools() -> list[psutil.Process]:
    """Return the pools of this process, without those that have ended."""
    children = psutil.Process().children()
    lines = [(child, child.cmdline()) for child in children if is_alive(child)]
    return [child for child, line in lines if "rowcast.inspection" in line]


@pytest.fixture
def pool(inspectors: Inspectors) -> psutil.Process:
    """Return the one pool, with all its inspectors."""
    (found,) = pools()
    eventually(lambda: len(found.children()) == SETTINGS.inspectors)
    return found


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (CSV, Findings(2, 3, "y")),
        (gzip.compress(CSV), Findings(2, 3, "y")),
        (b'{"a": 1, "y": 2}\n', Findings(1, 2, "y")),
        (parquet(table(50, 4)), Findings(50, 5, "y")),
    ],
    ids=["csv", "gzip", "jsonl", "parquet"],
)
def test_look_finds_rows_columns_and_target(
    inspectors: Inspectors, content: bytes, expected: Findings
) -> None:
    assert look(inspectors, content) == expected


def test_large_parts_come_in_pieces(inspectors: Inspectors) -> None:
    names = [f"{'n' * 900}_{i}" for i in range(2_000)]
    lengths = []
    content = parquet(table(10, 2_000).set_axis([*names, "y"], axis=1))
    assert len(content) > 2 * limits.MAX_PART_BYTES

    def read(offset: int, length: int) -> bytes:
        lengths.append(length)
        return content[offset : offset + length]

    question = Question(len(content), LIMITS, Check.fit(None, None))
    found = inspectors.inspect("ann", question, read)
    assert found == Findings(10, 2_001, "y")
    assert max(lengths) <= limits.MAX_PART_BYTES < sum(lengths)


def test_problems_of_a_fit_are_raised(inspectors: Inspectors) -> None:
    with pytest.raises(InvalidTable, match="'price' is missing") as raised:
        look(inspectors, CSV, Check.fit("price", None))
    assert "target=" in raised.value.hint
    with pytest.raises(InvalidTable, match="empty file"):
        look(inspectors, b"")


def test_problems_of_a_prediction_are_listed(inspectors: Inspectors) -> None:
    features = [
        {"name": "a", "kind": "numeric"},
        {"name": "c", "kind": "numeric"},
        {"name": "d", "kind": "text"},
    ]
    with pytest.raises(InvalidTable) as raised:
        look(inspectors, CSV, Check.predict(features, ["e"]))
    assert len(raised.value.errors) == 3
    look(inspectors, CSV, Check.predict(features[:1], ["b"]))
    look(inspectors, CSV, Check.none())


def test_inspectors_have_no_secret_of_the_server(pool: psutil.Process) -> None:
    for process in [pool, *pool.children()]:
        folder = Path(f"/proc/{process.pid}")
        shown = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
        assert SECRET.encode() not in shown
        names = set(process.environ())
        assert not names & {"S3_SECRET_KEY", "S3_ACCESS_KEY", "REDIS_URL", "API_KEYS"}
        assert process.net_connections("inet") == []


def test_killed_inspector_costs_one_request(
    inspectors: Inspectors, pool: psutil.Process
) -> None:
    def kill_inspectors(offset: int, length: int) -> bytes:
        kill(*pool.children())
        return CSV

    question = Question(len(CSV), LIMITS, Check.fit(None, None))
    with pytest.raises(TableTooComplex):
        inspectors.inspect("ann", question, kill_inspectors)
    assert look(inspectors, CSV) == Findings(2, 3, "y")
    assert pools() == [pool]


def test_killed_pool_is_replaced(
    inspectors: Inspectors, pool: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RESTART_PAUSE_S", 0.0)
    processes = [pool, *pool.children()]
    kill(pool)
    eventually(lambda: all(map(has_ended, processes)))
    assert look(inspectors, CSV) == Findings(2, 3, "y")
    assert pools() not in ([], [pool])


def test_pool_that_dies_again_and_again_is_no_inspector(
    inspectors: Inspectors, pool: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RESTART_PAUSE_S", 60.0)
    kill(pool)
    eventually(lambda: has_ended(pool))
    with pytest.raises(NoInspector, match="start again"):
        look(inspectors, CSV)
    monkeypatch.setattr(limits, "RESTART_PAUSE_S", 0.0)
    assert look(inspectors, CSV) == Findings(2, 3, "y")


def test_inspectors_that_hang_are_none(
    inspectors: Inspectors, pool: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WAIT_S", 0.3)
    monkeypatch.setattr(limits, "START_S", 0.3)
    with (
        stopped(pool, *pool.children()),
        pytest.raises(NoInspector, match="was free within 0 s"),
    ):
        look(inspectors, CSV)
    monkeypatch.undo()
    assert look(inspectors, CSV) == Findings(2, 3, "y")


def test_requests_wait_for_a_free_inspector_and_not_for_ever(
    inspectors: Inspectors, pool: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_open = threading.Event()

    def slow_read(offset: int, length: int) -> bytes:
        is_open.wait(20)
        return CSV[offset : offset + length]

    def outcome() -> Findings | RowcastError:
        question = Question(len(CSV), LIMITS, Check.fit(None, None))
        try:
            return inspectors.inspect("ann", question, slow_read)
        except RowcastError as error:
            return error

    # Two have inspectors, and one place remains for a request that waits.
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(outcome) for _ in range(8)]
        eventually(lambda: sum(each.done() for each in asked) == 5)
        assert {type(each.result()) for each in asked if each.done()} == {NoInspector}
        is_open.set()
        found = [each.result() for each in asked]
    assert found.count(Findings(2, 3, "y")) == 3

    is_open.clear()
    monkeypatch.setattr(limits, "WAIT_S", 0.2)
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(outcome) for _ in range(3)]
        eventually(lambda: sum(each.done() for each in asked) == 1)
        is_open.set()
        assert sum(isinstance(each.result(), NoInspector) for each in asked) == 1


def test_pool_ends_with_its_inspectors() -> None:
    before = pools()
    inspectors = Inspectors(SETTINGS)
    inspectors.start()
    # The process becomes a pool shortly after it has started.
    (pool,) = eventually(lambda: set(pools()) - set(before))
    eventually(lambda: len(pool.children()) == SETTINGS.inspectors)
    processes = [pool, *pool.children()]
    del inspectors
    eventually(lambda: all(map(has_ended, processes)))
