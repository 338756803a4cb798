"""How a test waits for something that it cannot await."""

from collections.abc import Callable

import anyio


async def until(condition: Callable[[], object], within: float = 5.0) -> None:
    """Return once `condition()` is true; it is looked at every millisecond. Raises `TimeoutError`."""
    with anyio.fail_after(within):
        while not condition():  # noqa: ASYNC110  # nothing tells
            await anyio.sleep(0.001)
