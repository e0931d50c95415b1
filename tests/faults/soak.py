"""Hundreds of mixed jobs while everything is killed or stopped at random, and without that.

    make soak MINUTES=15 JOBS=500 SEED=1

Every job must end once, as in the undisturbed run and with the same predictions, and leave nothing
behind. Prints what it found and writes it into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
import psutil

from client import APIError, Client
from rowcast.jobs import JobQueue
from rowcast.store import publications
from tests.faults.breaking import tree
from tests.faults.soak_faults import FAULTS, STACK, Recovery, Wrecker, by_kind
from tests.faults.soak_histories import Histories
from tests.faults.soak_jobs import PATIENCE_S, Account, Story, insist, play, stories
from tests.support import ROOT
from tests.support.stack import Stack, launch
from tests.support.waiting import eventually

DOCUMENT = ROOT / "docs" / "reliability.md"
HEADING = "## The last soak"
N_USERS = 24
LONGEST_PAUSE_S = 5.0
SAME = ": the same ones as in the undisturbed run, with the same predictions."


@dataclass
class Ran:
    """A run of all stories: their accounts, and the problems."""

    accounts: list[Account]
    took_s: float
    problems: list[str]
    n_attempts: Counter[int] = field(default_factory=Counter)
    recoveries: list[Recovery] = field(default_factory=list)


def main() -> None:
    """Run the soak of the command line; exit with 1 if there was a problem."""
    options = _parse()
    plan = stories(options.jobs, options.seed)
    print(
        f"{sum(story.n_jobs for story in plan)} jobs, seed {options.seed}", flush=True
    )
    quiet = run(plan, 0, None)
    print(f"undisturbed: {quiet.took_s:.0f} s; now with faults", flush=True)
    broken = run(plan, options.minutes * 60, random.Random(options.seed))
    problems = [*quiet.problems, *broken.problems, *differences(plan, quiet, broken)]
    report = figures(quiet, broken, problems)
    print(report)
    write(report)
    for problem in problems:
        print(f"PROBLEM: {problem}", file=sys.stderr)
    sys.exit(bool(problems))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run mixed jobs while everything is killed at random."
    )
    parser.add_argument(
        "--minutes", type=float, default=15, help="how long things break (15)"
    )
    parser.add_argument("--jobs", type=int, default=500, help="how many jobs (500)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the jobs and the faults (1)"
    )
    return parser.parse_args()


def run(plan: list[Story], lasts_s: float, rng: random.Random | None) -> Ran:
    """Play all stories on a new stack within `lasts_s` seconds; with `rng`, break it meanwhile."""
    with tempfile.TemporaryDirectory(prefix="rowcast-soak-") as folder:
        stack = launch(Path(folder), **STACK)
        accounts, wrecker = (
            [Account() for _ in plan],
            Wrecker(stack, rng or random.Random(0)),
        )
        started, are_over = time.monotonic(), threading.Event()
        histories = Histories()
        jobs = [account.jobs for account in accounts]
        with ThreadPoolExecutor(2) as pool, Client(stack.url) as client:
            watching = pool.submit(histories.watch, client, jobs, are_over)
            breaking = pool.submit(_break, wrecker, are_over) if rng else None
            try:
                problems = _play_all(plan, accounts, client, lasts_s)
            finally:
                are_over.set()
            for background in filter(None, (watching, breaking)):
                if error := background.exception():
                    problems.append(f"{type(error).__name__}: {error}")
            problems += histories.problems
        took_s = time.monotonic() - started
        ran = Ran(accounts, took_s, problems, recoveries=wrecker.recoveries)
        _inspect(stack, ran)
        return ran


def _break(wrecker: Wrecker, are_over: threading.Event) -> None:
    while not are_over.wait(wrecker.rng.uniform(0, LONGEST_PAUSE_S)):
        wrecker.once()
        if wrecker.recoveries:
            last = wrecker.recoveries[-1]
            print(f"  {last.kind}: {last.took_s:.1f} s", flush=True)


def _play_all(
    plan: list[Story], accounts: list[Account], client: Client, lasts_s: float
) -> list[str]:
    started = time.monotonic()

    def begin(story: Story, account: Account) -> None:
        time.sleep(max(0, started + story.at * lasts_s - time.monotonic()))
        play(story, client, account)

    with ThreadPoolExecutor(N_USERS) as users:
        futures = [
            users.submit(begin, *each) for each in zip(plan, accounts, strict=True)
        ]
    errors = [future.exception() for future in futures]
    return [
        f"story {story.seed}: {type(error).__name__}: {error}"
        for story, error in zip(plan, errors, strict=True)
        if error
    ]


def _inspect(stack: Stack, ran: Ran) -> None:
    """Check what is left: one end of each job, also without Redis, and no file or process."""
    ends: dict[str, dict[str, Any]] = {}
    with Client(stack.url) as client:
        for job in _jobs(stack, ran):
            try:
                ends[job] = _settled(client, job)
            except APIError as error:
                ran.problems.append(f"{job} was accepted, and is unknown: {error.code}")
    for job, status in ends.items():
        n_published = len(
            publications.attempts_in(
                stack.storage().names(_bucket(status), "default", job)
            )
        )
        if n_published != (status["status"] == "finished"):
            ran.problems.append(
                f"{job} is {status['status']}, and has published {n_published} times"
            )
        ran.n_attempts[status["attempts"]] += 1
    # Canceled jobs, and those whose fit made no model, get their records a moment later.
    eventually(lambda: not JobQueue(stack.redis()).unrecorded(), timeout_s=PATIENCE_S)
    stack.redis().flushall()
    for job, status in ends.items():
        found = stack.status(job)
        if changed := [each for each in status.items() if each not in found.items()]:
            ran.problems.append(f"{job} differs without Redis: {changed}, {found}")
    processes = tree(stack.process.pid)
    stack.stop()
    # While the stack runs, standby work horses that warm up have folders.
    left = [path.name for path in (stack.data / "scratch").glob("*/")]
    _, alive = psutil.wait_procs(processes, timeout=5)
    left += [f"process {process.pid}" for process in alive]
    ran.problems += [f"{name} was left behind" for name in left]


def _jobs(stack: Stack, ran: Ran) -> set[str]:
    """Return the jobs that users know, and those whose answers were lost.

    A Redis that was full has forgotten jobs that had ended.
    """
    names: Any = stack.redis().zrange("rowcast:jobs:default", 0, -1)
    known = {name.decode() for name in names}
    return known.union(*(account.jobs for account in ran.accounts))


def _settled(client: Client, job: str) -> dict[str, Any]:
    """Return the final status of a job, for which perhaps no client has waited."""
    deadline = time.monotonic() + PATIENCE_S
    while (status := insist(lambda: client.status(job)))["status"] not in (
        "finished",
        "failed",
        "canceled",
    ):
        if time.monotonic() > deadline:
            raise AssertionError(f"{job} does not end: {status}")
        time.sleep(0.1)
    return status


def _bucket(status: dict[str, Any]) -> Any:
    return publications.BUCKETS["fit" if status["kind"] == "fit" else "predict"]


def differences(plan: list[Story], quiet: Ran, broken: Ran) -> list[str]:
    """Return what ended differently than in the undisturbed run."""
    pairs = zip(plan, quiet.accounts, broken.accounts, strict=True)
    return [
        f"story {story.seed}: {_short(one)} undisturbed, {_short(other)} with faults"
        for story, before, after in pairs
        for one, other in zip(before.ends, after.ends, strict=False)
        # Whether a fit is canceled in time depends on chance.
        if one != other and not story.is_canceled
    ]


def _short(end: tuple[Any, ...]) -> str:
    return " ".join(str(part)[:60] for part in end)


def figures(quiet: Ran, broken: Ran, problems: list[str]) -> str:
    """Return the section of the document."""
    ends = Counter(end[0] for account in broken.accounts for end in account.ends)
    memory_gb = psutil.virtual_memory().total / 1e9
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {joblib.cpu_count()} cores, {memory_gb:.0f} GB of memory.",
        "",
        "| | undisturbed | with faults |",
        "| --- | --- | --- |",
        f"| minutes | {quiet.took_s / 60:.1f} | {broken.took_s / 60:.1f} |",
        f"| jobs submitted | {_n_jobs(quiet)} | {_n_jobs(broken)} |",
        f"| submissions whose answer was lost | {_n_unknown(quiet)} | {_n_unknown(broken)} |",
        f"| faults | 0 | {len(broken.recoveries)} |",
        f"| jobs started never, once, twice, more often | {_tries(quiet)} | {_tries(broken)} |",
        f"| lost, twice published, ended otherwise, left behind | {len(quiet.problems)} | "
        f"{len(problems)} |",
        "",
        f"{ends['finished']} jobs finished, {ends['canceled']} were canceled, "
        f"{ends['refused']} failed or "
        f"were rejected because of their tables{SAME if not problems else '.'}",
        "",
        "| fault | times | median, s | worst, s | recovered when |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind, took_s in by_kind(broken.recoveries):
        median, worst = (
            (f"{statistics.median(took_s):.1f}", f"{took_s[-1]:.1f}")
            if took_s
            else ("", "")
        )
        lines.append(
            f"| {kind} | {len(took_s)} | {median} | {worst} | {FAULTS[kind].sign} |"
        )
    return "\n".join(lines)


def _n_jobs(ran: Ran) -> int:
    return sum(len(account.jobs) for account in ran.accounts)


def _n_unknown(ran: Ran) -> int:
    return sum(account.n_unknown for account in ran.accounts)


def _tries(ran: Ran) -> str:
    more = sum(n for attempts, n in ran.n_attempts.items() if attempts > 2)
    return ", ".join(
        str(n) for n in (*(ran.n_attempts[attempts] for attempts in range(3)), more)
    )


def write(report: str) -> None:
    """Replace the section in the document."""
    text = DOCUMENT.read_text()
    before, after = text.split(f"{HEADING}\n", 1)
    rest = re.search(r"^## .*", after, re.MULTILINE | re.DOTALL)
    DOCUMENT.write_text(
        "\n".join([f"{before}{HEADING}\n", report, *([f"\n{rest[0]}"] if rest else [])])
        + "\n"
    )


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
