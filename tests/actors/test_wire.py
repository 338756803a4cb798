"""Actors whose mail crosses as frames: what the sender is told, and what becomes of a frame that is refused."""

from __future__ import annotations

from math import inf
from typing import Any

import anyio
import pytest

from actors import Actor, ActorSystem, Address, DeadLetter, Message, Outcome, Priority, Terminated, handles
from actors.pool import consistent_hash
from transport.envelope import Envelope, Undecodable
from transport.errors import CodecError, DecodeError, MessageTooLarge
from transport.memory import MemoryTransport
from transport.middleware import Accept, Middleware
from transport.testing import WireTransport
from transport.wire import Limits, Wire

pytestmark = pytest.mark.anyio

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Double(Message[int]):
    number: int


class Note(Message[None]):
    anything: Any = None
    text: str = ""


class Pass(Message[None]):
    """On to `to`."""

    to: Address


class Desk(Actor):
    def __init__(self) -> None:
        self.seen: list[Envelope] = []

    @handles(Double)
    async def double(self, message: Double) -> int:
        return 2 * message.number

    @handles(Note)
    async def note(self, _: Note) -> None:
        NOTED.append(self.envelope)

    @handles(Pass)
    async def hand_on(self, message: Pass) -> None:
        await self.system.ref(message.to).tell(Note(text="told"))
        await self.system.ref(message.to).ask(Note(text="asked"))


NOTED: list[Envelope] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    NOTED.clear()


class Damage(Wire):
    """A line that turns the last byte of every frame around."""

    def encode(self, envelope: Envelope, *, now: float, reply_to: Address | None = None) -> bytes:
        frame = super().encode(envelope, now=now, reply_to=reply_to)
        return frame[:-1] + bytes([frame[-1] ^ 0xFF])


class Fates(Middleware):
    def __init__(self) -> None:
        self.accepted: list[Envelope] = []
        self.settled_as: list[Outcome] = []

    async def accept(self, envelope: Envelope, next: Accept) -> None:  # noqa: A002
        self.accepted.append(envelope)
        await next(envelope)

    def settled(self, envelope: Envelope, outcome: Outcome) -> None:
        self.settled_as.append(outcome)


class Traced(Middleware):
    async def accept(self, envelope: Envelope, next: Accept) -> None:  # noqa: A002
        if envelope.traceparent is None:
            envelope.traceparent = TRACE
        await next(envelope)


async def test_tell_and_ask_go_as_before() -> None:
    async with ActorSystem(transport=WireTransport(MemoryTransport())) as system:
        desk = await system.spawn(Desk, name="desk")
        assert await desk.ask(Double(21)) == 42
        receipt = await desk.tell(Note(text="x"), priority=Priority.HIGH, ttl=60.0, correlation_id="c", receipt=True)
        assert (await receipt.wait(5.0)).fate == "handled"
    (envelope,) = NOTED
    assert (envelope.message, envelope.priority, envelope.correlation_id) == (Note(text="x"), Priority.HIGH, "c")


async def test_an_endless_timeout_is_an_ask_and_an_endless_ttl_is_none() -> None:
    async with ActorSystem(transport=WireTransport(MemoryTransport())) as system:
        desk = await system.spawn(Desk, name="desk")
        await desk.ask(Note(), timeout=inf)
        await desk.tell(Note(), ttl=inf)
    asked, told = NOTED
    assert asked.reply_by < inf, "as only a receipt is waited for without end"
    assert told.deadline is None


async def test_what_is_too_large_or_does_not_encode_is_the_senders_error_and_nothing_else_happens() -> None:
    transport = WireTransport(MemoryTransport(), Wire(limits=Limits(frame=1000)))
    async with ActorSystem(transport=transport) as system:
        desk = await system.spawn(Desk, name="desk")
        with pytest.raises(MessageTooLarge, match=r"Note to /desk.*1000") as caught:
            await desk.tell(Note(text="x" * 1000))
        assert caught.value.envelope is not None
        assert caught.value.envelope.message == Note(text="x" * 1000)
        with pytest.raises(CodecError, match="Note to /desk does not encode"):
            await desk.ask(Note(anything=object()))
        with pytest.raises(CodecError, match="Terminated stays within its process"):
            await desk.tell(Terminated(Address("/x"), "killed"))
        assert await desk.ask(Double(1)) == 2
    assert not NOTED
    assert not system.dead_letters


async def test_a_refused_frame_is_one_dead_letter_at_its_target_and_the_actor_goes_on() -> None:
    fates = Fates()
    transport = WireTransport(MemoryTransport(), Damage())
    letters: list[DeadLetter] = []
    async with ActorSystem(transport=transport, middleware=[fates]) as system:
        system.subscribe(DeadLetter, letters.append)
        desk = await system.spawn(Desk, name="desk")
        await desk.tell(Note(text="secret"), priority=Priority.URGENT, correlation_id="c")
    (letter,) = letters
    assert (letter.address, letter.reason) == ("/desk", "undecodable")
    assert isinstance(letter.message, Undecodable)
    assert isinstance(letter.cause, DecodeError)
    assert "secret" not in str(letter.fields())
    assert system.dead_letters == {"undecodable": 1}
    assert [outcome.fate for outcome in fates.settled_as] == ["dead-lettered"]
    (envelope,) = fates.accepted
    assert (envelope.priority, envelope.correlation_id) == (Priority.URGENT, "c"), "what can be read of it is told"
    assert not NOTED


async def test_a_refused_frame_for_a_pool_is_a_dead_letter_of_one_worker() -> None:
    transport = WireTransport(MemoryTransport(), Damage())
    letters: list[DeadLetter] = []
    async with ActorSystem(transport=transport) as system:
        system.subscribe(DeadLetter, letters.append)
        pool = await system.pool(Desk, size=3, routing=consistent_hash(lambda note: note.text), name="desks")
        await pool.tell(Note(text="x"))
    assert [letter.reason for letter in letters] == ["undecodable"]


async def test_an_ask_whose_frame_is_refused_times_out() -> None:
    async with ActorSystem(transport=WireTransport(MemoryTransport(), Damage())) as system:
        desk = await system.spawn(Desk, name="desk")
        with pytest.raises(TimeoutError):
            await desk.ask(Note(text="x"), timeout=0.05)


@pytest.mark.parametrize("framed", [False, True])
async def test_what_a_handler_sends_belongs_to_the_trace_of_what_it_handles(framed: bool) -> None:
    memory = MemoryTransport()
    async with ActorSystem(transport=WireTransport(memory) if framed else memory, middleware=[Traced()]) as system:
        first = await system.spawn(Desk, name="first")
        second = await system.spawn(Desk, name="second")
        with anyio.fail_after(5):
            await first.ask(Pass(second.address))
    notes = [(e.message, e.traceparent, e.sender) for e in NOTED]
    assert notes == [
        (Note(text="told"), TRACE, "/first"),
        (Note(text="asked"), TRACE, "/first"),
    ]
