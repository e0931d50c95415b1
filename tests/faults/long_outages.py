"""Outages of a minute, in parallel on their own stacks, while other tests run.

Each function breaks a stack in one way and returns what it saw; the tests check that.
"""

from __future__ import annotations

import functools
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from client import Client
from rowcast.store import datasets as stored_datasets
from tests.faults.breaking import stopped
from tests.faults.external_store import ExternalStore
from tests.support.stack import Stack, StartStack, submitted
from tests.support.tables import parquet, slow_table, table
from tests.support.waiting import eventually

OUTAGE_S = 60.0
Seen = dict[str, Any]


@dataclass
class Outage:
    """One outage: `is_away` is set when it has begun, and the future returns what was seen."""

    is_away: threading.Event = field(default_factory=threading.Event)
    seen: Future[Seen] = field(default_factory=Future)


@functools.cache
def begin(start_stack: StartStack) -> dict[str, Outage]:
    """Begin all outages, once for all tests."""
    outages = {
        each.__name__: Outage() for each in (redis_hangs, store_hangs, store_is_down)
    }
    pool = ThreadPoolExecutor(len(outages))
    for each in (redis_hangs, store_hangs, store_is_down):
        outage = outages[each.__name__]
        outage.seen = pool.submit(each, start_stack, outage.is_away)
        outage.seen.add_done_callback(lambda _, it=outage: it.is_away.set())  # type: ignore[misc]
    return outages


def in_background(do: Callable[..., Any]) -> Future[Any]:
    """Call a function in its own thread."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(do)
    pool.shutdown(wait=False)
    return future


def running_fit(stack: Stack, **params: str) -> str:
    """Return a fit that has started, takes some seconds, and will end in the outage."""
    job = stack.fit(
        slow_table(), validation="none", params='{"max_iter": 60}', **params
    )
    eventually(
        lambda: stack.status(job)["status"] == "started" and stack.horses(),
        timeout_s=60,
    )
    return job


def waited_for(stack: Stack, job: str) -> str:
    with Client(stack.url) as client:
        return str(client.wait(job)["status"])


def redis_hangs(start_stack: StartStack, is_away: threading.Event) -> Seen:
    """Stop Redis while jobs run and are queued, and clients wait for both."""
    stack = start_stack(SHORT_WORKERS="0")
    running = [running_fit(stack) for _ in range(2)]
    waiting = [stack.fit(table(seed=seed)) for seed in range(3)]
    answers = [
        in_background(lambda it=job: waited_for(stack, it))
        for job in (running[0], waiting[-1])
    ]
    with stopped(stack.part("redis")):
        is_away.set()
        time.sleep(OUTAGE_S)
    seen = {
        "running": [stack.wait(job) for job in running],
        "waiting": [stack.wait(job) for job in waiting],
        "answers": [answer.result() for answer in answers],
    }
    stack.stop()
    return seen


def store_hangs(start_stack: StartStack, is_away: threading.Event) -> Seen:
    """Stop the store while a fit is to be published, jobs wait, and a client downloads a result."""
    folder = Path(tempfile.mkdtemp(prefix="rowcast-outage-"))
    with ExternalStore(folder) as store:
        stack = start_stack(workers=1, SHORT_WORKERS="0", **store.settings)
        result, before = big_result(stack)
        to_publish = running_fit(stack)
        waiting = [stack.fit(table(seed=seed)) for seed in range(2)]
        store.gate.hold(answered_to=b"/result.csv")
        downloaded = in_background(
            lambda: download(stack, result, folder / "again.csv")
        )
        assert store.gate.is_held.wait(30)
        with stopped(store.process):
            store.gate.open()
            is_away.set()
            time.sleep(OUTAGE_S)
        seen = {
            "published": stack.wait(to_publish),
            "waiting": [stack.wait(job) for job in waiting],
            "is_whole": downloaded.result() == before,
        }
        stack.stop()
    return seen


def big_result(stack: Stack) -> tuple[str, bytes]:
    """Return the id and bytes of a result that is larger than the buffers of a connection."""
    model = stack.fitted(table(200, 3))
    dataset = stack.upload(table(150_000, 3))
    keep = {"format": "csv", "keep": '["col_0", "col_1", "col_2"]'}
    result = submitted(
        stack.post("/predict", dataset_id=dataset, model_id=model, **keep)
    )
    stack.finished(result)
    return result, download(stack, result, stack.data / "before.csv")


def download(stack: Stack, result: str, path: Path) -> bytes:
    with Client(stack.url) as client:
        return client.download(result, path).read_bytes()


def store_is_down(start_stack: StartStack, is_away: threading.Event) -> Seen:
    """Kill the store during a client's upload, then for a minute during the upload of a model."""
    with ExternalStore(Path(tempfile.mkdtemp(prefix="rowcast-outage-"))) as store:
        stack = start_stack(workers=2, SHORT_WORKERS="0", **store.settings)
        seen = broken_upload(stack, store)
        options = {
            "learner": "forest",
            "validation": "none",
            "params": '{"n_estimators": 20}',
        }
        store.gate.hold(asked=b"partNumber=2")
        to_publish = stack.fit(many_classes(), **options)
        # The other worker tries the first two in turn; the last one stays queued.
        dataset = stack.upload(table())
        assert store.gate.is_held.wait(60)
        over_time = running_fit(stack, timeout_s="1")
        waiting = [submitted(stack.post("/fit", id=dataset)) for _ in range(3)]
        store.kill()
        store.gate.open()
        is_away.set()
        died_at = time.monotonic()
        seen["failed in it"] = stack.wait(over_time, OUTAGE_S)
        seen["canceled in it"] = stack.post("/cancel", id=waiting[-1]).json()
        time.sleep(max(0, died_at + OUTAGE_S - time.monotonic()))
        store.start()
        seen["published"] = stack.wait(to_publish)
        seen["waiting"] = [stack.wait(job) for job in waiting[:-1]]
        seen["result"] = stack.result(stack.predict(many_classes(), to_publish))
        records = [seen["failed in it"], seen["canceled in it"]]
        eventually(lambda: not stack.redis().exists("rowcast:unrecorded"))
        stack.redis().flushall()
        seen["as stored"] = [stack.status(record["id"]) for record in records]
        stack.stop()
    return seen


def broken_upload(stack: Stack, store: ExternalStore) -> Seen:
    """Kill the store in the middle of a client's upload."""
    rows = pd.DataFrame({"x": range(200_000), "text": "half-way"})
    content = rows.to_csv(index=False).encode()
    store.gate.hold(asked=b"half-way")
    with Client(stack.url) as client:
        upload = in_background(lambda: client.upload(content))
        assert store.gate.is_held.wait(30)
        store.kill()
        store.start()
        half = eventually(partial(datasets, stack))
        store.gate.open()
        dataset = upload.result()
    size, *_ = stored_datasets.uploaded(store.storage(), "default", dataset)
    return {"half of an upload": half["datasets"], "bytes": (size, len(content))}


def datasets(stack: Stack) -> Any:
    answer = stack.get("/datasets")
    assert answer.ok, answer.text
    return answer.json()


def many_classes() -> bytes:
    """Return a table that makes a forest so large that it is uploaded in parts."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        rng.normal(size=(3_000, 5)), columns=[f"col_{i}" for i in range(5)]
    )
    return parquet(frame.assign(y=[f"class {i}" for i in rng.integers(0, 20, 3_000)]))
