"""Waiting for what becomes true in a moment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import psutil
import requests


def eventually(condition: Callable[..., Any], timeout_s: float = 20) -> Any:
    """Return the first true value of a condition; fail if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(
            requests.RequestException, psutil.Error, AssertionError
        ):
            if value := condition():
                return value
        time.sleep(0.04)
    raise AssertionError(f"this did not become true within {timeout_s} s")
