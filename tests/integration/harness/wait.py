"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Sanitizer builds on two busy cores are an order of magnitude slower; a deadline only ends a test that hangs.
PATIENCE_S = float(os.environ.get("PENSTOCK_TEST_PATIENCE_S", "30"))


def eventually(probe: Callable[[], T], what: str, within_s: float = PATIENCE_S) -> T:
    """Calls `probe` until it returns something true, and returns that; fails with the last value otherwise."""
    deadline = time.monotonic() + within_s
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:.0f} s: {what} (last: {value!r})")
        time.sleep(0.01)
