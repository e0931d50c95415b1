"""Measure what the service costs, compared with scikit-learn in one process.

    python -m benchmarks [--only NAME,...] [--runs 5] [--list]

A complete run prints the table, and writes it to docs/performance.md and benchmarks/last.json. With
--only, it prints the chosen lines and writes benchmarks/part.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import joblib

from benchmarks import (
    backlog,
    cycles,
    fits,
    listings,
    online,
    predictions,
    report,
    requests_a_second,
    small_jobs,
    starting,
    upload,
    validation,
    waits,
)
from benchmarks.bare import Bare
from benchmarks.bench import Bench
from benchmarks.line import Benchmark, Line, NotMeasured
from benchmarks.stack import ROOT

HERE = ROOT / "benchmarks"
DOCUMENT = ROOT / "docs" / "performance.md"
# The benchmarks that share a stack come first.
BENCHMARKS: list[Benchmark] = [
    *cycles.BENCHMARKS,
    *fits.BENCHMARKS,
    *predictions.BENCHMARKS,
    *requests_a_second.BENCHMARKS,
    *online.BENCHMARKS,
    *validation.BENCHMARKS,
    *waits.BENCHMARKS,
    *small_jobs.BENCHMARKS,
    *upload.BENCHMARKS,
    *backlog.BENCHMARKS,
    *listings.BENCHMARKS,
    *starting.BENCHMARKS,
]


def main() -> None:
    """Measure the chosen benchmarks; the exit code is 1 if one of them failed."""
    options = _options()
    chosen = BENCHMARKS
    if options.only:
        chosen = [each for each in BENCHMARKS if each.name in options.only]
    if options.list:
        for each in chosen:
            print(f"{each.name:<14} {each.what}")
        return

    # An exit by exception, so that SIGTERM stops the processes started here too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.time()
    load = os.getloadavg()[0]
    if report.is_busy(load, joblib.cpu_count()):
        warning = (
            f"The machine is busy (load {load:.1f}), so the figures are unreliable."
        )
        print(warning, file=sys.stderr)

    lines = _measure(chosen, options.runs)
    run = report.run_of(lines, options.runs, began, load)
    _keep(run, is_whole=not options.only)
    sys.exit(any(line.problem == "FAILED" for line in lines))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what the service costs, compared with scikit-learn in one process.",
    )
    parser.add_argument(
        "--only",
        type=_names,
        default=[],
        metavar="NAME,...",
        help="measure only these benchmarks, and write benchmarks/part.json",
    )
    parser.add_argument(
        "--runs", type=int, default=5, help="least number of runs per line (default: 5)"
    )
    parser.add_argument(
        "--list", action="store_true", help="list the benchmarks and exit"
    )
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    known = [each.name for each in BENCHMARKS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(unknown)}; the benchmarks are {', '.join(known)}"
        )
    return names


def _measure(chosen: Sequence[Benchmark], n_runs: int) -> list[Line]:
    print(report.HEADER, flush=True)
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder, Bare() as bare:
        bench = Bench(n_runs, Path(folder), bare)
        try:
            for benchmark in chosen:
                found = lines_of(benchmark, bench)
                lines += found
                for line in found:
                    print(report.text(line.as_dict()), flush=True)
        finally:
            bench.stop_stack()
    return lines


def lines_of(benchmark: Benchmark, bench: Bench) -> list[Line]:
    """Return a benchmark's lines, or one that says why it has no figures."""
    try:
        lines = benchmark.measure(bench)
    except NotMeasured as reason:
        lines = [Line(benchmark.what, note=str(reason), problem="not measured")]
    except Exception as error:  # noqa: BLE001 - the other benchmarks still run
        traceback.print_exc()
        # The next benchmark gets a new stack, without what this one left behind.
        bench.stop_stack()
        lines = [Line(benchmark.what, note=_first_line(error), problem="FAILED")]
    return [replace(line, benchmark=benchmark.name) for line in lines]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _keep(run: report.Run, *, is_whole: bool) -> None:
    path = HERE / ("last.json" if is_whole else "part.json")
    path.write_text(json.dumps(run, indent=1) + "\n")
    print(f"\n{run['minutes']:g} minutes; {path.relative_to(ROOT)}")
    if is_whole:
        report.fill(DOCUMENT, run)
        print(f"This run is now the table of {DOCUMENT.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()
