"""Measure every line beside its bare equivalent: print the table, write JSON and
docs/performance.md.

    python -m benchmarks [--only NAME,...] [--runs 5] [--list]

A whole run writes benchmarks/last.json and the table of the document; with --only, the table is
printed and the JSON goes to benchmarks/part.json.
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
# Those that share a stack come first.
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
    options = _options()
    chosen = [
        each for each in BENCHMARKS if not options.only or each.name in options.only
    ]
    if options.list:
        for each in chosen:
            print(f"{each.name:<14} {each.what}")
        return
    # So that what ends this process ends what it has started as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began, load = time.time(), os.getloadavg()[0]
    if report.is_busy(load, joblib.cpu_count()):
        print(
            f"The machine is busy (load {load:.1f}): the figures will be poor.",
            file=sys.stderr,
        )
    lines = _measure(chosen, options.runs)
    run = report.run_of(lines, options.runs, began, load)
    _keep(run, is_whole=not options.only)
    sys.exit(any(line.problem == "FAILED" for line in lines))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        type=_names,
        default=[],
        help="names of --list, with commas between them",
    )
    parser.add_argument(
        "--runs", type=int, default=5, help="how often each line is measured at least"
    )
    parser.add_argument(
        "--list", action="store_true", help="show the names, and measure nothing"
    )
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    known = [each.name for each in BENCHMARKS]
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)} is none of {', '.join(known)}"
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
                print(
                    "\n".join(report.text(line.as_dict()) for line in found), flush=True
                )
        finally:
            bench.stop_stack()
    return lines


def lines_of(benchmark: Benchmark, bench: Bench) -> list[Line]:
    """Return a benchmark's lines; where it cannot be measured or fails, one that says why."""
    try:
        lines = benchmark.measure(bench)
    except NotMeasured as reason:
        lines = [Line(benchmark.what, note=str(reason), problem="not measured")]
    except Exception as error:  # noqa: BLE001 - the other lines are to be measured all the same
        traceback.print_exc()
        # Whatever it has left is not to disturb the others.
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
        print(f"The table of {DOCUMENT.relative_to(ROOT)} is that of this run.")


if __name__ == "__main__":
    main()
