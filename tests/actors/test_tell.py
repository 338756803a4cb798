"""`tell`: accepted or raised, never both; what a receipt, an envelope and a full address book say."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from actors import (
    Actor,
    ActorNotFound,
    ActorStopped,
    ActorSystem,
    DeliveryError,
    Envelope,
    MailboxFull,
    Message,
    Outcome,
    Overflow,
    Priority,
    Receipt,
    Refusal,
    Restart,
    TransportClosed,
    handles,
)
from actors.testing import StrictSystem

pytestmark = pytest.mark.anyio


class Note(Message[None]):
    text: str


class Fail(Message[None]): ...


class Refuse(Message[None]): ...


class Hold(Message[None]):
    """Handled until the clerk's gate opens."""


class Strange(Message[None]): ...


class No(Refusal): ...


class Clerk(Actor):
    """Writes everything down."""

    def __init__(self, notes: list[str], gate: anyio.Event) -> None:
        self.notes = notes
        self.gate = gate

    @handles(Note)
    async def note(self, message: Note) -> None:
        self.notes.append(message.text)

    @handles(Hold)
    async def hold(self, _: Hold) -> None:
        await self.gate.wait()

    @handles(Fail)
    async def fail(self, _: Fail) -> None:
        raise ValueError("spilt ink")

    @handles(Refuse)
    async def refuse(self, _: Refuse) -> None:
        raise No("not my desk")


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def gate(anyio_backend: object) -> anyio.Event:
    return anyio.Event()


async def test_tell_returns_when_accepted_and_not_when_handled(notes: list[str], gate: anyio.Event) -> None:
    async with StrictSystem() as system:
        clerk = await system.spawn(Clerk, notes, gate)
        await clerk.tell(Note("a"))
        assert notes == []
        await anyio.wait_all_tasks_blocked()
        assert notes == ["a"]


async def test_tell_is_no_checkpoint_while_there_is_room(notes: list[str], gate: anyio.Event) -> None:
    async with StrictSystem() as system:
        clerk = await system.spawn(Clerk, notes, gate)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await clerk.tell(Note("a"))
            await clerk.tell(Note("b"))
    assert notes == ["a", "b"]


async def test_the_more_urgent_comes_first_and_each_lane_in_its_order(notes: list[str], gate: anyio.Event) -> None:
    async with StrictSystem() as system:
        clerk = await system.spawn(Clerk, notes, gate)
        await clerk.tell(Hold())
        await anyio.wait_all_tasks_blocked()
        for number in range(2):
            for priority in reversed(Priority):
                await clerk.tell(Note(f"{priority.name} {number}"), priority=priority)
        gate.set()
    assert notes == [f"{priority.name} {number}" for priority in Priority for number in range(2)]


async def test_nobody_at_the_address(notes: list[str], gate: anyio.Event) -> None:
    async with StrictSystem() as system:
        nobody = system.ref("/nobody")
        with pytest.raises(ActorNotFound, match="no actor lives at /nobody") as caught:
            await nobody.tell(Note("a"))
        assert isinstance(caught.value.envelope, Envelope)
        assert caught.value.envelope.message == Note("a")
        clerk = await system.spawn(Clerk, notes, gate, name="nobody")
        await nobody.tell(Note("b"))  # the same reference finds who came later
        await clerk.stop()
        with pytest.raises(ActorStopped, match="/nobody has stopped"):
            await clerk.tell(Note("c"))
    with pytest.raises(TransportClosed):
        await clerk.tell(Note("d"))
    assert notes == ["b"]


async def test_a_message_past_its_ttl_never_reaches_a_handler(notes: list[str], gate: anyio.Event) -> None:
    async with StrictSystem() as system:
        clerk = await system.spawn(Clerk, notes, gate)
        at_once = await clerk.tell(Note("a"), ttl=0.0, receipt=True)
        await clerk.tell(Hold())
        soon = await clerk.tell(Note("b"), ttl=0.01, receipt=True)
        await clerk.tell(Note("c"), ttl=60.0)
        await anyio.sleep(0.02)
        gate.set()
        assert await at_once.wait() == await soon.wait() == Outcome("expired", "expired")
        for _ in range(2):
            await system.expect_dead_letter(Note, reason="expired")
        assert system.dead_letters == {"expired": 2}
    assert notes == ["c"]


async def test_a_receipt_tells_each_fate(notes: list[str], gate: anyio.Event) -> None:
    async with StrictSystem() as system:
        system.allow_dead_letters()
        clerk = await system.spawn(Clerk, notes, gate)

        async def fate(message: Message[Any], **options: Any) -> Outcome:
            return await (await clerk.tell(message, receipt=True, **options)).wait(1.0)

        assert await fate(Note("a")) == Outcome("handled")
        refused = await fate(Refuse())
        assert (refused.fate, refused.reason, str(refused.error)) == ("handled", "refused", "not my desk")
        failed = await fate(Fail())
        assert (failed.fate, failed.reason, str(failed.error)) == ("failed", "failed", "spilt ink")
        assert await fate(Note("b"), ttl=0.0) == Outcome("expired", "expired")
        unhandled = await fate(Strange())
        assert (unhandled.fate, unhandled.reason) == ("dead-lettered", "unhandled")
        assert "does not handle Strange; it handles Fail, Hold, Note, Refuse" in str(unhandled.error)

        held = await clerk.tell(Hold(), receipt=True)
        queued = await clerk.tell(Note("c"), receipt=True)
        await anyio.wait_all_tasks_blocked()
        clerk.kill()
        killed, stopped = await held.wait(), await queued.wait()
        assert (killed.fate, killed.reason) == ("failed", "killed")
        assert (stopped.fate, stopped.reason) == ("dead-lettered", "stopped")
        assert system.dead_letters == {"failed": 1, "expired": 1, "unhandled": 1, "killed": 1, "stopped": 1}
    assert notes == ["a"]


async def test_a_receipt_may_be_waited_for_by_many_and_again(notes: list[str], gate: anyio.Event) -> None:
    outcomes: list[Outcome] = []

    async def wait(receipt: Receipt) -> None:
        outcomes.append(await receipt.wait())

    async with StrictSystem() as system:
        clerk = await system.spawn(Clerk, notes, gate)
        receipt = await clerk.tell(Hold(), receipt=True)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await receipt.wait(0.001)
        assert not receipt.done()
        assert not receipt._waiting, "a wait that was given up left its future behind"
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(wait, receipt)
            waiting.start_soon(wait, receipt)
            await anyio.wait_all_tasks_blocked()
            gate.set()
        outcomes.append(await receipt.wait(0.0))
    assert outcomes == [Outcome("handled")] * 3


class Ring(Message[None]): ...


class Relay(Actor):
    """Passes a bell on, and writes down what the envelope says."""

    def __init__(self, seen: list[Envelope], to: str | None = None) -> None:
        self.seen = seen
        self.to = to

    @handles(Ring)
    async def ring(self, message: Ring) -> None:
        self.seen.append(self.envelope)
        if self.to is not None:
            self.seen[-1].id  # noqa: B018  # whoever asks for an id gets one, and what follows names it as its cause
            await self.system.ref(self.to).tell(message)


async def test_the_envelope_says_who_sent_it_and_why() -> None:
    seen: list[Envelope] = []
    async with StrictSystem() as system:
        await system.spawn(Relay, seen, name="last")
        first = await system.spawn(Relay, seen, "/last", name="first")
        await first.tell(Ring(), correlation_id="order 7", priority=Priority.HIGH)
    outside, inside = seen
    assert (outside.sender, outside.target, outside.correlation_id, outside.causation_id, outside.priority) == (
        None, "/first", "order 7", None, Priority.HIGH,
    )  # fmt: skip
    assert (inside.sender, inside.target, inside.correlation_id, inside.causation_id, inside.priority) == (
        "/first", "/last", "order 7", outside.id, Priority.NORMAL,
    )  # fmt: skip
    assert inside.attempt == 1
    assert outside.id != inside.id


async def test_there_is_no_envelope_outside_a_turn() -> None:
    complaints: list[str] = []

    class Curious(Actor):
        async def on_start(self) -> None:
            with pytest.raises(LookupError) as caught:
                self.envelope  # noqa: B018
            complaints.append(str(caught.value))

    async with StrictSystem() as system:
        await system.spawn(Curious, name="curious")
    assert complaints == ["/curious is not handling a message"]


@pytest.mark.parametrize("nonsense", ["a string", None, Note])
async def test_what_is_no_message_is_a_dead_letter(nonsense: Any, notes: list[str], gate: anyio.Event) -> None:
    async with ActorSystem() as system:
        clerk = await system.spawn(Clerk, notes, gate)
        await clerk.tell(nonsense)
        with pytest.raises(DeliveryError, match="Clerk at /clerk-1 does not handle"):
            await clerk.ask(nonsense, timeout=1.0)
        assert await (await clerk.tell(Note("a"), receipt=True)).wait() == Outcome("handled")
        assert system.dead_letters == {"unhandled": 2}


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"ttl": -1.0}, ValueError, "ttl=-1.0"),
        ({"ttl": float("nan")}, ValueError, "ttl=nan"),
        ({"ttl": "soon"}, TypeError, "ttl='soon'"),
        ({"priority": 4}, ValueError, "4 is not a valid Priority"),
        ({"priority": -1}, ValueError, "-1 is not a valid Priority"),
        ({"priority": "high"}, ValueError, "'high' is not a valid Priority"),
    ],
    ids=str,
)
async def test_options_that_make_no_sense_raise_in_the_sender(
    options: dict[str, Any], error: type[Exception], says: str, notes: list[str], gate: anyio.Event
) -> None:
    async with StrictSystem() as system:
        clerk = await system.spawn(Clerk, notes, gate)
        with pytest.raises(error, match=says):
            await clerk.tell(Note("never"), **options)
        await clerk.tell(Note("a"))
    assert notes == ["a"]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"capacity": 0}, ValueError, "capacity=0"),
        ({"capacity": -1}, ValueError, "capacity=-1"),
        ({"capacity": 1.5}, ValueError, "capacity=1.5"),
        ({"capacity": "many"}, ValueError, "capacity='many'"),
        ({"overflow": "block"}, TypeError, "overflow='block'"),
        ({"restart": "permanent"}, TypeError, "restart='permanent'"),
        ({"backoff": 1.0}, TypeError, "backoff=1.0"),
        ({"shutdown": -1.0}, ValueError, "shutdown=-1.0"),
        ({"shutdown": float("nan")}, ValueError, "shutdown=nan"),
        ({"shutdown": "soon"}, TypeError, "shutdown='soon'"),
        ({"ageing": 0}, ValueError, "ageing=0"),
        ({"name": "a b"}, ValueError, "not a name for an actor: 'a b'"),
        ({"name": ""}, ValueError, "not a name for an actor: ''"),
        ({"name": "a/b"}, ValueError, "not a name for an actor: 'a/b'"),
        ({"name": 7}, TypeError, "name=7"),
    ],
    ids=str,
)
async def test_options_that_make_no_sense_spawn_nothing(
    options: dict[str, Any], error: type[Exception], says: str, notes: list[str], gate: anyio.Event
) -> None:
    async with StrictSystem() as system:
        with pytest.raises(error, match=says):
            await system.spawn(Clerk, notes, gate, **options)
        assert not system.cells
        await system.spawn(Clerk, notes, gate, name="a")  # nothing is in the way


@pytest.mark.parametrize("options", [{"capacity": 0}, {"overflow": "block"}, {"drain": -1.0}, {"drain": float("nan")}])
def test_a_system_checks_its_options_too(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises((TypeError, ValueError), match=f"{name}="):
        ActorSystem(**options)


async def test_a_temporary_actor_that_fails_leaves_the_rest_as_dead_letters(
    notes: list[str], gate: anyio.Event
) -> None:
    async with ActorSystem() as system:
        clerk = await system.spawn(Clerk, notes, gate, restart=Restart.TEMPORARY)
        await clerk.tell(Fail())
        left = await clerk.tell(Note("a"), receipt=True)
        outcome = await left.wait(1.0)
        assert (outcome.fate, outcome.reason, str(outcome.error)) == ("dead-lettered", "stopped", "spilt ink")
        assert system.dead_letters == {"failed": 1, "stopped": 1}


async def test_a_message_whose_tell_raised_is_never_handled(notes: list[str], gate: anyio.Event) -> None:
    async with StrictSystem() as system:
        clerk = await system.spawn(Clerk, notes, gate, capacity=1, overflow=Overflow.REJECT)
        await clerk.tell(Hold())
        await checkpoint()
        await anyio.wait_all_tasks_blocked()
        await clerk.tell(Note("a"))
        with pytest.raises(MailboxFull):
            await clerk.tell(Note("b"))
        gate.set()
    assert notes == ["a"]
