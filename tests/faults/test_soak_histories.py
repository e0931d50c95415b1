"""The soak notices a history that makes no sense."""

from __future__ import annotations

import pytest

from tests.faults.soak_histories import Histories


def history(*statuses: tuple[str, int]) -> list[str]:
    histories = Histories()
    for status, attempts in statuses:
        histories.note({"id": "job", "status": status, "attempts": attempts})
    return histories.problems


@pytest.mark.parametrize(
    "statuses",
    [
        (("queued", 0), ("started", 1), ("queued", 1), ("started", 2), ("finished", 2)),
        (("started", 1), ("canceled", 1), ("canceled", 1)),
    ],
)
def test_history_that_makes_sense_is_no_problem(
    statuses: tuple[tuple[str, int], ...],
) -> None:
    assert history(*statuses) == []


@pytest.mark.parametrize(
    "statuses",
    [
        (("finished", 1), ("started", 2)),
        (("failed", 1), ("finished", 1)),
        (("started", 2), ("started", 1)),
    ],
)
def test_history_that_makes_no_sense_is_a_problem(
    statuses: tuple[tuple[str, int], ...],
) -> None:
    assert len(history(*statuses)) == 1
