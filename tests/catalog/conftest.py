"""Fixtures for the tests of the catalog: a stack of several owners, parts of the shared stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from rowcast.jobs.service import Jobs
from rowcast.store.object_store import Storage
from tests.support.stack import Stack, StartStack

OWNERS = ("ann", "bob", "cleo", "dora", "emil", "finn")


@pytest.fixture(scope="package")
def keyed(start_lasting_stack: StartStack) -> Iterator[Stack]:
    """Return a stack where every owner has a key."""
    keys = ",".join(f"{name}:{name}-secret-key" for name in OWNERS)
    stack = start_lasting_stack(workers=1, API_KEYS=keys)
    yield stack
    stack.stop()


@pytest.fixture
def by_owner(keyed: Stack) -> Callable[[str], Stack]:
    def act_as(owner: str) -> Stack:
        headers = {"Authorization": f"Bearer {owner}-secret-key"}
        return Stack(keyed.process, keyed.url, keyed.data, headers)

    return act_as


@pytest.fixture(scope="module")
def storage(stack: Stack) -> Storage:
    return stack.storage()


@pytest.fixture(scope="module")
def jobs(stack: Stack, storage: Storage) -> Jobs:
    return Jobs(stack.redis(), stack.settings(), storage)
