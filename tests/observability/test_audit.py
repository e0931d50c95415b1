"""Lines of the audit log: whole, and impossible to forge."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rowcast.observability import AuditLog, FloodGate, audit


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_line_is_one_object_with_what_is_known(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    AuditLog(str(path)).write("POST /fit", "done", owner="ann", object=None)
    (line,) = lines(path)
    assert line.pop("time")
    assert line == {"action": "POST /fit", "outcome": "done", "owner": "ann"}
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("forged", ['a\n{"action": "x"}', "a\r\nb", "a\u2028b", "\x85"])
def test_value_cannot_make_a_line_of_its_own(tmp_path: Path, forged: str) -> None:
    path = tmp_path / "audit.log"
    AuditLog(str(path)).write("x", "done", key_name=forged)
    assert lines(path)[0]["key_name"] == forged
    assert len(path.read_bytes().splitlines()) == 1


def test_long_values_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    AuditLog(str(path)).write("x" * 10_000, "done", named={"id": "y" * 10_000})
    assert len(path.read_bytes()) < 1000


def test_lines_of_several_threads_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    logs = [AuditLog(str(path)) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: logs[n % 4].write("x", "done", n=n), range(400)))
    assert sorted(int(str(line["n"])) for line in lines(path)) == list(range(400))


def test_rotated_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog(str(path))
    log.write("first", "done")
    path.rename(tmp_path / "audit.log.1")
    log.write("second", "done")
    log.write("third", "done")
    assert [line["action"] for line in lines(path)] == ["second", "third"]


def test_line_goes_on_after_the_file_was_removed_with_its_folder(
    tmp_path: Path,
) -> None:
    path = tmp_path / "logs" / "audit.log"
    path.parent.mkdir()
    log = AuditLog(str(path))
    log.write("first", "done")
    path.unlink()
    path.parent.rmdir()
    log.write("lost", "done")
    path.parent.mkdir()
    log.write("third", "done")
    assert [line["action"] for line in lines(path)] == ["third"]


def test_file_that_cannot_be_written_is_found_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        AuditLog(str(tmp_path)).check()
    AuditLog(str(tmp_path)).write("x", "done")


def test_lines_of_a_flood_are_bounded_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    gate = FloodGate()
    assert gate.left_out() == {}
    flood, other = ("192.0.2.1", None, 401), ("192.0.2.2", None, 401)
    passed = [gate.passes(flood) for _ in range(1000)]
    assert sum(passed) == audit.MAX_REFUSALS_PER_S
    assert all(passed[: audit.MAX_REFUSALS_PER_S])
    assert gate.passes(other)
    assert gate.left_out() == {}

    now += 1
    assert gate.left_out() == {flood: 1000 - audit.MAX_REFUSALS_PER_S}
    assert gate.left_out() == {}
    assert gate.passes(flood)
