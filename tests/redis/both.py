"""The model and a server side by side: each call goes to both, and both must answer and then look the same."""

from __future__ import annotations

import struct
from collections.abc import Coroutine
from typing import Any, Final, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.redis.model import FEW, Clock, ModelStore, Stored
from transport.errors import AddressInUse
from transport.redis.server import RedisStore
from transport.redis.store import LANES, LeaseLost

TAG: Final = "{shop:7}"

# The scripts as they are shipped, with a clock that stands until the test moves it: leases and ttls end to the ms.
CLOCK: Final = """
local function now_us()
  return tonumber(redis.call('GET', string.match(KEYS[1], '^{[^}]*}') .. ':clock'))
end
"""

DUMP: Final = """
local function stored(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'hash' then return redis.call('HGETALL', key) end
  if kind == 'list' then return redis.call('LRANGE', key, 0, -1) end
  if kind == 'set' then return redis.call('SMEMBERS', key) end
  if kind == 'zset' then return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end
  if kind == 'stream' then
    local entries = {}
    for i, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do entries[i] = entry[2] end
    return entries
  end
  return redis.call('GET', key)
end
local answer = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  answer[#answer + 1] = key
  answer[#answer + 1] = stored(key)
end
return answer
"""


class OneSlot(RedisStore):
    """Sees to it that every key of a command is of this partition, so that a Cluster would take it."""

    async def _do(self, *command: Any) -> Any:
        name, second, *rest = command
        keys = rest[1 : 1 + rest[0]] if name in ("EVAL", "EVALSHA") else rest[:1] if name == "ZMPOP" else [second]
        assert keys, f"{name} without a key goes anywhere"
        assert all(key.startswith(f"{TAG}:") for key in keys), f"{name} of {keys}"
        return await super()._do(*command)


class Immediate:
    """A client that blocks where it would await, which is four times as fast for one call at a time."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def execute_command(self, *command: Any) -> Any:
        return self._client.execute_command(*command)  # type: ignore[no-untyped-call]


class ServerSide:
    """A partition on a real server, called one call at a time from code that is not async."""

    def __init__(self, port: int, kind: type[RedisStore] = OneSlot) -> None:
        self._kind = kind
        self._client = Redis(port=port, retry=Retry(NoBackoff(), 0))
        self._dump = self._client.register_script(DUMP)
        self._time = 0
        self.clear()

    def clear(self) -> None:
        """Empty: another partition begins, with another store, which has seen nothing."""
        self._time = 0
        self.store = self._kind(cast(Any, Immediate(self._client)), TAG, clock=CLOCK, most=FEW)
        self._client.flushdb()

    def close(self) -> None:
        self._client.close()

    def set_clock(self, clock: Clock) -> None:
        if clock.us != self._time:
            self._time = clock.us
            self._client.set(f"{TAG}:clock", clock.us)

    def call(self, name: str, *arguments: Any) -> Any:
        return immediate(answered(getattr(self.store, name)(*arguments)))

    def dump(self) -> dict[str, Any]:
        """What is in it, by key, in the words of `dump`."""
        answer: Any = self._dump()
        found = {
            key.decode().removeprefix(f"{TAG}:"): value for key, value in zip(answer[::2], answer[1::2], strict=True)
        }
        del found["clock"]
        return {key: _plain(key, value) for key, value in found.items() if value}  # a stream stays when it is empty


def _plain(key: str, value: Any) -> Any:
    kind = key.partition(":")[0]
    if kind in ("n", "orph", "bell", "z"):
        return {each: int(float(score)) for each, score in zip(value[::2], value[1::2], strict=True)}
    if kind in ("a", "w", "t"):
        return dict(zip(value[::2], value[1::2], strict=True))
    return set(value) if kind == "on" else value


async def answered(call: Coroutine[Any, Any, Any]) -> Any:
    """The answer; a lost lease is one, too, and what somebody else's program has."""
    try:
        return await call
    except (LeaseLost, AddressInUse) as error:
        return type(error)


def immediate(call: Coroutine[Any, Any, Any]) -> Any:
    """Run what never waits."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def dump(model: ModelStore) -> dict[str, Any]:
    """What is in the model, in the words of the server: the keys of REDIS, without what is empty."""
    found: dict[str, Any] = {
        "n": _encoded(model.leases),
        "orph": _encoded(model.orphaned),
        "z": {w.member.rpartition(b" ")[0] + b" " + _stored(w.stored): w.due for w in model.waiting},
        "dlq": [
            [b"a", each.address.encode(), b"l", b"%d" % each.lane, b"r", each.reason.encode(), b"f", frame]
            for each, until in model.letters.values()
            for frame in [_frame(each.frame, until)]
        ],
        "out": [[b"f", frame] for frame in model.outgoing.values()],
    }
    for node, addresses in model.owning.items():
        found[f"on:{node}"] = {each.encode() for each in addresses}
    for node, rung in model.ringing.items():
        found[f"bell:{node}"] = _encoded(rung)
    for address, mailbox in model.mailboxes.items():
        if mailbox.epoch:
            fields = {"e": mailbox.epoch, "c": mailbox.capacity, "o": mailbox.owner}
            fields |= {"s": int(bool(mailbox.running)), "x": 1 if mailbox.suspect else None}
            fields |= {"h": 1 if mailbox.hungry else None, "v": mailbox.overflow.value[0], "g": mailbox.program or None}
            fields |= {f"b{lane}": base or None for lane, base in enumerate(mailbox.bases)}
            found[f"a:{address}"] = {
                name.encode(): str(value).encode() for name, value in fields.items() if value is not None
            }
        found[f"w:{address}"] = {
            f"{producer}{'!' if control else ''}".encode(): str(mark).encode()
            for (producer, control), mark in mailbox.watermarks.items()
        }
        found[f"t:{address}"] = {b"%d:%d" % at: b"%d %d" % tries for at, tries in mailbox.tries.items()}
        for lane in range(LANES):
            found[f"m:{address}:{lane}"] = [_stored(each) for each in mailbox.lanes[lane]]
    return {key: value for key, value in found.items() if value}


def _encoded(numbers: dict[str, int]) -> dict[bytes, int]:
    return {name.encode(): number for name, number in numbers.items()}


def _stored(stored: Stored) -> bytes:
    return _frame(stored.frame, stored.until)


def _frame(frame: bytes, until: int | None) -> bytes:
    return struct.pack(">d", until or 0) + frame
