"""One owner attacks with all that it may do, while another one works.

    python -m tests.faults.hostile_minute [--seconds 60]

The other owner's fits, predictions and health checks go on: without an error, and its 99th
percentile is the figure. Prints it and writes it into docs/security.md.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import requests

from client import Client
from tests.support import ROOT
from tests.support.stack import Stack, launch
from tests.support.tables import table

DOCUMENT = ROOT / "docs" / "security.md"
HEADING = "## The last hostile minute"
VICTIM, ATTACKER = "ann-key-of-the-soak", "mallory-key-of-the-soak"
STACK: dict[str, Any] = {
    "API_KEYS": f"ann:{VICTIM},mallory:{ATTACKER}",
    "ONLINE_WORKERS": "2",
}
_AUTHORIZED = {"Authorization": f"Bearer {VICTIM}"}
# At most this many times the quiet run's 99th percentile is promised.
MOST_TIMES = 2.0
PAUSE_S = 0.1


@dataclass
class Measured:
    """What an owner's calls of a kind took, in seconds, and how they failed."""

    took_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def percentile_ms(self, share: float) -> float:
        return float(np.percentile(self.took_s, share) * 1000) if self.took_s else 0.0


def main() -> None:
    """Measure a quiet and a hostile run; exit with 1 if a call of the other owner failed."""
    parser = argparse.ArgumentParser(description="Attack a service of two owners.")
    parser.add_argument("--seconds", type=float, default=60, help="of each run (60)")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="rowcast-hostile-") as folder:
        stack = launch(Path(folder), **STACK)
        try:
            quiet, _ = measure(stack, seconds, attacks=False)
            hostile, statuses = measure(stack, seconds, attacks=True)
        finally:
            stack.stop()
    report = figures(quiet, hostile, statuses)
    print(report)
    write(report)
    errors = [error for found in hostile.values() for error in found.errors]
    for error in errors:
        print(f"PROBLEM: {error}", file=sys.stderr)
    sys.exit(bool(errors))


def measure(
    stack: Stack, seconds: float, *, attacks: bool
) -> tuple[dict[str, Measured], dict[str, int]]:
    """Work as the first owner for so many seconds; return what its calls took, by kind.

    With `attacks` also the statuses that the second owner got meanwhile.
    """
    is_over = threading.Event()
    works = calls(stack)
    found = {name: Measured() for work in works for name in work}
    attacking = _attacking(stack, seconds) if attacks else None
    threads = [
        threading.Thread(target=_repeat, args=(work, found, is_over)) for work in works
    ]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    is_over.set()
    for thread in threads:
        thread.join()
    return found, _statuses(attacking)


def calls(stack: Stack) -> list[dict[str, Callable[[], Any]]]:
    """Return what the first owner does at the same time, and of that one after the other, by name.

    Its jobs follow each other: of two workers, one is each owner's share.
    """
    client = Client(stack.url, api_key=VICTIM)
    train = table(1_000, 10)
    model = client.fit(train, learner="boosting")
    client.wait(model)
    rows = train.drop(columns="y").head(500)
    row = json.loads(rows.head(1).to_json(orient="records"))
    jobs = {
        "fit of 1,000 x 10": lambda: client.wait(client.fit(train, learner="boosting")),
        "prediction by a job": lambda: client.wait(client.predict(rows, model)),
    }
    return [
        {"/healthz": lambda: _get(f"{stack.url}/healthz")},
        {"one row online": lambda: _predict(stack.url, model, row)},
        jobs,
    ]


def _get(url: str) -> None:
    requests.get(url, timeout=30).raise_for_status()


def _predict(url: str, model: str, row: Any) -> None:
    place = f"{url}/predict?model_id={model}"
    requests.post(place, json=row, headers=_AUTHORIZED, timeout=60).raise_for_status()


def _repeat(
    work: dict[str, Callable[[], Any]],
    found: dict[str, Measured],
    is_over: threading.Event,
) -> None:
    while not is_over.is_set():
        for name, call in work.items():
            _measure(call, found[name])
            is_over.wait(PAUSE_S)


def _measure(call: Callable[[], Any], found: Measured) -> None:
    started_at = time.monotonic()
    try:
        call()
    except Exception as error:  # noqa: BLE001 - every failure counts
        found.errors.append(f"{type(error).__name__}: {error}")
    else:
        found.took_s.append(time.monotonic() - started_at)


def _attacking(stack: Stack, seconds: float) -> subprocess.Popen[str]:
    attacks = [sys.executable, "-m", "tests.faults.hostile_attacks"]
    arguments = [stack.url, ATTACKER, str(seconds)]
    return subprocess.Popen(
        [*attacks, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def _statuses(attacking: subprocess.Popen[str] | None) -> dict[str, int]:
    if attacking is None:
        return {}
    output, _ = attacking.communicate(timeout=180)
    return dict(json.loads(output))


def figures(
    quiet: dict[str, Measured],
    hostile: dict[str, Measured],
    statuses: dict[str, int],
) -> str:
    """Return the section of the document."""
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {joblib.cpu_count()} cores. Two workers, two online "
        "workers.",
        "One owner attacks with all that it may do, from the same cores, at a tenth of the",
        "service's weight. The other one calls what the table says: all three at the same time,",
        "its jobs one after the other.",
        "",
        "| what the other owner does | calls, quiet | calls, hostile | errors | "
        "median, ms | 99th percentile, ms | times the quiet run's |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, before in quiet.items():
        after = hostile[name]
        times = after.percentile_ms(99) / max(before.percentile_ms(99), 1e-9)
        medians = f"{before.percentile_ms(50):.0f} -> {after.percentile_ms(50):.0f}"
        tails = f"{before.percentile_ms(99):.0f} -> {after.percentile_ms(99):.0f}"
        lines.append(
            f"| {name} | {len(before.took_s)} | {len(after.took_s)} | "
            f"{len(after.errors)} | {medians} | {tails} | {times:.1f} |"
        )
    answered = ", ".join(f"{name}: {n:,}" for name, n in sorted(statuses.items()))
    return "\n".join([*lines, "", f"Answers to the attacker, by status: {answered}."])


def write(report: str) -> None:
    """Replace the section in the document."""
    text = DOCUMENT.read_text()
    before, after = text.split(f"{HEADING}\n", 1)
    rest = re.search(r"^## .*", after, re.MULTILINE | re.DOTALL)
    parts = [f"{before}{HEADING}\n", report, *([f"\n{rest[0]}"] if rest else [])]
    DOCUMENT.write_text("\n".join(parts).rstrip("\n") + "\n")


if __name__ == "__main__":
    main()
