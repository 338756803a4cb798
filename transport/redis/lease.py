"""`Lease`: a node's right to its mailboxes, renewed by a thread of its own, so that a slow handler does not lose it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from time import monotonic
from typing import Final

from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from transport.redis.scripts import Script, script

MARGIN: Final = 0.25  # seconds before its end at which a node itself counts a lease as over: clocks run differently
STUCK: Final = 5.0  # seconds without a sign of life of the event loop after which the lease is left to end


class Lease:
    """One incarnation's lease in all partitions. It is over for good where it was not renewed in time.

    `connect` makes clients that are not async, for the thread alone, and says of which partitions each has the key
    `n`. `lost` is called in the thread.
    """

    def __init__(
        self, connect: Callable[[], AbstractContextManager[Sequence[tuple[Redis, Sequence[str]]]]], node: str, *,
        seconds: float, every: float, lost: Callable[[], None],
    ) -> None:  # fmt: skip
        self.node = node
        self.until = 0.0
        """When it ends, on the clock `monotonic`; counted from before the server was asked."""
        self.alive = monotonic()
        """The event loop's last sign of life."""
        self._connect, self._seconds, self._every, self._lost = connect, seconds, every, lost
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease of {node}", daemon=True)

    @property
    def over(self) -> bool:
        """Whether no handler may start any more."""
        return monotonic() >= self.until

    def start(self) -> None:
        """Join. To be called in a thread, as it waits for the server. Raises `RedisError`."""
        self._ask("join")
        self._thread.start()

    def stop(self) -> None:
        """Renew it no more; it can still be left."""
        self._over.set()

    def end(self) -> None:
        """It is over, as the server or the clock says."""
        self._over.set()
        self.until = 0.0

    def _renew(self) -> None:
        while not self._over.wait(self._every):
            if monotonic() - self.alive > STUCK:
                continue
            try:
                held = self._ask("beat")
            except (RedisError, OSError):
                continue  # the next one may come through, and if none does the lease ends
            if not held or self.over:
                self.end()
                self._lost()

    def _ask(self, name: str) -> bool:
        """Whether all partitions have granted it."""
        asked = monotonic()
        with self._connect() as primaries:
            if not all(self._grants(client, script(name), partitions) for client, partitions in primaries):
                return False
        self.until = asked + self._seconds - MARGIN
        return True

    def _grants(self, client: Redis, which: Script, partitions: Sequence[str]) -> bool:
        pipeline = client.pipeline(transaction=False)
        for nodes in partitions:
            pipeline.evalsha(which.sha, 1, nodes, self.node, round(self._seconds * 1000))
        try:
            return b"LOST" not in pipeline.execute()
        except NoScriptError:
            client.script_load(which.text)
            return self._grants(client, which, partitions)
