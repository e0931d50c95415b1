"""What 100,000 stored datasets cost requests, compared with 10 stored datasets.

Two stacks run side by side, and are measured alternately. The datasets are written to the folder of
the store before it starts: 2,000 in the last hour, and the others over two months.
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

N_FEW, N_MANY = 10, 100_000
N_NEWEST = 2_000
N_HOURS = 60 * 24
HOUR_S = 3600
# Requests per run, and the default length of a page.
N_CALLS = 20
PAGE = 20
WHAT = f"{N_MANY:,} datasets stored, compared with {N_FEW}"
LISTED = f"first page of /datasets, {WHAT}"
LISTED_AS_LONG = f"{N_FEW} lines of /datasets, {WHAT}"
FITTED = f"/fit, {WHAT}"

Measured = Callable[[], list[float]]


def measure(bench: Bench) -> list[Line]:
    bench.stop_stack()
    with tempfile.TemporaryDirectory() as folder:
        few_data, many_data = Path(folder) / "few", Path(folder) / "many"
        few_ids = _stored(few_data, N_FEW)
        many_ids = _stored(many_data, N_MANY)
        with stack.running(few_data) as few, stack.running(many_data) as many:
            few.hold()
            many.hold()
            list_few = partial(_list, few, few_ids)
            list_many = partial(_list, many, many_ids)
            listed = _pairs(bench, partial(list_few, PAGE), partial(list_many, PAGE))
            as_long = _pairs(bench, partial(list_few, N_FEW), partial(list_many, N_FEW))
            fits = _pairs(bench, _fit(bench, few), _fit(bench, many))
    note = f"{PAGE} lines on the page, compared with {N_FEW}"
    return [
        ratio(LISTED, listed, Target("at most", 2), note),
        ratio(LISTED_AS_LONG, as_long),
        # The same time, as far as times of a few milliseconds can be distinguished.
        ratio(FITTED, fits, Target("at most", 1.1)),
    ]


def _pairs(bench: Bench, few: Measured, many: Measured) -> Pairs:
    """Return the median milliseconds of each run; the first run warms up."""
    few_ms = []
    many_ms = []
    for _ in range(bench.n_runs + 1):
        few_ms.append(statistics.median(few()))
        many_ms.append(statistics.median(many()))
    return Pairs(few_ms[1:], many_ms[1:], "ms")


def _stored(data: Path, n: int) -> list[str]:
    """Write datasets to the folder of a store, and return their ids, the newest first."""
    now = time.time()
    hour = now - now % HOUR_S
    n_newest = min(n, N_NEWEST)
    times = [random.uniform(hour, now) for _ in range(n_newest)]
    times += [hour - random.uniform(0, N_HOURS * HOUR_S) for _ in range(n - n_newest)]
    ids = sorted(map(_id_at, times), reverse=True)

    datasets = data / "store" / "datasets"
    for identifier in ids:
        path = datasets / str(folder_of("default", identifier)) / "data"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x,y\n1,2\n")
    return ids


def _id_at(seconds: float) -> str:
    """Return an id of a time in Unix seconds (UUIDv7: RFC 9562, section 5.7)."""
    ms = int(seconds * 1000)
    version = 7 << 76
    variant = 0b10 << 62
    random_a = random.getrandbits(12) << 64
    random_b = random.getrandbits(62)
    return str(uuid.UUID(int=ms << 80 | version | random_a | variant | random_b))


def _list(running: stack.Stack, ids: Sequence[str], limit: int) -> list[float]:
    """Request the first page N_CALLS times, and return the milliseconds of each request."""
    path = f"/datasets?limit={limit}"
    with calling(running.url) as caller:
        answers = [caller.ask("GET", path) for _ in range(N_CALLS)]
    for answer in answers:
        listed = [each["id"] for each in answer.body["datasets"]]
        assert listed == list(ids[:limit]), "other datasets are listed"
    return [answer.ms for answer in answers]


def _fit(bench: Bench, running: stack.Stack) -> Measured:
    """Return a function that queues fits and returns the milliseconds of each request."""
    train, _ = bench.tables(100, 10, 2)
    with Client(running.url) as client:
        dataset = client.upload(train)

    def submit() -> list[float]:
        with calling(running.url) as caller:
            answers = [caller.ask("POST", f"/fit?id={dataset}") for _ in range(N_CALLS)]
        assert all(answer.status == 202 for answer in answers), answers
        return [answer.ms for answer in answers]

    return submit


BENCHMARKS = [Benchmark("listing", LISTED, measure)]
