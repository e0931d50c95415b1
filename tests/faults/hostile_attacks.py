"""What one owner can do to a service to take it down for the others. `python -m
tests.faults.hostile_attacks URL KEY SECONDS` does all of it at the same time."""

from __future__ import annotations

import io
import itertools
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import requests

from tests.support.tables import parquet, slow_table, table

N_SLOW_CALLERS = 70
N_STREAMS = 80
N_WAITS = 64
N_GUESSERS = 4
N_ONLINE = 8
MAX_QUEUED = 50


@dataclass
class Attacker:
    """A caller with a key of its own, and the answers that it got by status."""

    url: str
    key: str
    is_over: threading.Event
    statuses: Counter[str] = field(default_factory=Counter)

    def call(self, method: str, path: str, **options: Any) -> requests.Response | None:
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        try:
            answer = requests.request(
                method, self.url + path, headers=headers, timeout=60, **options
            )
        except requests.RequestException as error:
            self.statuses[type(error).__name__] += 1
            return None
        self.statuses[str(answer.status_code)] += 1
        return answer

    def upload(self, content: bytes) -> str | None:
        answer = self.call("GET", "/upload")
        if answer is None or not answer.ok:
            return None
        made = answer.json()
        with suppress(requests.RequestException):
            requests.put(made["url"], data=content, timeout=60)
        return str(made["id"])

    def fit(self, dataset_id: str | None, **parameters: Any) -> str | None:
        if dataset_id is None:
            return None
        answer = self.call("POST", "/fit", json={"id": dataset_id, **parameters})
        return answer.json()["id"] if answer is not None and answer.ok else None


# Files


def long_number() -> bytes:
    """Return a CSV with a cell of digits that ends in a letter."""
    return b"x,y\n" + b"1" * 6_000 + b"a,1\n2,0\n"


def sparse_lines() -> bytes:
    """Return JSON Lines with one line of 9,999 members, and 20,000 lines without any."""
    wide = json.dumps({f"column_{i}": 1 for i in range(9_999)})
    return wide.encode() + b"\n" + b"{}\n" * 20_000


def large_footer() -> bytes:
    """Return a Parquet file of few rows, whose footer describes 600,000 column chunks."""
    names = [f"column_{i}" for i in range(9_999)]
    row = pa.table({name: np.zeros(1) for name in names})
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, row.schema) as writer:
        for _ in range(60):
            writer.write_table(row)
    return buffer.getvalue()


def refused_files(attacker: Attacker) -> None:
    """Fit files of a few kilobytes that cost much to parse, again and again."""
    contents = [long_number(), sparse_lines(), large_footer()]
    datasets = [attacker.upload(content) for content in contents]
    for dataset in itertools.cycle(datasets):
        if attacker.is_over.is_set():
            return
        attacker.fit(dataset)


# Connections


def slow_callers(attacker: Attacker) -> None:
    """Send one byte of a request every four seconds, on many connections."""
    address = urlsplit(attacker.url)
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Padding: " + b"x" * 1_000
    connections: list[socket.socket | None] = [None] * N_SLOW_CALLERS
    for sent in itertools.count():
        for n, connection in enumerate(connections):
            try:
                if connection is None:
                    place = (address.hostname, address.port)
                    connections[n] = socket.create_connection(place, 5)
                else:
                    connection.sendall(head[sent % len(head)].to_bytes(1, "big"))
            except OSError:
                connections[n] = None
        if attacker.is_over.wait(4):
            return


def streams(attacker: Attacker, job: str) -> None:
    """Hold an event stream of a job that waits."""
    while not attacker.is_over.is_set():
        answer = attacker.call("GET", f"/status?id={job}&stream=1", stream=True)
        if answer is None:
            continue
        with suppress(requests.RequestException), answer:
            for _ in answer.iter_content(64):
                if attacker.is_over.is_set():
                    return
        attacker.is_over.wait(0.5)


def waits(attacker: Attacker, job: str) -> None:
    """Hold a seat of those that wait for a job."""
    while not attacker.is_over.is_set():
        attacker.call("GET", f"/status?id={job}&wait=30")
        attacker.is_over.wait(0.5)


# Requests


def guesses(attacker: Attacker) -> None:
    """Guess keys."""
    for n in itertools.count():
        if attacker.is_over.is_set():
            return
        wrong = {"Authorization": f"Bearer guess-{os.getpid()}-{n}"}
        attacker.call("GET", "/models", headers=wrong)


def bodies_without_a_key(attacker: Attacker) -> None:
    """Send large bodies with a wrong key."""
    wrong = {"Authorization": "Bearer wrong-key", "Content-Type": "text/csv"}
    while not attacker.is_over.is_set():
        attacker.call("POST", "/predict", data=b"x" * 5_000_000, headers=wrong)


def stored_options(attacker: Attacker) -> None:
    """Fill Redis with options, idempotency keys and refusals."""
    dataset = attacker.upload(parquet(table(100, 3)))
    weights = {f"class {i}" * 20: 1.0 for i in range(4_300)}
    for n in itertools.count():
        if attacker.is_over.is_set():
            return
        attacker.fit(dataset, class_weight=weights)
        key = {"Idempotency-Key": f"key-{n}"}
        attacker.call("POST", "/cancel", json={"id": dataset}, headers=key)


def many_jobs(attacker: Attacker) -> None:
    """Keep a long queue of slow fits."""
    dataset = attacker.upload(parquet(slow_table()))
    while not attacker.is_over.is_set():
        for _ in range(MAX_QUEUED):
            attacker.fit(dataset, params={"max_iter": 40}, validation="none")
        attacker.is_over.wait(10)


def online(attacker: Attacker, model: str, rows: bytes) -> None:
    """Predict large tables online, one after the other."""
    while not attacker.is_over.is_set():
        sent_as = {"Content-Type": "application/vnd.apache.parquet"}
        attacker.call("POST", f"/predict?model_id={model}", data=rows, headers=sent_as)


def listings(attacker: Attacker) -> None:
    """List everything, again and again."""
    while not attacker.is_over.is_set():
        attacker.call("GET", "/jobs?limit=1000")
        attacker.call("GET", "/datasets?limit=1000")


def attack(url: str, key: str, seconds: float) -> Counter[str]:
    """Do all of it for so many seconds; return how often each status was answered."""
    attacker = Attacker(url, key, threading.Event())
    model, job = _prepared(attacker)
    rows = parquet(table(10_000, 10).drop(columns="y"))
    plain: list[Callable[[Attacker], None]] = [
        refused_files,
        slow_callers,
        bodies_without_a_key,
        stored_options,
        many_jobs,
        listings,
        *[guesses] * N_GUESSERS,
    ]
    works: list[tuple[Callable[..., None], tuple[Any, ...]]]
    works = [(each, ()) for each in plain]
    works += [(streams, (job,))] * N_STREAMS
    works += [(waits, (job,))] * N_WAITS
    works += [(online, (model, rows))] * N_ONLINE
    threads = [
        threading.Thread(target=work, args=(attacker, *arguments), daemon=True)
        for work, arguments in works
    ]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    attacker.is_over.set()
    for thread in threads:
        thread.join(5)
    return attacker.statuses


def _prepared(attacker: Attacker) -> tuple[str, str]:
    """Return a model, and a job that runs for long."""
    model = attacker.fit(attacker.upload(parquet(table(1_000, 10))))
    assert model
    attacker.call("GET", f"/status?id={model}&wait=30")
    job = attacker.fit(
        attacker.upload(parquet(slow_table())),
        params={"max_iter": 1_000},
        validation="none",
    )
    assert job
    return model, job


def yield_cores() -> None:
    """Take only the time of the cores that the service leaves: attackers have their own machine."""
    os.nice(19)
    # Where the kernel shares the cores between sessions first, niceness counts inside of one only.
    os.setsid()
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("10")


if __name__ == "__main__":
    yield_cores()
    print(json.dumps(attack(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
