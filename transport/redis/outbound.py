"""`Outbound`: what one process sends to the mailboxes of one partition."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Final, NamedTuple

import anyio
from redis.exceptions import RedisError, ResponseError

from transport.address import Address
from transport.envelope import Reply
from transport.redis.store import MOST, MailboxStore, Post, Sent

MOST_BYTES: Final = 1 << 20
"""Of frames in a batch: what keeps the server busy for about a millisecond."""
PAUSE: Final = 0.05, 1.0
"""Seconds between attempts to reach the server: the first, and the most."""


class Waiting(NamedTuple):
    """A frame whose sender waits for `answer`: `Sent` or `Unsent`."""

    address: Address
    lane: int
    frame: bytes
    deadline: float | None
    answer: Reply


class Unsent(NamedTuple):
    """There was no word that a frame was accepted, for as long as patience lasted; `error` is the last one."""

    error: Exception
    may_be_there: bool


class Outbound:
    """Frames for the mailboxes of one partition: one batch on its way, while the next one fills.

    That keeps order, makes it safe to send a batch again, and makes batches larger where the server is slower. A
    batch that is not answered is sent again unchanged for up to `patience` seconds.
    """

    def __init__(self, store: MailboxStore, producer: str, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        self._store, self._producer, self._loop, self._patience = store, producer, loop, patience
        self._waiting: deque[Waiting] = deque()
        self._number = 0
        self._more: asyncio.Future[None] | None = None

    def post(self, address: Address, lane: int, frame: bytes, deadline: float | None, answer: Reply) -> Waiting:
        """Let it go with the next batch. `answer` is told what became of it: `Sent` or `Unsent`."""
        waiting = Waiting(address, lane, frame, deadline, answer)
        self._waiting.append(waiting)
        if self._more is not None and not self._more.done():
            self._more.set_result(None)
        return waiting

    def withdraw(self, waiting: Waiting) -> None:
        """Send it not, if it is not on its way already."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    async def run(self) -> None:
        """Send what is there, until cancelled."""
        while True:
            if not self._waiting:
                self._more = self._loop.create_future()
                await self._more
            batch, posts = self._batch()
            answers = await self._send(posts)
            for waiting, sent in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(sent)

    def _batch(self) -> tuple[list[Waiting], list[Post]]:
        batch: list[Waiting] = []
        posts: list[Post] = []
        size, now = 0, self._loop.time()
        while self._waiting and len(posts) < MOST and size < MOST_BYTES:
            waiting = self._waiting.popleft()
            address, lane, frame, deadline, _ = waiting
            self._number += 1
            ttl = None if deadline is None else deadline - now
            posts.append(Post(address, lane, self._number, frame, ttl))
            batch.append(waiting)
            size += len(frame)
        return batch, posts

    async def _send(self, posts: list[Post]) -> list[Sent] | list[Unsent]:
        pause, most = PAUSE
        until, may_be_there = monotonic() + self._patience, False
        while True:
            try:
                return await self._store.send(self._producer, posts)
            except (RedisError, OSError) as error:
                may_be_there |= not isinstance(error, ResponseError)  # which says that nothing was done
                if monotonic() + pause > until:
                    return [Unsent(error, may_be_there)] * len(posts)
            await anyio.sleep(pause)
            pause = min(2 * pause, most)
