"""What transports are tested with: the conformance suites; and programs: `FaultyTransport`, `WireTransport`."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from math import inf
from typing import Any, ClassVar, Final, TypeVar

import anyio
import msgspec
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from transport.address import Address
from transport.base import Inlet, Offer, Transport, unknown
from transport.envelope import Envelope, Failed, Outcome, Priority
from transport.errors import (
    ActorNotFound,
    ActorsError,
    ActorStopped,
    AddressInUse,
    CodecError,
    DeliveryError,
    DeliveryUnknown,
    MailboxFull,
    TransportClosed,
)
from transport.mailbox import Overflow
from transport.message import Message
from transport.wire import Wire

T = TypeVar("T")

HERE: Final = Address("/conformance/here")
THERE: Final = Address("/conformance/there")
_LAST: Final = -1  # the author of what is sent last, after which nothing is on its way any more


class Fault(enum.Enum):
    """What becomes of one envelope on its way, for the sender and for the inlet; `FaultyTransport` makes it happen."""

    PASS = "pass"
    """Carried as the inner transport does."""
    DROP = "drop"
    """Lost on the way. The inlet never gets it, the sender gets `DeliveryUnknown`."""
    LOSE_ACK = "lose_ack"
    """Accepted, but the word of it is lost. The inlet gets it, the sender gets `DeliveryUnknown`, just as with DROP."""
    REFUSE = "refuse"
    """Turned away. The inlet never gets it, the sender gets a `DeliveryError`."""
    DELAY = "delay"
    """`delay` seconds on the way. The sender waits for it; what others send meanwhile arrives before it."""
    REORDER = "reorder"
    """Held until one envelope to the same target has overtaken it, at most `delay` seconds. The sender waits for it."""
    DUPLICATE = "duplicate"
    """Delivered twice, as by a redelivery after a crash: a second envelope of the same `id` follows the first. Its
    answer goes nowhere, and it is lost where it is not accepted within `delay` seconds. The sender notices nothing."""


class _Over:
    """All of a transport but `send`: what is bound and claimed is so at `inner`."""

    inner: Transport

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    def bind(self, address: Address, inlet: Inlet) -> None:
        self.inner.bind(address, inlet)

    async def claim(self, address: Address, *options: Any, **named: Any) -> None:
        await self.inner.claim(address, *options, **named)

    def prefers(self, address: Address) -> bool:
        return self.inner.prefers(address)

    async def vacant(self, address: Address) -> None:
        await self.inner.vacant(address)

    def unbind(self, address: Address, buried: Callable[[Envelope], None] = lambda _: None) -> None:
        self.inner.unbind(address, buried)

    async def drain(self, address: Address, deadline: float) -> None:
        await self.inner.drain(address, deadline)

    async def pause(self) -> None:
        await self.inner.pause()

    def keeps(self, envelope: Envelope) -> bool:
        return self.inner.keeps(envelope)

    def tried(self, envelope: Envelope) -> None:
        self.inner.tried(envelope)

    def offer_to(self, address: Address) -> Offer:
        """Never at once: each envelope is sent."""
        return unknown if self.inner.offer_to(address) is unknown else _never


class WireTransport(_Over):
    """Carries each envelope over `inner` as the frame that `wire` makes of it, as between two hosts.

    ``ActorSystem(transport=WireTransport(MemoryTransport()))`` shows in a test of one process what does not survive
    the way: a message that does not encode, is too large, or comes back as another. A frame that does not decode is
    a dead letter at its target. Replies go back as they are.
    """

    def __init__(self, inner: Transport, wire: Wire | None = None) -> None:
        self.inner = inner
        self._wire = wire or Wire()

    async def send(self, envelope: Envelope) -> None:
        """As `Transport.send`. Raises also `CodecError` and `MessageTooLarge`: the message was not sent."""
        now = anyio.current_time()
        frame = self._wire.encode(envelope, now=now, reply_to=None if envelope.reply is None else THERE)
        try:
            received, _ = self._wire.decode(frame, at=envelope.target, now=now)
            received.reply = envelope.reply
        except CodecError as error:
            received = self._wire.undecodable(frame, error, at=envelope.target)
        try:
            await self.inner.send(received)
        except DeliveryError as error:
            error.envelope = envelope
            raise


class FaultyTransport(_Over):
    """Carries envelopes over `inner`, each by way of the next `Fault` of `script`; without faults once that is used up.

    ``ActorSystem(transport=FaultyTransport(MemoryTransport(), [Fault.DROP, Fault.DELAY]))``

    One fault is used up by each `send`, in the order in which they are called. Whatever the script, every guarantee
    of `Transport` holds but one: DUPLICATE breaks "at most once", which transports with redelivery do. So the sends of
    one task stay in order, as it awaits each; only concurrent ones overtake each other.

    `script` is plain values: with Hypothesis ``st.lists(st.sampled_from(Fault))``, which shrinks towards PASS; an
    endless iterator will do as well. `delay` is in seconds of the event loop's clock, so none at all in virtual time.
    """

    def __init__(self, inner: Transport, script: Iterable[Fault], *, delay: float = 1.0) -> None:
        self.inner = inner
        self._script = iter(script)
        self._delay = delay
        self._closed = False
        self._held: dict[Address, deque[anyio.Event]] = {}

    async def open(self) -> None:
        await super().open()
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        await super().close()

    async def send(self, envelope: Envelope) -> None:
        if self._closed:
            raise TransportClosed(f"the transport is closed; {envelope.target} was not reached")
        match next(self._script, Fault.PASS):
            case Fault.DROP:
                raise DeliveryUnknown(f"no word from {envelope.target}: lost on the way there or back", envelope)
            case Fault.LOSE_ACK:
                await self._carry(envelope)
                raise DeliveryUnknown(f"no word from {envelope.target}: lost on the way there or back", envelope)
            case Fault.REFUSE:
                raise DeliveryError(f"refused on the way to {envelope.target}", envelope)
            case Fault.DELAY:
                await anyio.sleep(self._delay)
            case Fault.REORDER:
                await self._be_overtaken(envelope.target)
            case Fault.DUPLICATE:
                second = msgspec.structs.replace(envelope, reply=None, message_id=envelope.id)
                await self._carry(envelope)
                with anyio.move_on_after(self._delay), suppress(ActorsError):
                    await self._carry(second)
                return
            case Fault.PASS:
                pass
        await self._carry(envelope)

    async def _carry(self, envelope: Envelope) -> None:
        await self.inner.send(envelope)
        if held := self._held.get(envelope.target):
            held[0].set()  # one at a time: when that one is accepted it lets the next go, so these stay in order

    async def _be_overtaken(self, target: Address) -> None:
        held = self._held.setdefault(target, deque())
        overtaken = anyio.Event()
        held.append(overtaken)
        try:
            with anyio.move_on_after(self._delay):
                await overtaken.wait()
        finally:
            held.remove(overtaken)


def _never(_: Envelope) -> bool:
    return False


class Note(Message[None]):
    """What the conformance suite sends: the `number`th message of `author`."""

    author: int
    number: int


class Question(Message[int]):
    """What the conformance suite asks."""


class Recorder:
    """An `Inlet` that keeps what it accepts, and settles it as handled.

    While `full` senders wait, while `refusal` is set they get that, while it `holds` it settles nothing.
    """

    def __init__(self) -> None:
        self.accepted: list[Envelope] = []
        self.refusal: DeliveryError | None = None
        self.holds = False
        self._room: anyio.Event | None = None
        self._more: anyio.Event | None = None

    def fill(self) -> None:
        """Let senders wait from now on."""
        self._room = self._room or anyio.Event()

    def make_room(self) -> None:
        """Settle what was held, and let everybody in who waits, and who comes."""
        self.holds = False
        self.settle(*self.accepted)
        if self._room is not None:
            self._room.set()
            self._room = None

    def settle(self, *envelopes: Envelope) -> None:
        """These have been handled."""
        for envelope in envelopes:
            if envelope.reply is not None and not envelope.reply.done():
                envelope.reply.set_result(None)

    def offer(self, envelope: Envelope) -> bool:
        if self.refusal is not None or self._room is not None:
            return False
        self.accepted.append(envelope)
        if not self.holds:
            self.settle(envelope)
        if self._more is not None:
            self._more.set()
        return True

    async def put(self, envelope: Envelope) -> None:
        while not self.offer(envelope):
            if self.refusal is not None:
                raise self.refusal
            assert self._room is not None
            await self._room.wait()

    async def arrived(self, count: int) -> None:
        """Return once it has accepted so many in all."""
        await self.until(lambda: len(self.accepted) >= count)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition`, which is about what was accepted, is true."""
        while not condition():
            self._more = anyio.Event()
            await self._more.wait()

    @property
    def notes(self) -> list[tuple[int, int]]:
        """Author and number of what was accepted."""
        notes = (each.message for each in self.accepted)
        return [(note.author, note.number) for note in notes if isinstance(note, Note) and note.author != _LAST]


class TransportConformance:
    """What every `Transport` must do: subclass it in a test module and say how to make one that is not open yet.

    .. code-block:: python

        from transport.testing import TransportConformance

        class TestMyTransport(TransportConformance):
            @pytest.fixture
            def transport(self, my_server: str) -> Transport:
                return MyTransport(my_server)

    Each inlet is bound, then claimed, as a system does it; and drained, then unbound, where it is given up.

    The tests run under anyio's pytest plugin: an `anyio_backend` fixture says on which event loops. They open and
    close the transport themselves, need no clock, and fail instead of hanging. For readable failures put
    ``pytest.register_assert_rewrite("transport.testing")`` into the `conftest.py`, before the first import.

    This is for transports that hand over in the sender's turn, so that the inlet accepts. For those where a server
    accepts, and the inlet gets it later, see `DurableTransportConformance`.

    "At most one copy after `DeliveryUnknown`" needs a transport that can be cut off, so it is not tested here.
    """

    pytestmark = pytest.mark.anyio

    durable: ClassVar[bool] = False
    """Whether mail is accepted by something that keeps it, and not by the inlet."""
    patience: ClassVar[float] = 5.0
    """Seconds within which anything has to happen; the memory transport needs microseconds."""

    @pytest.fixture
    def transport(self) -> Transport:
        """A new transport, not open yet. Override this."""
        raise NotImplementedError(f"{type(self).__name__} needs a `transport` fixture")

    # Carrying ---------------------------------------------------------------------------------------------

    async def test_what_is_sent_arrives_once_and_unchanged(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)
            sent = []
            for number, priority in enumerate(Priority):
                envelope = _note(number=number, priority=priority)
                envelope.correlation_id, envelope.causation_id = f"correlation-{number}", f"causation-{number}"
                sent.append(_facts(envelope))
                await transport.send(envelope)
            await _all_in(transport, inlet)
            assert [_facts(each) for each in inlet.accepted[:-1]] == sent

    async def test_the_time_to_live_goes_on(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)
            envelope = _note()
            envelope.deadline = anyio.current_time() + 60.0
            await transport.send(envelope)
            await inlet.arrived(1)
            deadline = inlet.accepted[0].deadline
            assert deadline is not None
            assert 60.0 - self.patience < deadline - anyio.current_time() <= 60.0
            assert inlet.accepted[0].reply_by == inf, "it is no ask"

    async def test_mail_goes_to_its_target_and_to_nobody_else(self, transport: Transport) -> None:
        async with self._open(transport):
            here, there = await _move_in(transport), await _move_in(transport, THERE)
            for number in range(4):
                await transport.send(_note(THERE if number % 2 else HERE, number=number))
            await _all_in(transport, here)
            await _all_in(transport, there, THERE)
            assert (here.notes, there.notes) == ([(0, 0), (0, 2)], [(0, 1), (0, 3)])

    async def test_send_returns_once_there_is_room_and_not_before(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await self._full(transport)
            sending = _Sending(transport, _note())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sending.run)
                await self._has_come(transport)
                returned_early = sending.over
                inlet.make_room()
            assert not returned_early, "send returned before there was room"
            await _all_in(transport, inlet)
            assert (sending.error, inlet.notes) == (None, [(1, 0), (0, 0)])

    async def test_the_sends_of_one_task_stay_in_order(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)

            lanes = [list(Priority)[number // 2 % 3] for number in range(12)]  # two by two: neighbours and not

            async def send(author: int) -> None:
                for number, priority in enumerate(lanes):
                    await transport.send(_note(author=author, number=number, priority=priority))
                    if author == 0 and number % 4 == 3:  # now and then everybody has to wait
                        inlet.fill()
                        await wait_all_tasks_blocked()
                        inlet.make_room()

            async with anyio.create_task_group() as tasks:
                for author in range(4):
                    tasks.start_soon(send, author)
            await _all_in(transport, inlet)
            for author in range(4):
                for priority in set(lanes):
                    numbers = [number for by, number in inlet.notes if by == author and lanes[number] == priority]
                    assert numbers == [n for n, lane in enumerate(lanes) if lane == priority], "lost or out of order"

    async def test_many_senders_at_once_lose_and_double_nothing(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)

            async def send(author: int) -> None:
                for number in range(10):
                    await transport.send(_note(author=author, number=number))
                    await checkpoint()

            async with anyio.create_task_group() as tasks:
                for author in range(20):
                    tasks.start_soon(send, author)
            await _all_in(transport, inlet)
            assert sorted(inlet.notes) == [(author, number) for author in range(20) for number in range(10)]

    # Answering --------------------------------------------------------------------------------------------

    async def test_what_a_message_is_settled_with_reaches_its_sender(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)
            inlet.holds = True
            asked, told = _question(), _note()
            answer, receipt = _Waiting(), _Waiting()
            asked.reply, told.reply = answer, receipt
            await transport.send(asked)
            await transport.send(told)
            await inlet.arrived(2)
            first, second = inlet.accepted
            assert first.reply is not None
            assert second.reply is not None
            assert first.reply_by == first.deadline != inf, "it is an ask: its asker waits so long"
            assert second.reply_by == inf
            assert not first.reply.done()
            refusal = DeliveryError("no")
            second.reply.set_result(Failed(refusal, Outcome("dead-lettered", "because", refusal)))
            first.reply.set_result(7)
            assert await answer.result() == 7
            failed = await receipt.result()
            assert isinstance(failed, Failed)
            assert (type(failed.error), str(failed.error)) == (DeliveryError, "no")
            assert (failed.outcome.fate, failed.outcome.reason) == ("dead-lettered", "because")

    # Not carrying -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "refusal", [MailboxFull("full", depth=1), ActorStopped("stopped")], ids=["full", "stopped"]
    )
    async def test_a_refusal_reaches_the_sender_and_is_final(
        self, transport: Transport, refusal: DeliveryError
    ) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)
            inlet.refusal = refusal
            with pytest.raises(type(refusal)):
                await transport.send(_note(number=0))
            inlet.refusal = None
            await transport.send(_note(number=1))
            await _all_in(transport, inlet)
            assert inlet.notes == [(0, 1)], "what was refused came later"

    async def test_to_send_where_nobody_lives_raises_actor_not_found(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)
            envelope = _note(THERE)
            with pytest.raises(ActorNotFound) as caught:
                await transport.send(envelope)
            assert caught.value.envelope is envelope, "a DeliveryError bears the envelope that was not delivered"
            await _all_in(transport, inlet)
            assert inlet.notes == []

    async def test_nobody_lives_at_an_address_after_unbind(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)
            await _move_out(transport)
            with pytest.raises((ActorNotFound, ActorStopped)):
                await transport.send(_note())
            assert not transport.offer_to(HERE)(_note())
            assert inlet.accepted == []

    async def test_an_address_is_bound_to_one_inlet_at_a_time(self, transport: Transport) -> None:
        async with self._open(transport):
            first = await _move_in(transport)
            with pytest.raises(AddressInUse):
                transport.bind(HERE, second := Recorder())
            await transport.send(_note(number=0))
            await _all_in(transport, first)
            await _move_out(transport)
            second = await _move_in(transport)
            await transport.send(_note(number=1))
            await _all_in(transport, second)
            assert (first.notes, second.notes) == ([(0, 0)], [(0, 1)])

    async def test_a_drained_mailbox_has_handed_over_all_that_it_had_accepted(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)
            for number in range(20):
                await transport.send(_note(number=number))
            await transport.drain(HERE, inf)
            assert inlet.notes == [(0, number) for number in range(20)]

    # Offers -----------------------------------------------------------------------------------------------

    async def test_an_offer_accepts_or_changes_nothing(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)
            offer = transport.offer_to(HERE)
            expected = [(0, 0)] if offer(_note(number=0)) else []
            assert inlet.notes == expected
            inlet.fill()
            assert not offer(_note(number=1)), "a full inlet accepts nothing"
            inlet.make_room()
            expected += [(0, 2)] if offer(_note(number=2)) else []
            await _all_in(transport, inlet)
            assert inlet.notes == expected
            assert not transport.offer_to(THERE)(_note(THERE)), "nobody lives there"

    async def test_a_kept_offer_accepts_nothing_after_unbind(self, transport: Transport) -> None:
        async with self._open(transport):
            first = await _move_in(transport)
            offer = transport.offer_to(HERE)
            await transport.drain(HERE, inf)
            first.refusal = ActorStopped("stopped")  # as it is, before its address is given up
            transport.unbind(HERE)
            assert not offer(_note(number=0))
            second = await _move_in(transport)
            assert not offer(_note(number=1)), "it was the way to whoever lived there before"
            await _all_in(transport, second)
            assert (first.notes, second.notes) == ([], [])

    # Cancelling -------------------------------------------------------------------------------------------

    async def test_a_send_cancelled_while_it_waits_for_room_was_not_accepted(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await self._full(transport)
            sending = _Sending(transport, _note(number=0))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sending.run)
                await self._has_come(transport)
                sending.scope.cancel()
            await self._has_come(transport)
            inlet.make_room()
            await transport.send(_note(number=1))
            await _all_in(transport, inlet)
            assert inlet.notes == [(1, 0), (0, 1)]

    async def test_a_send_cancelled_at_any_of_its_awaits_was_accepted_or_not(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)
            returned = set()
            for number in range(10):
                sending = _Sending(transport, _note(number=number))
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(sending.run)
                    for _ in range(number):
                        await checkpoint()
                    sending.scope.cancel()
                accepted = inlet.notes.count((0, number))
                if sending.returned:
                    returned.add(number)
                await wait_all_tasks_blocked()
                await transport.send(_note(author=1, number=number))
                if not self.durable:
                    assert accepted == inlet.notes.count((0, number)), "it came after the send was over"
            await _all_in(transport, inlet)
            cancelled = [number for author, number in inlet.notes if author == 0]
            assert len(cancelled) == len(set(cancelled))
            assert returned <= set(cancelled)
            assert [number for author, number in inlet.notes if author == 1] == list(range(10))
            for number in cancelled:
                assert inlet.notes.index((0, number)) < inlet.notes.index((1, number)), "it came after its time"

    # Closing ----------------------------------------------------------------------------------------------

    async def test_what_was_handed_over_before_a_pause_can_be_settled_after_it(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)
            inlet.holds = True
            envelope = _question()
            envelope.reply = answer = _Waiting()
            await transport.send(envelope)
            await inlet.arrived(1)
            (received,) = inlet.accepted
            assert not transport.keeps(received), "whoever has it is to settle it"
            await transport.pause()
            assert transport.keeps(received) == self.durable
            assert received.reply is not None
            received.reply.set_result(7)
            assert await answer.result() == 7

    async def test_a_closed_transport_carries_nothing(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)
            await transport.send(_note(number=0))
            await inlet.arrived(1)
            await transport.close()
            for target in (HERE, THERE):
                with pytest.raises(TransportClosed):
                    await transport.send(_note(target, number=1))
            assert inlet.notes == [(0, 0)]

    async def test_closing_twice_is_harmless(self, transport: Transport) -> None:
        async with self._open(transport):
            await transport.close()
            await transport.close()
            with pytest.raises(TransportClosed):
                await transport.send(_note())

    # ------------------------------------------------------------------------------------------------------

    def _open(self, *transports: Transport) -> _Open:
        return _Open(self.patience, transports)

    async def _full(self, transport: Transport, **options: Any) -> Recorder:
        """Who lives HERE has one note, (1, 0), and no room for another."""
        inlet = await _move_in(transport, capacity=1, **options)
        inlet.holds = True
        await transport.send(_note(author=1))
        await inlet.arrived(1)
        inlet.fill()
        return inlet

    async def _has_come(self, transport: Transport) -> None:
        """Return once whatever is on its way to HERE, where there is no room, waits for it."""
        await wait_all_tasks_blocked()


class DurableTransportConformance(TransportConformance):
    """What a `Transport` must do whose mailboxes are kept outside of its process, on a server.

    .. code-block:: python

        class TestMyTransport(DurableTransportConformance):
            @pytest.fixture
            def transport(self, my_server: str) -> Transport:
                return MyTransport(my_server)

            @pytest.fixture
            def other(self, my_server: str) -> Transport:
                return MyTransport(my_server)

    There mail is accepted by the server, at most the `capacity` of the claim, and acked when its `Envelope.reply` is
    settled. What became of it when a process dies without closing is not tested here: that takes a process.
    """

    durable = True

    @pytest.fixture
    def other(self) -> Transport:
        """One more, not open yet, that sees the same addresses, as if in another process. Override this."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `other`")

    # Capacity ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "refusal", [MailboxFull("full", depth=1), ActorStopped("stopped")], ids=["full", "stopped"]
    )
    async def test_a_refusal_reaches_the_sender_and_is_final(
        self, transport: Transport, refusal: DeliveryError
    ) -> None:
        async with self._open(transport):
            is_full = isinstance(refusal, MailboxFull)
            inlet = await self._full(transport, overflow=Overflow.REJECT)
            if not is_full:
                inlet.make_room()
                await transport.drain(HERE, inf)
            with pytest.raises(MailboxFull if is_full else (ActorNotFound, ActorStopped)) as caught:
                await transport.send(_note(number=0))
            if isinstance(caught.value, MailboxFull):
                assert caught.value.depth == 1
                inlet.make_room()
            else:
                transport.unbind(HERE)
                inlet = await _move_in(transport)
            await _in_time(MailboxFull, lambda: transport.send(_note(number=1)))
            await inlet.until(lambda: (0, 1) in inlet.notes)
            assert (0, 0) not in inlet.notes, "what was refused came later"

    async def test_an_inlet_that_refuses_what_was_accepted_settles_it(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)
            inlet.refusal = MailboxFull("full", depth=1)
            envelope = _note(number=0)
            envelope.reply = receipt = _Waiting()
            await transport.send(envelope)
            failed = await receipt.result()
            assert isinstance(failed, Failed)
            assert (type(failed.error), failed.outcome.fate) == (MailboxFull, "dead-lettered")
            inlet.refusal = None
            await transport.send(_note(number=1))
            await _all_in(transport, inlet)
            assert inlet.notes == [(0, 1)]

    async def test_a_drained_mailbox_takes_no_more(self, transport: Transport, other: Transport) -> None:
        async with self._open(transport, other):
            inlet = await _move_in(transport)
            inlet.fill()
            for number in range(3):
                await other.send(_note(number=number))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(transport.drain, HERE, inf)
                await wait_all_tasks_blocked()
                inlet.make_room()
            assert inlet.notes == [(0, 0), (0, 1), (0, 2)]
            for each in (transport, other):
                with pytest.raises((ActorNotFound, ActorStopped)):
                    await each.send(_note(number=3))

    async def test_a_mailbox_that_is_not_drained_in_time_is_waited_for_no_longer(self, transport: Transport) -> None:
        async with self._open(transport):
            inlet = await _move_in(transport)
            inlet.fill()
            await transport.send(_note(number=0))
            await transport.drain(HERE, anyio.current_time() + 0.01)
            assert inlet.notes == []

    async def test_what_comes_too_late_to_be_handed_over_is_buried(
        self, transport: Transport, other: Transport
    ) -> None:
        async with self._open(transport, other):
            inlet = await _move_in(transport)
            inlet.fill()
            receipts = []
            for number in range(3):
                envelope = _note(number=number)
                envelope.reply = _Waiting()
                receipts.append(envelope.reply)
                await other.send(envelope)
            inlet.refusal = ActorStopped("stopped")
            inlet.make_room()
            buried = []

            def bury(envelope: Envelope) -> None:
                assert envelope.reply is not None
                buried.append(envelope.message)
                error = ActorStopped("stopped")
                envelope.reply.set_result(Failed(error, Outcome("dead-lettered", "stopped", error)))

            transport.unbind(HERE, bury)
            outcomes = [(await each.result()).outcome for each in receipts]
            assert [(each.fate, each.reason) for each in outcomes] == [("dead-lettered", "stopped")] * 3
            assert (buried, inlet.notes) == ([Note(0, number) for number in range(3)], [])

    # Two processes ----------------------------------------------------------------------------------------

    async def test_an_address_is_claimed_by_one_transport_at_a_time(
        self, transport: Transport, other: Transport
    ) -> None:
        async with self._open(transport, other):
            first = await _move_in(transport)
            with pytest.raises(AddressInUse):
                await _move_in(other)
            await other.send(_note(number=0))
            await _all_in(other, first)
            await _move_out(transport)
            second = await _in_time(AddressInUse, lambda: _move_in(other))
            await transport.send(_note(number=1))
            await _all_in(transport, second)
            assert (first.notes, second.notes) == ([(0, 0)], [(0, 1)])

    async def test_an_address_whose_owner_closes_is_vacant(self, transport: Transport, other: Transport) -> None:
        async with self._open(transport, other):
            await _move_in(transport)
            with pytest.raises(AddressInUse):
                await _move_in(other)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other.vacant, HERE)
                await wait_all_tasks_blocked()
                await transport.close()
            inlet = await _move_in(other)
            await other.send(_note(number=0))
            await _all_in(other, inlet)
            assert inlet.notes == [(0, 0)]

    async def test_the_sends_of_one_task_stay_in_order_between_two(
        self, transport: Transport, other: Transport
    ) -> None:
        async with self._open(transport, other):
            here, there = await _move_in(transport), await _move_in(other, THERE)

            async def send(author: int, sender: Transport) -> None:
                for number in range(20):
                    for target in (HERE, THERE):
                        await sender.send(_note(target, author=author, number=number))

            async with anyio.create_task_group() as tasks:
                for author in range(4):
                    tasks.start_soon(send, author, other if author % 2 else transport)
            await _all_in(transport, here)
            await _all_in(transport, there, THERE)
            for inlet in (here, there):
                for author in range(4):
                    assert [number for by, number in inlet.notes if by == author] == list(range(20))

    async def test_an_answer_goes_to_the_process_that_asked(self, transport: Transport, other: Transport) -> None:
        async with self._open(transport, other):
            inlet = await _move_in(transport)
            inlet.holds = True
            replies = []
            for sender in (transport, other) * 3:
                envelope = _question()
                envelope.reply = _Waiting()
                replies.append(envelope.reply)
                await sender.send(envelope)
            await inlet.arrived(6)
            for number, envelope in reversed(list(enumerate(inlet.accepted))):
                assert envelope.reply is not None
                envelope.reply.set_result(number)
            assert [await reply.result() for reply in replies] == list(range(6))

    # Handing on -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("unbinds", [True, False], ids=["unbound", "closed"])
    async def test_what_was_not_settled_goes_to_whoever_claims_next_in_order(
        self, transport: Transport, other: Transport, unbinds: bool
    ) -> None:
        async with self._open(transport, other):
            first = await _move_in(transport)
            first.holds = True
            lanes = [Priority.NORMAL, Priority.URGENT] * 3
            for number, priority in enumerate(lanes):
                await other.send(_note(number=number, priority=priority))
            await first.arrived(6)
            done = [each for each in first.accepted if each.message in (Note(0, 0), Note(0, 1))]
            first.settle(*done)
            await transport.pause()
            if unbinds:
                transport.unbind(HERE)
                assert all(transport.keeps(each) for each in first.accepted if each not in done)
            await transport.close()
            second = await _move_in(other)
            await _all_in(other, second)
            assert second.notes == [(0, 3), (0, 5), (0, 2), (0, 4)], "the urgent ones first, each lane in its order"

    async def test_a_paused_transport_hands_over_nothing_more(self, transport: Transport, other: Transport) -> None:
        async with self._open(transport, other):
            first = await _move_in(transport)
            await transport.pause()
            for number in range(3):
                await other.send(_note(number=number))
            await transport.send(_note(number=3))  # an actor that drains may still tell others something
            await transport.close()
            second = await _move_in(other)
            await _all_in(other, second)
            assert (first.notes, second.notes) == ([], [(0, 0), (0, 1), (0, 2), (0, 3)])

    async def test_how_often_a_message_was_tried_is_not_forgotten(self, transport: Transport, other: Transport) -> None:
        async with self._open(transport, other):
            first = await _move_in(transport)
            first.holds = True
            for number in range(2):
                await other.send(_note(number=number))
            await first.arrived(2)
            first.accepted[0].attempt = 2
            transport.tried(first.accepted[0])
            await transport.pause()
            transport.unbind(HERE)
            await transport.close()
            second = await _move_in(other)
            await _all_in(other, second)
            assert second.notes == [(0, 0), (0, 1)]
            assert [each.attempt for each in second.accepted[:2]] == [2, 1]

    async def _has_come(self, transport: Transport) -> None:
        # One with a ttl is refused when that is over: by then those before it have had their answer.
        envelope = _note(number=99)
        envelope.deadline = anyio.current_time() + 0.05
        with suppress(MailboxFull):
            await transport.send(envelope)
            raise AssertionError("a full mailbox has accepted one more")


class _Open:
    """Opens transports and closes them again; what takes over `patience` seconds in between has failed."""

    def __init__(self, patience: float, transports: Iterable[Transport]) -> None:
        self._transports = tuple(transports)
        self._patience = anyio.fail_after(patience)

    async def __aenter__(self) -> None:
        for transport in self._transports:
            await transport.open()
        self._patience.__enter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            self._patience.__exit__(*error)
        finally:
            with anyio.CancelScope(shield=True):
                for transport in self._transports:
                    await transport.close()


class _Sending:
    """One send in a task of its own, and what came of it."""

    def __init__(self, transport: Transport, envelope: Envelope) -> None:
        self.scope = anyio.CancelScope()
        self.over = self.returned = False
        self.error: DeliveryError | None = None
        self._transport, self._envelope = transport, envelope

    async def run(self) -> None:
        with self.scope:
            try:
                await self._transport.send(self._envelope)
                self.returned = True
            except DeliveryError as error:
                self.error = error
        self.over = True


class _Waiting:
    """A `Reply`, and who waits for it."""

    def __init__(self) -> None:
        self._resolved = anyio.Event()
        self._result: Any = None

    def done(self) -> bool:
        return self._resolved.is_set()

    def set_result(self, result: Any, /) -> None:
        self._result = result
        self._resolved.set()

    async def result(self) -> Any:
        await self._resolved.wait()
        return self._result


async def _move_in(transport: Transport, address: Address = HERE, **options: Any) -> Recorder:
    """Who lives at `address` from now on."""
    transport.bind(address, inlet := Recorder())
    try:
        await transport.claim(address, **options)
    except AddressInUse:
        transport.unbind(address)
        raise
    return inlet


async def _move_out(transport: Transport, address: Address = HERE) -> None:
    await transport.drain(address, inf)
    transport.unbind(address)


async def _all_in(transport: Transport, inlet: Recorder, address: Address = HERE) -> None:
    """Return once nothing is on its way to `inlet`: what was sent last, in the last lane, has arrived."""
    last = _note(address, author=_LAST, priority=Priority.LOW)
    await transport.send(last)
    await inlet.until(lambda: any(each.id == last.id for each in inlet.accepted))


async def _in_time(error: type[Exception], call: Callable[[], Awaitable[T]]) -> T:
    """What `call` returns once it raises `error` no more: what it waits for happens in another process."""
    while True:
        with suppress(error):
            return await call()
        await anyio.sleep(0.002)


def _note(
    target: Address = HERE, *, author: int = 0, number: int = 0, priority: Priority = Priority.NORMAL
) -> Envelope:
    return Envelope(Note(author=author, number=number), target, priority, sender=Address(f"/author-{abs(author)}"))


def _question() -> Envelope:
    """An ask, whose asker waits for a minute."""
    until = anyio.current_time() + 60.0
    return Envelope(Question(), HERE, deadline=until, reply_by=until)


def _facts(envelope: Envelope) -> tuple[object, ...]:
    """What has to arrive as it was sent, in whatever object."""
    return (
        envelope.id, envelope.message, envelope.target, envelope.priority, envelope.sender, envelope.correlation_id,
        envelope.causation_id, envelope.attempt,
    )  # fmt: skip
