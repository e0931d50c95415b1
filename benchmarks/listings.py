"""What 100,000 stored datasets cost those who list them, and those who fit, over 10 that are
stored.

Two stacks stand side by side, so that both are measured in turn. The datasets are laid into the
folder of the store before it starts: some in every hour of two months, and 2,000 in the last hour.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import stack
from benchmarks.bench import Bench
from benchmarks.caller import calling
from benchmarks.line import Benchmark, Line, Pairs, Target, ratio
from client import Client
from rowcast.ids import folder_of

N_FEW, N_MANY, N_NEWEST, N_HOURS = 10, 100_000, 2_000, 60 * 24
N_CALLS, PAGE, HOUR_S = 20, 20, 3600
WHAT = f"{N_MANY:,} datasets stored, over {N_FEW}"
LISTED, LISTED_AS_LONG = (
    f"first page of /datasets, {WHAT}",
    f"{N_FEW} lines of /datasets, {WHAT}",
)
FITTED = f"/fit, {WHAT}"

Measured = Callable[[], list[float]]


def measure(bench: Bench) -> list[Line]:
    bench.stop_stack()
    with tempfile.TemporaryDirectory() as folder:
        few_data, many_data = Path(folder) / "few", Path(folder) / "many"
        few_ids, many_ids = _laid(few_data, N_FEW), _laid(many_data, N_MANY)
        with stack.running(few_data) as few, stack.running(many_data) as many:
            few.hold()
            many.hold()
            listed = _pairs(
                bench,
                partial(_list, few, few_ids, PAGE),
                partial(_list, many, many_ids, PAGE),
            )
            as_long = _pairs(
                bench,
                partial(_list, few, few_ids, N_FEW),
                partial(_list, many, many_ids, N_FEW),
            )
            fits = _pairs(bench, _fit(bench, few), _fit(bench, many))
    return [
        ratio(
            LISTED,
            listed,
            Target("at most", 2),
            f"{PAGE} lines on the page against {N_FEW}",
        ),
        ratio(LISTED_AS_LONG, as_long),
        # Unchanged, as far as times of a few milliseconds can be told apart.
        ratio(FITTED, fits, Target("at most", 1.1)),
    ]


def _pairs(bench: Bench, few: Measured, many: Measured) -> Pairs:
    rounds = [
        (statistics.median(few()), statistics.median(many()))
        for _ in range(bench.n_runs + 1)
    ][1:]
    return Pairs([ms for ms, _ in rounds], [ms for _, ms in rounds], "ms")


def _laid(data: Path, n: int) -> list[str]:
    """Lay datasets into the folder of a store; return their ids, the newest first."""
    now = time.time()
    hour = now - now % HOUR_S
    newest = [_id_at(random.uniform(hour, now)) for _ in range(min(n, N_NEWEST))]
    older = [
        _id_at(hour - random.uniform(0, N_HOURS * HOUR_S))
        for _ in range(n - len(newest))
    ]
    for identifier in [*newest, *older]:
        path = (
            data / "store" / "datasets" / str(folder_of("default", identifier)) / "data"
        )
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x,y\n1,2\n")
    return sorted([*newest, *older], reverse=True)


def _id_at(seconds: float) -> str:
    """Return an id as it would have been minted then (UUIDv7: RFC 9562, section 5.7)."""
    ms, low = int(seconds * 1000), random.getrandbits(74)
    return str(
        uuid.UUID(
            int=ms << 80 | 7 << 76 | low >> 62 << 64 | 0b10 << 62 | low & (1 << 62) - 1
        )
    )


def _list(running: stack.Stack, ids: Sequence[str], limit: int) -> list[float]:
    """Return the milliseconds of each of some requests for the first page."""
    with calling(running.url) as caller:
        answers = [
            caller.ask("GET", f"/datasets?limit={limit}") for _ in range(N_CALLS)
        ]
    for answer in answers:
        assert [each["id"] for each in answer.body["datasets"]] == list(ids[:limit]), (
            "other datasets are listed"
        )
    return [answer.ms for answer in answers]


def _fit(bench: Bench, running: stack.Stack) -> Measured:
    """Return what asks for fits of a dataset, which wait, and returns the milliseconds of each
    request."""
    train, _ = bench.tables(100, 10, 2)
    with Client(running.url) as client:
        dataset = client.upload(train)

    def ask() -> list[float]:
        with calling(running.url) as caller:
            answers = [caller.ask("POST", f"/fit?id={dataset}") for _ in range(N_CALLS)]
        assert all(answer.status == 202 for answer in answers), answers
        return [answer.ms for answer in answers]

    return ask


BENCHMARKS = [Benchmark("listing", LISTED, measure)]
