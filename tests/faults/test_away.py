"""Begin the outages of a minute; test_return.py checks what came of them, after other tests."""

from __future__ import annotations

import pytest

from tests.faults.long_outages import begin
from tests.support.stack import StartStack


@pytest.mark.parametrize("outage", ["redis_hangs", "store_hangs", "store_is_down"])
def test_the_part_is_away(start_lasting_stack: StartStack, outage: str) -> None:
    begun = begin(start_lasting_stack)[outage]
    assert begun.is_away.wait(120)
    if begun.seen.done():
        begun.seen.result()
