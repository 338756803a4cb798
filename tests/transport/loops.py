"""The event loops that generated schedules run on, a fresh one for each example."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import anyio
import pytest
from trio.testing import MockClock

T = TypeVar("T")

LOOPS: Final = pytest.mark.parametrize("loop", ["trio", "asyncio", "uvloop"])


def run_on(loop: str, function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run an async function to its end; time is virtual on trio. One that hangs raises `TimeoutError`."""

    async def main() -> T:
        with anyio.fail_after(1_000 if loop == "trio" else 20):
            return await function(*args)

    if loop == "trio":
        return anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
    return anyio.run(main, backend="asyncio", backend_options={"use_uvloop": loop == "uvloop"})
