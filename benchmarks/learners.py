"""Judges learners on real tables: loss on rows held back, as a share of the baseline's.

`python -m benchmarks.learners --learners linear,former,forest --keep former,forest`

Each trial is one line in the cache, so that a second run computes only what is missing: trials of
other tables, seeds, learners, or of other code below `rowcast/learning` and `rowcast/tables`. Of
the learners of `--keep`, the last verdict counts, whatever the code was.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from benchmarks import learners_page, standings, trials
from benchmarks.learners_page import Page
from benchmarks.real_tables import TABLES, RealTable
from benchmarks.stack import ROOT
from benchmarks.trials import Trial, Verdict

PACKAGES = ROOT / ".data_packages"
DOCUMENT = ROOT / "docs" / "quality.md"
CACHE = Path("~/.cache/rowcast-trials").expanduser()
SEEDS = (0, 1, 2)
LEARNERS = ("former", "linear", "forest", "skrub")


def main() -> None:
    """Run the trials that are missing and print the standings."""
    options = _options()
    tables = chosen(options.tables, options.sizes, options.packages)
    found = verdicts(tables, options.learners, options.seeds, options)
    judged = standings.judge(found)
    print("\n".join(learners_page.standing_lines(judged)))
    if options.each:
        print("\n" + "\n".join(table_lines(judged)))
    for line in sorted(set(failures(found))):
        print(line)
    if options.page:
        _write_page(tables, judged, options)


def _write_page(
    tables: Sequence[RealTable],
    judged: Sequence[standings.Judged],
    options: argparse.Namespace,
) -> None:
    compared = []
    if options.flaml:
        small = chosen("", (0, standings.SMALL_ROWS), options.packages)
        learners = (*options.learners, "flaml")
        compared = standings.judge(verdicts(small, learners, SEEDS[:1], options))
    shapes = {table.name: table.load(options.packages).shape for table in tables}
    page = Page(
        tables,
        shapes,
        judged,
        n_seeds=len(options.seeds),
        flaml=compared,
        flaml_s=trials.FLAML_S,
    )
    learners_page.write(DOCUMENT, learners_page.HEADING, page.text())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="benchmarks.learners")
    parser.add_argument("--learners", type=_names, default=LEARNERS)
    parser.add_argument("--keep", type=_names, default=(), help="verdicts of any code")
    parser.add_argument("--seeds", type=_seeds, default=SEEDS, help="0,1,2")
    parser.add_argument("--tables", default="", help="a part of their names")
    parser.add_argument(
        "--sizes", type=_sizes, default=(0, 10**9), help="rows, as 100-999"
    )
    parser.add_argument("--each", action="store_true", help="a line for each table")
    parser.add_argument("--page", action="store_true", help="write docs/quality.md")
    parser.add_argument("--flaml", action="store_true", help="with FLAML on the page")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--packages", type=Path, default=PACKAGES)
    n_cores = len(os.sched_getaffinity(0))
    parser.add_argument("--processes", type=int, default=n_cores)
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if not trials.is_known(name)]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return names


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _sizes(text: str) -> tuple[int, int]:
    least, _, most = text.partition("-")
    return int(least), int(most)


def chosen(part: str, sizes: tuple[int, int], packages: Path) -> list[RealTable]:
    """Return the tables with a part of a name and a number of rows, the largest first."""
    least, most = sizes
    found = []
    for table in TABLES:
        if part in table.name:
            n_rows = int(table.load(packages)[table.target].notna().sum())
            if least <= n_rows <= most:
                found.append((n_rows, table))
    found.sort(key=lambda pair: -pair[0])
    return [table for _, table in found]


def verdicts(
    tables: Sequence[RealTable],
    learners: Sequence[str],
    seeds: Sequence[int],
    options: argparse.Namespace,
) -> list[Verdict]:
    """Return the verdicts of all trials, in order; those that the cache lacks are run."""
    wanted = [
        (table, Trial(table.name, learner, seed, trials.code_of(learner)))
        for table in tables
        for learner in learners
        for seed in seeds
    ]
    options.cache.mkdir(parents=True, exist_ok=True)
    file = options.cache / "verdicts.jsonl"
    known = read_cache(file)
    known.update(_kept(known.values(), wanted, options.keep))
    missing = [(table, trial) for table, trial in wanted if trial.key not in known]
    found = _run(missing, options.packages, options.processes)
    with file.open("a") as lines:
        for count, verdict in enumerate(found, 1):
            lines.write(verdict.to_json() + "\n")
            lines.flush()
            known[verdict.trial.key] = verdict
            _report(count, len(missing), verdict)
    return [known[trial.key] for _, trial in wanted]


def read_cache(file: Path) -> dict[str, Verdict]:
    """Return the verdicts of a file by the keys of their trials."""
    if not file.exists():
        return {}
    found = map(Verdict.from_json, file.read_text().splitlines())
    return {verdict.trial.key: verdict for verdict in found}


def _kept(
    known: Iterable[Verdict],
    wanted: Sequence[tuple[RealTable, Trial]],
    learners: Sequence[str],
) -> dict[str, Verdict]:
    """Return the last verdicts on these learners by the keys of the trials wanted."""
    last = {replace(verdict.trial, code="").key: verdict for verdict in known}
    found = {}
    for _, trial in wanted:
        verdict = last.get(replace(trial, code="").key)
        if verdict is not None and trial.learner in learners:
            found[trial.key] = verdict
    return found


def _run(
    missing: Sequence[tuple[RealTable, Trial]], packages: Path, n_processes: int
) -> Iterator[Verdict]:
    trials.use_one_thread()
    spawn = multiprocessing.get_context("spawn")
    processes = ProcessPoolExecutor(n_processes, mp_context=spawn)
    try:
        running = [
            processes.submit(trials.run, table, trial, packages)
            for table, trial in missing
        ]
        for each in as_completed(running):
            yield each.result()
    finally:
        processes.shutdown(cancel_futures=True)


def _report(count: int, n_trials: int, verdict: Verdict) -> None:
    trial = verdict.trial
    ratio = standings.ratio_of(verdict)
    what = f"{trial.table}, {trial.learner}, seed {trial.seed}: {ratio:.3f}"
    end = f" {verdict.error[:100]}\n" if verdict.error else "\r"
    print(f"\x1b[K{count}/{n_trials} {what}", end=end, file=sys.stderr, flush=True)


def table_lines(tables: Sequence[standings.Judged]) -> list[str]:
    """Return a line for each table, with the ratio of each learner."""
    learners = list(tables[0].scores) if tables else []
    lines = learners_page.head("table", "rows", *learners)
    for table in tables:
        ratios = [f"{table.scores[learner].ratio:.3f}" for learner in learners]
        lines.append(learners_page.line(table.name, f"{table.n_rows:,}", *ratios))
    return lines


def failures(found: Sequence[Verdict]) -> Iterator[str]:
    """Yield a line for each learner and table that could not be fitted or predicted."""
    for verdict in found:
        if verdict.error:
            trial = verdict.trial
            yield f"{trial.table}, {trial.learner}: {verdict.error}"


if __name__ == "__main__":
    main()
