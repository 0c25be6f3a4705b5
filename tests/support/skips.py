"""What a test needs of the machine: without it the test is skipped, or fails where CI says so."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def unavailable(reason: str) -> NoReturn:
    """Skips the test, or fails it where skips are forbidden."""
    if os.environ.get("EVOSEARCH_FORBID_SKIPS") == "1":
        pytest.fail(f"must not be skipped here: {reason}")
    pytest.skip(reason)
