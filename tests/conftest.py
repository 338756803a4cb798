"""What all tests share: virtual time, the three event loops, the Hypothesis profile."""

from __future__ import annotations

import os
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings
from trio.testing import MockClock

SLOW = [HealthCheck.too_slow]
settings.register_profile("default", max_examples=100, deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile("soak", max_examples=5_000, deadline=None, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

VIRTUAL: Any = "virtual"


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(VIRTUAL, id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Every async test runs on asyncio, on uvloop and on trio in virtual time, unless its module says otherwise."""
    if request.param is VIRTUAL:
        return "trio", {"clock": MockClock(autojump_threshold=0)}
    return request.param


@pytest.fixture(autouse=True)
def _quiet_log() -> Any:
    """Log lines go to a list that a test can look at, not to the terminal."""
    with structlog.testing.capture_logs() as lines:
        yield lines
