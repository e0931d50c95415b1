"""Files as no writer makes them, through HTTP: they cost their own request or job, nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from rowcast.config import Settings
from tests.faults.breaking import tree
from tests.support import crafted
from tests.support.crafted import Page, i32, listed, repeated
from tests.support.processes import has_ended
from tests.support.stack import Stack, StartStack, submitted
from tests.support.tables import table

INSPECTION_BYTES = Settings().inspection_memory_bytes
JOB_BYTES = 600_000_000
# What an inspector has before the first table, and one reading's time.
MARGIN_BYTES = 120_000_000
COLUMN = listed({4: b"root", 5: i32(1)}, {1: i32(crafted.INT64), 4: b"y"})
ABOUT: crafted.Struct = {1: i32(2), 2: COLUMN, 3: 1}

# A look at each of these ends in an error.
HOSTILE: dict[str, Callable[[], bytes]] = {
    "Arrow stream of 2 ** 60 fields": lambda: crafted.arrow_stream(n_levels=60),
    "Arrow stream of 2 ** 60 fields, longer": (
        lambda: crafted.arrow_stream(n_levels=60, n_padding=30_000_000)
    ),
    "Arrow stream of ten million fields": (
        lambda: crafted.arrow_stream(
            n_columns=10_000, n_levels=1, n_children=1_000, n_padding=10_000_000
        )
    ),
    "Arrow file of ten million fields": (
        lambda: crafted.arrow_file(
            n_columns=10_000, n_levels=1, n_children=1_000, n_padding=10_000_000
        )
    ),
    "Arrow stream of a million columns": (
        lambda: crafted.arrow_stream(n_columns=1_000_000)
    ),
    "Arrow stream of 200 levels": (
        lambda: crafted.arrow_stream(n_levels=200, n_children=1)
    ),
    "Parquet footer that promises columns": (
        lambda: crafted.with_footer(
            {**ABOUT, 2: repeated({4: b"x"}, 1, n_promised=249_999)}
        )
    ),
    "Parquet footer that promises column chunks": (
        lambda: crafted.with_footer(
            ABOUT
            | {4: listed({1: repeated({2: 4}, 1, n_promised=249_999), 2: 1, 3: 1})}
        )
    ),
    "Parquet footer of ten million column chunks": (
        lambda: crafted.with_footer(
            {**ABOUT, 4: repeated({1: repeated({2: 4}, 240_000), 2: 1, 3: 1}, 40)}
        )
    ),
    "Parquet schema of 100,000 levels": (
        lambda: crafted.with_footer(
            {**ABOUT, 2: repeated({4: b"x", 3: i32(1), 5: i32(1)}, 100_000)}
        )
    ),
}

# A look at these finds nothing, because it sees the footer alone.
N_ROWS = 1_000
LARGE = 1_500_000_000
EXPLOSIVE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "page that promises 2 GB": (
        "invalid_table",
        lambda: crafted.parquet(
            [Page(crafted.zstd_of_zeros(100), N_ROWS, n_unpacked=2**31 - 1)],
            n_rows=N_ROWS,
            codec=crafted.ZSTD,
            n_columns=3,
        ),
    ),
    "page of 1.5 GB in 46 kB": (
        "out_of_memory",
        lambda: crafted.parquet(
            [Page(crafted.zstd_of_zeros(LARGE), N_ROWS, n_unpacked=LARGE)],
            n_rows=N_ROWS,
            codec=crafted.ZSTD,
            n_columns=3,
        ),
    ),
    "columns of 2 MB that are all the same 64 bytes": (
        "out_of_memory",
        lambda: crafted.parquet(
            [Page(crafted.zstd_of_zeros(2_000_000), N_ROWS, n_unpacked=2_000_000)],
            n_rows=N_ROWS,
            codec=crafted.ZSTD,
            n_columns=1_000,
        ),
    ),
    "rows that repeat a text of 900 kB": (
        "out_of_memory",
        lambda: crafted.parquet(
            [
                Page(
                    crafted.repeating_text(20_000, 900_000),
                    20_000,
                    crafted.DELTA_BYTE_ARRAY,
                )
            ],
            n_rows=20_000,
            kind=crafted.BYTE_ARRAY,
            n_columns=2,
        ),
    ),
    "dictionary that promises 2 ** 31 values": (
        "invalid_table",
        lambda: crafted.parquet(
            [
                Page(bytes(24), 2**31 - 1, is_dictionary=True),
                Page(b"\1\2\0", N_ROWS, crafted.RLE_DICTIONARY),
            ],
            n_rows=N_ROWS,
            kind=crafted.BYTE_ARRAY,
            n_columns=2,
        ),
    ),
    "page that promises 2 ** 31 values": (
        "invalid_table",
        lambda: crafted.parquet(
            [Page(bytes(24), 2**31 - 1)], n_rows=99_000_000, n_columns=2
        ),
    ),
}


@pytest.fixture(scope="module")
def guarded(start_stack: StartStack) -> Stack:
    """Return a stack with the limits of inspections that it has by default."""
    return start_stack(
        workers=1,
        SHORT_WORKERS="0",
        INSPECTION_TIMEOUT_S="3",
        JOB_MEMORY_BYTES=str(JOB_BYTES),
    )


def inspectors(stack: Stack) -> list[psutil.Process]:
    return [each for each in tree(stack.process.pid) if each.name() == "inspectors"]


@contextmanager
def peak_memory(stack: Stack) -> Iterator[Callable[[], int]]:
    """Give a function that returns the most bytes that an inspector has had so far."""
    found = [0]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.01):
            with suppress(psutil.Error):
                sizes = [each.memory_info().rss for each in inspectors(stack)]
                found[0] = max(found + sizes)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: found[0]
    finally:
        is_over.set()
        watcher.join()


@pytest.mark.parametrize("name", HOSTILE)
def test_crafted_file_is_refused_and_costs_one_inspection(
    guarded: Stack, name: str
) -> None:
    dataset = guarded.upload(HOSTILE[name]())
    servers = guarded.part("server").children()
    with peak_memory(guarded) as peak_bytes:
        answer = guarded.post("/fit", id=dataset)
        assert answer.status_code == 422
        assert answer.json()["code"] in ("invalid_table", "table_too_complex")
        assert peak_bytes() < INSPECTION_BYTES + MARGIN_BYTES
    assert not any(map(has_ended, servers))
    assert guarded.get("/healthz").ok


def test_tables_are_accepted_while_crafted_files_are_looked_at(guarded: Stack) -> None:
    bad = guarded.upload(HOSTILE["Arrow stream of ten million fields"]())
    good = guarded.upload(table())
    looking = threading.Thread(target=lambda: guarded.post("/fit", id=bad))
    looking.start()
    guarded.finished(submitted(guarded.post("/fit", id=good)))
    looking.join()


@pytest.mark.parametrize("name", EXPLOSIVE)
def test_crafted_file_that_a_job_reads_ends_in_an_error_and_costs_no_worker(
    guarded: Stack, name: str
) -> None:
    code, made = EXPLOSIVE[name]
    workers = guarded.part("worker").children()
    job = guarded.fit(made(), target="c1", validation="none", task="regression")
    status = guarded.wait(job)
    assert (status["status"], status["attempts"]) == ("failed", 1)
    assert status["error"]["code"] == code
    assert guarded.part("worker").children() == workers
    guarded.finished(guarded.fit(table(), validation="none"))
