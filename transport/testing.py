"""What transports are tested with: `TransportConformance`; and programs: `FaultyTransport`, `WireTransport`."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import anyio
import msgspec
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from transport.address import Address
from transport.base import Inlet, Offer, Transport, unknown
from transport.envelope import Envelope, Priority
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
from transport.message import Message
from transport.wire import Wire

HERE: Final = Address("/conformance/here")
THERE: Final = Address("/conformance/there")
_PATIENCE: Final = 5.0  # seconds for anything that has to happen; the memory transport needs microseconds


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


class WireTransport:
    """Carries each envelope over `inner` as the frame that `wire` makes of it, as between two hosts.

    ``ActorSystem(transport=WireTransport(MemoryTransport()))`` shows in a test of one process what does not survive
    the way: a message that does not encode, is too large, or comes back as another. A frame that does not decode is
    a dead letter at its target. Replies go back as they are.
    """

    def __init__(self, inner: Transport, wire: Wire | None = None) -> None:
        self.inner = inner
        self._wire = wire or Wire()

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    def bind(self, address: Address, inlet: Inlet) -> None:
        self.inner.bind(address, inlet)

    async def claim(self, address: Address, **options: Any) -> None:
        await self.inner.claim(address, **options)

    def unbind(self, address: Address) -> None:
        self.inner.unbind(address)

    async def pause(self) -> None:
        await self.inner.pause()

    def keeps(self, envelope: Envelope) -> bool:
        return self.inner.keeps(envelope)

    def offer_to(self, address: Address) -> Offer:
        """Never at once: each envelope is sent, as a frame."""
        return unknown if self.inner.offer_to(address) is unknown else _never

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


class FaultyTransport:
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
        await self.inner.open()
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        await self.inner.close()

    def bind(self, address: Address, inlet: Inlet) -> None:
        self.inner.bind(address, inlet)

    async def claim(self, address: Address, **options: Any) -> None:
        await self.inner.claim(address, **options)

    def unbind(self, address: Address) -> None:
        self.inner.unbind(address)

    async def pause(self) -> None:
        await self.inner.pause()

    def keeps(self, envelope: Envelope) -> bool:
        return self.inner.keeps(envelope)

    def offer_to(self, address: Address) -> Offer:
        """Never at once: each envelope is sent, and meets its fault."""
        return unknown if self.inner.offer_to(address) is unknown else _never

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


class Recorder:
    """An `Inlet` that keeps what it accepts; while `full` senders wait, while `refusal` is set they get that."""

    def __init__(self) -> None:
        self.accepted: list[Envelope] = []
        self.refusal: DeliveryError | None = None
        self._room: anyio.Event | None = None

    def fill(self) -> None:
        """Let senders wait from now on."""
        self._room = self._room or anyio.Event()

    def make_room(self) -> None:
        """Let everybody in who waits, and who comes."""
        if self._room is not None:
            self._room.set()
            self._room = None

    def offer(self, envelope: Envelope) -> bool:
        if self.refusal is not None or self._room is not None:
            return False
        self.accepted.append(envelope)
        return True

    async def put(self, envelope: Envelope) -> None:
        while not self.offer(envelope):
            if self.refusal is not None:
                raise self.refusal
            assert self._room is not None
            await self._room.wait()

    @property
    def notes(self) -> list[tuple[int, int]]:
        """Author and number of what was accepted."""
        return [(e.message.author, e.message.number) for e in self.accepted if isinstance(e.message, Note)]


class TransportConformance:
    """What every `Transport` must do: subclass it in a test module and say how to make one that is not open yet.

    .. code-block:: python

        from transport.testing import TransportConformance

        class TestMyTransport(TransportConformance):
            @pytest.fixture
            def transport(self, my_server: str) -> Transport:
                return MyTransport(my_server)

    The tests run under anyio's pytest plugin: an `anyio_backend` fixture says on which event loops. They open and
    close the transport themselves, need no clock, and fail instead of hanging. For readable failures put
    ``pytest.register_assert_rewrite("transport.testing")`` into the `conftest.py`, before the first import.

    "At most one copy after `DeliveryUnknown`" needs a transport that can be cut off, so it is not tested here.
    """

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def transport(self) -> Transport:
        """A new transport, not open yet. Override this."""
        raise NotImplementedError(f"{type(self).__name__} needs a `transport` fixture")

    # Carrying ---------------------------------------------------------------------------------------------

    async def test_what_is_sent_arrives_once_and_unchanged(self, transport: Transport) -> None:
        async with _Open(transport):
            transport.bind(HERE, inlet := Recorder())
            sent = []
            for number, priority in enumerate(Priority):
                envelope = _note(number=number, priority=priority)
                envelope.correlation_id, envelope.causation_id = f"correlation-{number}", f"causation-{number}"
                sent.append(_facts(envelope))
                await transport.send(envelope)
            assert [_facts(each) for each in inlet.accepted] == sent

    async def test_mail_goes_to_its_target_and_to_nobody_else(self, transport: Transport) -> None:
        async with _Open(transport):
            transport.bind(HERE, here := Recorder())
            transport.bind(THERE, there := Recorder())
            for number in range(4):
                await transport.send(_note(THERE if number % 2 else HERE, number=number))
            assert (here.notes, there.notes) == ([(0, 0), (0, 2)], [(0, 1), (0, 3)])

    async def test_send_returns_once_the_inlet_has_accepted_and_not_before(self, transport: Transport) -> None:
        async with _Open(transport):
            transport.bind(HERE, inlet := Recorder())
            inlet.fill()
            sending = _Sending(transport, _note())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sending.run)
                await wait_all_tasks_blocked()
                returned_early = sending.over
                inlet.make_room()
            assert not returned_early, "send returned before the inlet had accepted"
            assert (sending.error, inlet.notes) == (None, [(0, 0)])

    async def test_the_sends_of_one_task_stay_in_order(self, transport: Transport) -> None:
        async with _Open(transport):
            transport.bind(HERE, inlet := Recorder())

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
            for author in range(4):
                for priority in set(lanes):
                    numbers = [number for by, number in inlet.notes if by == author and lanes[number] == priority]
                    assert numbers == [n for n, lane in enumerate(lanes) if lane == priority], "lost or out of order"

    async def test_many_senders_at_once_lose_and_double_nothing(self, transport: Transport) -> None:
        async with _Open(transport):
            transport.bind(HERE, inlet := Recorder())

            async def send(author: int) -> None:
                for number in range(10):
                    await transport.send(_note(author=author, number=number))
                    await checkpoint()

            async with anyio.create_task_group() as tasks:
                for author in range(20):
                    tasks.start_soon(send, author)
            assert sorted(inlet.notes) == [(author, number) for author in range(20) for number in range(10)]

    # Not carrying -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "refusal", [MailboxFull("full", depth=1), ActorStopped("stopped")], ids=["full", "stopped"]
    )
    async def test_a_refusal_reaches_the_sender_and_is_final(
        self, transport: Transport, refusal: DeliveryError
    ) -> None:
        async with _Open(transport):
            transport.bind(HERE, inlet := Recorder())
            inlet.refusal = refusal
            with pytest.raises(type(refusal)):
                await transport.send(_note(number=0))
            inlet.refusal = None
            await transport.send(_note(number=1))
            await wait_all_tasks_blocked()
            assert inlet.notes == [(0, 1)], "what was refused came later"

    async def test_to_send_where_nobody_lives_raises_actor_not_found(self, transport: Transport) -> None:
        async with _Open(transport):
            transport.bind(HERE, inlet := Recorder())
            envelope = _note(THERE)
            with pytest.raises(ActorNotFound) as caught:
                await transport.send(envelope)
            assert caught.value.envelope is envelope, "a DeliveryError bears the envelope that was not delivered"
            assert inlet.accepted == []

    async def test_nobody_lives_at_an_address_after_unbind(self, transport: Transport) -> None:
        async with _Open(transport):
            transport.bind(HERE, inlet := Recorder())
            transport.unbind(HERE)
            with pytest.raises(ActorNotFound):
                await transport.send(_note())
            assert not transport.offer_to(HERE)(_note())
            assert inlet.accepted == []

    async def test_an_address_is_bound_to_one_inlet_at_a_time(self, transport: Transport) -> None:
        async with _Open(transport):
            transport.bind(HERE, first := Recorder())
            with pytest.raises(AddressInUse):
                transport.bind(HERE, second := Recorder())
            await transport.send(_note(number=0))
            transport.unbind(HERE)
            transport.bind(HERE, second := Recorder())
            await transport.send(_note(number=1))
            assert (first.notes, second.notes) == ([(0, 0)], [(0, 1)])

    # Offers -----------------------------------------------------------------------------------------------

    async def test_an_offer_accepts_or_changes_nothing(self, transport: Transport) -> None:
        async with _Open(transport):
            transport.bind(HERE, inlet := Recorder())
            offer = transport.offer_to(HERE)
            expected = [(0, 0)] if offer(_note(number=0)) else []
            assert inlet.notes == expected
            inlet.fill()
            assert not offer(_note(number=1)), "a full inlet accepts nothing"
            inlet.make_room()
            expected += [(0, 2)] if offer(_note(number=2)) else []
            await wait_all_tasks_blocked()
            assert inlet.notes == expected
            assert not transport.offer_to(THERE)(_note(THERE)), "nobody lives there"

    async def test_a_kept_offer_accepts_nothing_after_unbind(self, transport: Transport) -> None:
        async with _Open(transport):
            transport.bind(HERE, first := Recorder())
            offer = transport.offer_to(HERE)
            first.refusal = ActorStopped("stopped")  # as it is, before its address is given up
            transport.unbind(HERE)
            assert not offer(_note(number=0))
            transport.bind(HERE, second := Recorder())
            assert not offer(_note(number=1)), "it was the way to whoever lived there before"
            assert (first.notes, second.notes) == ([], [])

    # Cancelling -------------------------------------------------------------------------------------------

    async def test_a_send_cancelled_while_it_waits_for_room_was_not_accepted(self, transport: Transport) -> None:
        async with _Open(transport):
            transport.bind(HERE, inlet := Recorder())
            inlet.fill()
            sending = _Sending(transport, _note(number=0))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sending.run)
                await wait_all_tasks_blocked()
                sending.scope.cancel()
            inlet.make_room()
            await transport.send(_note(number=1))
            await wait_all_tasks_blocked()
            assert inlet.notes == [(0, 1)]

    async def test_a_send_cancelled_at_any_of_its_awaits_was_accepted_or_not(self, transport: Transport) -> None:
        async with _Open(transport):
            transport.bind(HERE, inlet := Recorder())
            for number in range(10):
                sending = _Sending(transport, _note(number=number))
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(sending.run)
                    for _ in range(number):
                        await checkpoint()
                    sending.scope.cancel()
                accepted = inlet.notes.count((0, number))
                await wait_all_tasks_blocked()
                await transport.send(_note(author=1, number=number))
                assert accepted == inlet.notes.count((0, number)), "it came after the send was over"
                assert accepted == 1 or (accepted == 0 and not sending.returned)
            assert [number for author, number in inlet.notes if author == 1] == list(range(10))

    # Closing ----------------------------------------------------------------------------------------------

    async def test_a_closed_transport_carries_nothing(self, transport: Transport) -> None:
        async with _Open(transport):
            transport.bind(HERE, inlet := Recorder())
            await transport.send(_note(number=0))
            await transport.close()
            for target in (HERE, THERE):
                with pytest.raises(TransportClosed):
                    await transport.send(_note(target, number=1))
            assert inlet.notes == [(0, 0)]

    async def test_closing_twice_is_harmless(self, transport: Transport) -> None:
        async with _Open(transport):
            await transport.close()
            await transport.close()
            with pytest.raises(TransportClosed):
                await transport.send(_note())


class _Open:
    """Opens a transport and closes it again; what takes over `_PATIENCE` in between has failed."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._patience = anyio.fail_after(_PATIENCE)

    async def __aenter__(self) -> None:
        await self._transport.open()
        self._patience.__enter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            self._patience.__exit__(*error)
        finally:
            with anyio.CancelScope(shield=True):
                await self._transport.close()


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


def _note(
    target: Address = HERE, *, author: int = 0, number: int = 0, priority: Priority = Priority.NORMAL
) -> Envelope:
    return Envelope(Note(author=author, number=number), target, priority, sender=Address(f"/author-{author}"))


def _facts(envelope: Envelope) -> tuple[object, ...]:
    """What has to arrive as it was sent, in whatever object."""
    return (
        envelope.id, envelope.message, envelope.target, envelope.priority, envelope.sender, envelope.correlation_id,
        envelope.causation_id, envelope.attempt,
    )  # fmt: skip
