"""`RedisStore`: a partition on a Redis or Valkey server, by scripts."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from transport.errors import AddressInUse, shown
from transport.mailbox import Overflow
from transport.redis.scripts import CLOCK, Keys, config, script
from transport.redis.store import (
    LANES,
    MOST,
    MOST_BYTES,
    Answer,
    Buried,
    Bytes,
    Chores,
    Claim,
    DeadLetter,
    Delay,
    Fetched,
    LeaseLost,
    Mail,
    Note,
    Offsets,
    Outgoing,
    Post,
    Reply,
    Sent,
    Stopped,
    Tries,
    Turn,
)

REMEMBER: Final = 24 * 3600 * 1000
"""For how long a mailbox knows its producers' numbers after the last post, and what it was itself, in ms."""
_MOST_OWNERS: Final = 10_000  # remembered; then all are forgotten, and heard of again one by one
_PREFIX: Final = struct.Struct(">d")  # before each frame: when its ttl is over, in ms of the server's clock; 0: never


WITHIN: Final = 1.0  # seconds for the replicas to say that they have it
VERSION: Final = 1
"""Of the keys and what they hold."""

_NEW: Final = Sent(Answer.ACCEPTED)
_OLD: Final = Sent(Answer.DUPLICATE)
_WHY: Final = {b"F": Answer.FULL, b"R": Answer.REJECTED, b"S": Answer.STOPPED, b"N": Answer.NOBODY}


class Config(NamedTuple):
    """What all nodes of a namespace agree on."""

    partitions: int
    version: int


async def config_of(client: Redis, namespace: str, create: Config | None = None) -> Config | None:
    """What the namespace has, which is `create` where it had nothing; None where it has nothing."""
    key = config(namespace)
    for field, value in create._asdict().items() if create is not None else ():
        await client.hsetnx(key, field, str(value))
    found = await client.hgetall(key)
    if len(found) < len(Config._fields):  # nothing, or whoever began it has died
        return None
    return Config(*(int(found[field.encode()]) for field in Config._fields))


class TooFewReplicas(RedisError):
    """The server has what was sent, and would lose it if it failed now. To send it again is safe."""


class RedisStore:
    """The mailboxes of one partition; `tag` is its hash tag, such as ``{shop:7}``.

    What is sent is accepted once so many `replicas` have it, too.

    `client` must not retry by itself (``retry=None``, which for redis-py is ten times): whether and how a call that
    was not answered is made again is for whoever called. It returns bytes, not str.

    Raises what redis-py raises where the server does not answer, or refuses; `TooFewReplicas`, which is one of these;
    `ValueError` for more than `MOST` at once.
    """

    def __init__(
        self, client: Redis, tag: str, *, bells: str = "", clock: str = CLOCK, most: Bytes = MOST_BYTES,
        replicas: int = 0,
    ) -> None:  # fmt: skip
        self._client = client
        self._clock = clock
        self._most = most
        self._replicas = replicas
        self._keys = Keys(tag, bells)
        self._owners: dict[str, str] = {}
        """Whose bell to ring, as far as we have heard: it spares a call, and may be wrong."""

    # Leases and owners -----------------------------------------------------------------------------------

    async def join(self, node: str, lease: float) -> None:
        _lost(node, await self._run("join", (self._keys.nodes,), (node, _ms(lease))))

    async def beat(self, node: str, lease: float) -> None:
        _lost(node, await self._run("beat", (self._keys.nodes,), (node, _ms(lease))))

    async def claim(
        self, node: str, address: str, capacity: int, overflow: Overflow = Overflow.BLOCK, program: str = ""
    ) -> Claim | None:
        k = self._keys
        keys = (k.nodes, k.owned(node), k.orphans, k.actor(address), k.tries(address), *k.lanes(address))
        answer = _lost(node, await self._run("claim", keys, (node, address, capacity, overflow.value[0], program)))
        if isinstance(answer, bytes):
            if (other := answer.decode().removeprefix("BUSY ")) == program:
                return None
            raise AddressInUse(f"{address} is in use by another program, {shown(other)}: choose another name")
        epoch, fields = int(answer[0]), answer[12]
        tries = {_place(field): _tries(value) for field, value in zip(fields[::2], fields[1::2], strict=True)}
        return Claim(epoch, _offsets(answer[1:6]), _offsets(answer[6:11]), bool(answer[11]), tries)

    async def stop(self, node: str, address: str, epoch: int) -> Stopped | None:
        k = self._keys
        keys = (k.nodes, k.owned(node), k.actor(address), *k.lanes(address))
        answer = _lost(node, await self._run("stop", keys, (node, address, epoch, REMEMBER)))
        return None if answer == b"FENCED" else Stopped(answer)

    async def release(self, node: str, claims: Sequence[tuple[str, int]]) -> list[bool]:
        _check_size(claims)
        k = self._keys
        keys = (k.nodes, k.owned(node), k.orphans, *(k.actor(address) for address, _ in claims))
        arguments = (node, *(each for claim in claims for each in claim))
        return [bool(each) for each in _lost(node, await self._run("release", keys, arguments))]

    async def leave(self, node: str) -> bool:
        keys = (self._keys.nodes, self._keys.owned(node), self._keys.bell(node))
        return bool(await self._run("leave", keys, (node,)))

    async def reap(self, grace: float) -> int | None:
        k = self._keys
        first = await self._do("ZRANGE", k.nodes, 0, 0)
        if not first:
            return None
        node = first[0].decode()
        keys = (k.nodes, k.owned(node), k.bell(node), k.orphans)
        count: int = await self._run("reap", keys, (node, _ms(grace), MOST))
        return None if count < 0 else count

    async def bells(self, node: str) -> list[str]:
        answer = await self._do("ZMPOP", 1, self._keys.bell(node), "MIN", "COUNT", MOST)
        return [address.decode() for address, _ in answer[1]] if answer else []

    async def tend(self, node: str, grace: float) -> Chores:
        k = self._keys
        answer = await self._run("tend", (k.nodes, k.delayed, k.orphans, k.owned(node)), (_ms(grace), MOST))
        expired, due, orphans, owned = answer
        return Chores(bool(expired), bool(due), [each.decode() for each in orphans], {each.decode() for each in owned})

    # Mail ------------------------------------------------------------------------------------------------

    async def send(self, producer: str, posts: Sequence[Post]) -> list[Sent]:
        _check_size(posts)
        k = self._keys
        mailboxes: dict[str, list[int]] = {}
        for index, post in enumerate(posts):
            mailboxes.setdefault(post.address, []).append(index)
        owners = dict.fromkeys(owner for address in mailboxes if (owner := self._owners.get(address)))
        bells = {owner: number for number, owner in enumerate(owners, 1)}
        keys = [k.nodes, k.orphans, *map(k.bell, bells)]
        arguments: list[Any] = [producer, REMEMBER, len(bells), len(mailboxes)]
        groups: list[list[int]] = []
        for address, indices in mailboxes.items():
            keys += k.actor(address), k.watermarks(address), *k.lanes(address)
            runs = _runs(posts, indices)
            groups += runs
            arguments += address, bells.get(self._owners.get(address, ""), 0), len(runs)
            for run in runs:
                post = posts[run[0]]
                arguments += post.lane, post.number, _ttl(post.ttl), post.capacity or 0, len(run)
                arguments += [posts[index].frame for index in run]
        answer, copies = await self._run("send", keys, arguments, do=self._do_and_wait)
        sent = [Sent(Answer.NOBODY)] * len(posts)
        for group, run in enumerate(groups):
            before, accepted, why, depth = answer[4 * group : 4 * group + 4]
            refused = Sent(_WHY[why], depth)
            for nth, index in enumerate(run):
                sent[index] = _OLD if nth < before else _NEW if nth < before + accepted else refused
        names = list(mailboxes)
        rest = answer[4 * len(groups) :]
        await self._ring(
            (owner.decode(), lane, names[place - 1])
            for place, lane, owner in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        )
        if copies < self._replicas:  # only now: when it is sent again, no bell is rung
            raise TooFewReplicas(f"{copies} of {self._replicas} replicas have what was sent, after {WITHIN} s")
        return sent

    async def turn(self, node: str, turns: Sequence[Turn]) -> list[Fetched | None]:
        _check_size(turns)
        k = self._keys
        keys = [k.nodes, k.dead_letters, k.outbox, k.delayed]
        arguments: list[Any] = [node, *self._most, len(turns)]
        for turn in turns:
            keys += k.actor(turn.address), k.tries(turn.address), *k.lanes(turn.address)
            arguments += turn.address, turn.epoch, *turn.acked, *turn.next, turn.want, len(turn.notes)
            for note in turn.notes:
                arguments += _note(note)
        now, *answers = _lost(node, await self._run("turn", keys, arguments))
        return [
            None if answer == b"FENCED" else Fetched(_mails(answer[1:], now), bool(answer[0])) for answer in answers
        ]

    async def due(self) -> int:
        k = self._keys
        members: list[bytes] = await self._run("ripe", (k.delayed,), (MOST,))
        keys = [k.delayed, k.nodes, k.orphans, k.dead_letters]
        for member in members:
            name, lane, _ = member.decode("latin-1").split(" ", 2)
            keys += k.actor(name), k.tries(name), k.lane(name, int(lane))
        count, *rest = await self._run("due", keys, members)
        await self._ring(
            (owner.decode(), int(lane), address.decode())
            for lane, owner, address in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        )
        return int(count)

    async def outbox(self) -> list[Outgoing]:
        found = await self._do("XRANGE", self._keys.outbox, "-", "+", "COUNT", MOST)
        return [Outgoing(id_.decode(), fields[b"f"]) for id_, fields in found]

    async def forwarded(self, ids: Iterable[str]) -> None:
        if ids := list(ids):
            await self._do("XDEL", self._keys.outbox, *ids)

    # For operators ---------------------------------------------------------------------------------------

    async def dead_letters(self, after: str = "") -> list[Buried]:
        start = f"({after}" if after else "-"
        found = await self._do("XRANGE", self._keys.dead_letters, start, "+", "COUNT", MOST)
        return [
            Buried(id_.decode(), f[b"a"].decode(), int(f[b"l"]), f[b"r"].decode(), f[b"f"][_PREFIX.size :])
            for id_, f in found
        ]

    async def requeue(self, id: str) -> bool:  # noqa: A002
        k = self._keys
        found = await self._do("XRANGE", k.dead_letters, id, id)
        if not found:
            return False
        fields = found[0][1]
        address, lane = fields[b"a"].decode(), int(fields[b"l"])
        keys = (k.dead_letters, k.nodes, k.orphans, k.actor(address), k.lane(address, lane))
        answer = await self._run("requeue", keys, (id, address, fields[b"f"][_PREFIX.size :]))
        if isinstance(answer, bytes):
            await self._ring([(answer.decode(), lane, address)])
        return bool(answer)

    async def discard(self, ids: Iterable[str]) -> int:
        ids = list(ids)
        return int(await self._do("XDEL", self._keys.dead_letters, *ids)) if ids else 0

    async def peek(self, address: str, lane: int, skip: int = 0) -> list[Mail]:
        keys = (self._keys.actor(address), self._keys.lane(address, lane))
        now, first, frames = await self._run("peek", keys, (lane, skip, MOST))
        return _mails([lane, first, frames], now)

    async def purge(self, address: str) -> int:
        keys = (self._keys.actor(address), self._keys.tries(address), *self._keys.lanes(address)[1:])
        return int(await self._run("purge", keys, ()))

    # How it is asked -------------------------------------------------------------------------------------

    async def _ring(self, hints: Iterable[tuple[str, int, str]]) -> None:
        """Ring for (owner, lane, address) each: bells that we did not know, but do from now on."""
        by_owner: dict[str, list[tuple[int, str]]] = {}
        for owner, lane, address in hints:
            by_owner.setdefault(owner, []).append((lane, address))
            if len(self._owners) >= _MOST_OWNERS:
                self._owners.clear()
            self._owners[address] = owner
        for owner, rung in by_owner.items():
            keys = (self._keys.nodes, self._keys.bell(owner), *(self._keys.actor(address) for _, address in rung))
            await self._run("ring", keys, (owner, *(each for hint in rung for each in hint)))

    async def _run(
        self, name: str, keys: Sequence[str], arguments: Sequence[Any], *,
        do: Callable[..., Awaitable[Any]] | None = None,
    ) -> Any:  # fmt: skip
        """Run a script; where the server has lost it, or never had it, with its text."""
        which, do = script(name, self._clock), do or self._do
        try:
            return await do("EVALSHA", which.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await do("EVAL", which.text, len(keys), *keys, *arguments)

    async def _do(self, *command: Any) -> Any:
        return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def _do_and_wait(self, *command: Any) -> tuple[Any, int]:
        """The answer, and how many replicas have what it wrote: those that are asked for, or fewer `WITHIN`."""
        if not self._replicas:
            return await self._do(*command), 0
        async with self._client.pipeline(transaction=False) as together:  # on one connection: WAIT is for its writes
            together.execute_command(*command)
            together.execute_command("WAIT", self._replicas, _ms(WITHIN))
            # Not raised there: the text of that error would begin with the command.
            answer, copies = await together.execute(raise_on_error=False)
        for each in (answer, copies):
            if isinstance(each, Exception):
                raise each
        return answer, copies


def _lost(node: str, answer: Any) -> Any:
    if answer == b"LOST":
        raise LeaseLost(f"the lease of {node} has ended")
    return answer


def _check_size(batch: Sequence[Any]) -> None:
    if len(batch) > MOST:
        raise ValueError(f"{len(batch)} at once, the limit is {MOST}")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _ttl(seconds: float | None) -> int:
    """0 is none, so what has no time left has a millisecond: it is accepted, and then expires."""
    return 0 if seconds is None else max(1, _ms(seconds))


def _runs(posts: Sequence[Post], indices: Sequence[int]) -> list[list[int]]:
    """The posts to one mailbox, in runs that differ in nothing but the frame and the next number."""
    runs: list[list[int]] = []
    expected: tuple[Any, ...] = ()
    for index in indices:
        _, lane, number, _, ttl, capacity = posts[index]
        if (lane, number, ttl, capacity) != expected:
            runs.append([])
        runs[-1].append(index)
        expected = lane, number + 1, ttl, capacity
    return runs


def _note(note: Note) -> tuple[str, int, int, str | bytes]:
    if isinstance(note, DeadLetter):
        return "D", note.lane, note.offset, note.reason
    if isinstance(note, Reply):
        return "R", note.lane, note.offset, note.frame
    tries = f"{note.tries.attempts} {note.tries.starts}"
    if isinstance(note, Delay):
        return "W", note.lane, note.offset, f"{_ms(note.delay)} {tries}"
    return "T", note.lane, note.offset, tries


def _mails(answer: Sequence[Any], now: int) -> list[Mail]:
    mails = []
    for lane, first, frames in zip(answer[::3], answer[1::3], answer[2::3], strict=True):
        for offset, stored in enumerate(frames, first):
            (until,) = _PREFIX.unpack_from(stored)
            mails.append(Mail(lane, offset, stored[_PREFIX.size :], (until - now) / 1000 if until else None))
    return mails


def _offsets(numbers: Sequence[Any]) -> Offsets:
    assert len(numbers) == LANES
    control, urgent, high, normal, low = map(int, numbers)
    return control, urgent, high, normal, low


def _place(field: bytes) -> tuple[int, int]:
    lane, offset = field.split(b":")
    return int(lane), int(offset)


def _tries(value: bytes) -> Tries:
    attempts, starts = value.split()
    return Tries(int(attempts), int(starts))
