"""Ids contain their time, which determines the folder of their objects."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from rowcast.ids import folder_of, new_id, time_of

NOON = "018cc251-f400-7000-8000-000000000000"


def test_later_ids_sort_later() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))


def test_id_is_a_uuid_of_version_7_in_its_usual_form() -> None:
    identifier = new_id()
    assert uuid.UUID(identifier).version == 7
    assert str(uuid.UUID(identifier)) == identifier


def test_id_contains_the_time_of_its_creation() -> None:
    minted_at = time_of(new_id())
    assert minted_at is not None
    assert abs(datetime.now(UTC) - minted_at) < timedelta(seconds=5)


def test_folder_is_owner_day_hour_and_id() -> None:
    assert time_of(NOON) == datetime(2024, 1, 1, tzinfo=UTC)
    assert folder_of("acme", NOON) == f"acme/2024-01-01/00/{NOON}"


@pytest.mark.parametrize(
    ("offset_ms", "folder"), [(-1, "2023-12-31/23"), (3_599_999, "2024-01-01/00")]
)
def test_folder_changes_on_the_hour(offset_ms: int, folder: str) -> None:
    shifted = str(uuid.UUID(int=uuid.UUID(NOON).int + (offset_ms << 80)))
    assert folder_of("acme", shifted) == f"acme/{folder}/{shifted}"


@pytest.mark.parametrize(
    "identifier",
    [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        "16fd2706-8baf-433b-82eb-8c7fada847da",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
    ],
    ids=["nil", "max", "version 1", "version 4", "version 7 after the year 9999"],
)
def test_foreign_uuid_has_neither_time_nor_folder(identifier: str) -> None:
    assert time_of(identifier) is None
    assert folder_of("acme", identifier) is None
