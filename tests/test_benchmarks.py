"""The figures of `make bench`, and docs/performance.md, which shows the last run."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any, cast

import pytest

from benchmarks import report, wrk
from benchmarks.__main__ import BENCHMARKS, _names, lines_of
from benchmarks.bench import Bench
from benchmarks.line import Benchmark, Line, NotMeasured, Pairs, Target, extra, ratio
from tests.support import ROOT
from tests.support.markdown import rows_of, text_of

PAIRS = Pairs([2.0, 1.0, 4.0], [3.0, 2.0, 4.0])
NAMES = [benchmark.name for benchmark in BENCHMARKS]
WRK = """Running 3s test @ http://127.0.0.1:8000/
  Latency Distribution
     50%    3.20ms
     99%    {p99}
  13194 requests in 3.00s, 2.10MB read
{failures}Requests/sec:   4398.07
"""


class StoppedBench:
    """The bench of a benchmark that fails; records whether its stack was stopped."""

    is_stopped = False

    def stop_stack(self) -> None:
        self.is_stopped = True


def failing(error: Exception) -> Benchmark:
    def measure(_: Any) -> list[Line]:
        raise error

    return Benchmark("name", "what", measure)


@pytest.mark.parametrize(
    ("word", "met", "missed"),
    [
        ("at most", [1.5, 1], [1.6]),
        ("under", [1.4], [1.5]),
        ("at least", [1.5, 2], [1.4]),
        ("over", [2], [1.5]),
    ],
)
def test_target_is_met_within_its_bound(
    word: Any, met: list[float], missed: list[float]
) -> None:
    target = Target(word, 1.5)
    assert all(target.is_met(figure) for figure in met)
    assert not any(target.is_met(figure) for figure in missed)


def test_ratio_is_computed_for_each_run_and_its_median_decides() -> None:
    line = ratio("what", PAIRS, Target("at most", 1.5))
    assert line.figures == [1.5, 2.0, 1.0]
    assert line.verdict == "met"


def test_extra_is_the_difference_for_each_run() -> None:
    line = extra("what", PAIRS, Target("under", 1))
    assert line.figures == [1.0, 1.0, 0.0]
    assert (line.unit, line.verdict) == ("s more", "MISSED")


def test_line_without_target_has_no_verdict() -> None:
    assert ratio("what", PAIRS).verdict == ""


def test_failed_benchmark_is_a_line_with_the_reason() -> None:
    bench = StoppedBench()
    benchmark = failing(AssertionError("predictions differ"))
    (line,) = lines_of(benchmark, cast(Bench, bench))
    assert (line.what, line.benchmark, line.verdict) == ("what", "name", "FAILED")
    assert "predictions differ" in line.note
    assert bench.is_stopped


def test_benchmark_that_lacks_a_program_is_not_measured_and_says_why() -> None:
    (line,) = lines_of(failing(NotMeasured("install it")), cast(Bench, StoppedBench()))
    assert (line.verdict, line.note) == ("not measured", "install it")


def test_line_without_figures_is_a_row_of_the_table() -> None:
    line = Line("what", note="why", problem="FAILED", benchmark="name")
    assert report.text(line.as_dict()).split() == ["what", "FAILED", "why"]


def test_load_without_wrk_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotMeasured, match="apt-get install wrk"):
        wrk.load("http://127.0.0.1:1", 1)


@pytest.mark.parametrize(
    ("p99", "ms"), [("18.20ms", 18.2), ("950.00us", 0.95), ("1.50s", 1500.0)]
)
def test_report_of_wrk_is_read(p99: str, ms: float) -> None:
    load = wrk.read(WRK.format(p99=p99, failures=""))
    assert load.rate == 4398.07
    assert load.p99_ms == pytest.approx(ms)


@pytest.mark.parametrize(
    "failure",
    [
        "Non-2xx or 3xx responses: 3",
        "Socket errors: connect 0, read 1, write 0, timeout 0",
    ],
)
def test_load_with_failed_requests_is_an_error(failure: str) -> None:
    with pytest.raises(AssertionError, match=failure.split(":", maxsplit=1)[0]):
        wrk.read(WRK.format(p99="1.00ms", failures=f"  {failure}\n"))


def test_unknown_names_are_refused() -> None:
    assert _names("status,backlog") == ["status", "backlog"]
    message = "unknown: nonsense; the benchmarks are cycle_large, "
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        _names("status,nonsense")


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (0.0, "0"),
        (1.35, "1.35"),
        (0.0123, "0.012"),
        (2.0, "2"),
        (12.34, "12.3"),
        (4398.07, "4,398"),
        (25, "25"),
    ],
)
def test_figures_are_shown_with_about_three_digits(figure: float, shown: str) -> None:
    assert report.shown(figure) == shown


@pytest.mark.parametrize(("load", "is_said"), [(0.3, False), (2.0, True)])
def test_page_says_when_the_machine_was_busy(load: float, is_said: bool) -> None:
    machine = {
        "processor": "CPU",
        "cores": 2,
        "memory_gb": 8,
        "system": "Linux",
        "load_before": load,
    }
    run = {
        "date": "today",
        "minutes": 1.0,
        "runs": 5,
        "machine": machine,
        "versions": {},
        "lines": [],
    }
    assert ("prove nothing" in report.section(run)) == is_said


def test_page_shows_the_last_run() -> None:
    path = ROOT / "benchmarks" / "last.json"
    last = json.loads(path.read_text()) if path.exists() else {"lines": []}
    section = text_of("performance.md").partition(report.BEGIN)[2]
    section = section.partition(report.END)[0]
    # Before the first complete run there is neither the file nor the table.
    expected = report.section(last) if path.exists() else ""
    assert section.strip() == expected.strip()
    assert {line["benchmark"] for line in last["lines"]} in (set(NAMES), set())


def test_page_says_how_each_line_is_measured() -> None:
    rows = rows_of(text_of("performance.md"), "name", "how it is measured")
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row[0])] == NAMES
