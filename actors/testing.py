"""What you test your own actors with: `Probe`, `StrictSystem` and virtual time.

A test of a `Writer` that asks a critic, with pytest and anyio's plugin::

    @pytest.fixture
    def anyio_backend():
        return virtual_time()                        # an hour of backoff passes at once

    @pytest.mark.anyio
    async def test_the_writer_shows_its_draft_to_the_critic():
        async with StrictSystem() as system:         # a dead letter that nobody expects fails the test
            critic = Probe(system)                   # an address whose part the test plays
            writer = await system.spawn(Writer, critic.ref)
            await writer.tell(Write(about="rain"))
            assert await critic.expect(Review) == Review(text="rain, rain")
            critic.reply("too short")
            await critic.expect_none()
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, TypeVar

import anyio

from actors.actor import Actor, Terminated, handles
from actors.cell import Cell
from actors.errors import HandlerFailed, Refusal
from actors.events import ActorStarted, DeadLetter, describe
from actors.ref import ActorRef, Receipt, current
from actors.supervision import Exit
from actors.supervisor import ChildSpec
from actors.system import ActorSystem
from transport.envelope import Envelope, Outcome, Priority
from transport.mailbox import CONTROL, Overflow
from transport.message import AnyMessage, is_protobuf

M = TypeVar("M", bound=AnyMessage)
T = TypeVar("T")


class Probe:
    """An actor whose part the test plays: other actors tell it, ask it and watch it like any other.

    It lives in `system`, which has been entered, at ``/name`` (None: one is made). Each message it gets meets one
    fate: one that was told is handled when `expect` takes it, an ask when it is answered; what the test never
    took or never answered is a dead letter ("stopped") when the probe ends: with its system, or by
    ``probe.ref.stop()`` or ``probe.ref.kill()``, of which its watchers learn. One test task at a time takes from it.

    `capacity` and `overflow` are its mailbox's (None: the system's). Raises `AddressInUse`.
    """

    def __init__(
        self,
        system: ActorSystem,
        name: str | None = None,
        *,
        capacity: int | None = None,
        overflow: Overflow | None = None,
    ) -> None:
        parent = system._root
        address = parent.free_address(_Probed) if name is None else parent.address.child(name)
        spec = ChildSpec(_Probed, name=name, capacity=capacity, overflow=overflow)
        self._system = system
        self._cell = cell = _ProbeCell(system, spec, address, parent)
        self._taken: Envelope | None = None
        system.transport.bind(cell.address, cell.inlet)
        system.cells[address] = parent.cells[address] = cell
        system.publish(ActorStarted, cell.address)

    @property
    def ref(self) -> ActorRef[Any]:
        """The reference to hand to the actors under test; it passes for one to any class of actor."""
        return self._cell.ref

    @property
    def envelope(self) -> Envelope:
        """The envelope of the message taken last: sender, priority, correlation, deadline.

        Raises `LookupError` before the first.
        """
        if self._taken is None:
            raise LookupError(f"{self._cell.address} has taken no message yet")
        return self._taken

    async def expect(self, kind: type[M], *, timeout: float = 1.0) -> M:
        """Take the next message, most urgent first, and return it.

        Raises `AssertionError` where it is not of `kind` (it is taken all the same), or where none
        arrives within `timeout` seconds. ``expect(Message)`` takes any `Message`.
        """
        envelope = await self._next(timeout)
        if envelope is not None and isinstance(envelope.message, kind):
            return envelope.message
        if envelope is not None:
            instead = f"what arrived is {_show(envelope)}"
        elif self._cell.mailbox.closed:
            instead = "the probe has stopped"
        else:
            instead = f"nothing arrived within {timeout} s"
        raise AssertionError(f"{self._cell.address} expected {kind.__qualname__}; {instead}")

    async def expect_none(self, within: float = 0.1) -> None:
        """Wait for `within` seconds. Raises `AssertionError` where a message is there or arrives meanwhile."""
        envelope = await self._next(within)
        if envelope is not None:
            raise AssertionError(f"{self._cell.address} expected nothing; what arrived is {_show(envelope)}")

    def reply(self, value: Any, *, to: AnyMessage | None = None) -> None:
        """Answer an ask that `expect` has taken: `to` that message, or the one taken last of those unanswered.

        Raises `AssertionError` where there is none.
        """
        self._system.succeeded(self._answer(to), value)

    def refuse(self, error: Exception, *, to: AnyMessage | None = None) -> None:
        """Answer as an actor whose handler raised `error`: the asker gets a `Refusal` as itself, else `HandlerFailed`.

        The probe goes on, and there is no dead letter, as it is the test's own doing. Raises as `reply` does.
        """
        envelope = self._answer(to)
        if isinstance(error, Refusal):
            self._system.settle(envelope, Outcome("handled", "refused", error), error)
        else:
            self._system.settle(envelope, Outcome("failed", "failed", error), HandlerFailed.because(error))

    async def tell(self, ref: ActorRef[Any], message: AnyMessage, **options: Any) -> None:
        """Tell `ref` as the probe, so that what answers its sender answers here. As `ActorRef.tell`."""
        turn = current.set(self._cell)
        try:
            await ref.tell(message, **options)
        finally:
            current.reset(turn)

    def watch(self, ref: ActorRef[Any]) -> None:
        """Get one `Terminated`, to be taken by `expect`, when that actor has ended; at once where it has already."""
        self._cell.watch(ref.address)

    def __repr__(self) -> str:
        return f"Probe({str(self._cell.address)!r})"

    async def _next(self, timeout: float) -> Envelope | None:
        cell, mailbox = self._cell, self._cell.mailbox
        with anyio.move_on_after(timeout):
            while True:
                envelope = mailbox.pop()
                if envelope is None:
                    if mailbox.closed:
                        break
                    await mailbox.mail()
                elif not self._too_late(envelope):
                    self._taken = envelope
                    if envelope.reply is None or isinstance(envelope.reply, Receipt):
                        self._system.succeeded(envelope, None)
                    else:
                        cell.asked.append(envelope)
                    return envelope
        return None

    def _too_late(self, envelope: Envelope) -> bool:
        if envelope.deadline is None:
            return False
        expired = envelope.deadline <= self._system.now()
        if expired or (envelope.reply is not None and envelope.reply.done()):
            self._system.dead_letter(envelope, "expired" if expired else "abandoned")
            return True
        return False

    def _answer(self, to: AnyMessage | None) -> Envelope:
        for envelope in reversed(self._cell.asked):
            if to is None or envelope.message is to:
                self._cell.asked.remove(envelope)
                return envelope
        raise AssertionError(f"{self._cell.address} has no ask to answer: take it with expect, and answer it once")


class _Probed(Actor):
    """What a probe is to the others. It has no incarnation: the test takes its mail."""

    @handles(Terminated)
    def ended(self, _: Terminated) -> None:
        """There so that it may watch; `Probe.expect` takes the message."""


_Probed.__name__ = "Probe"  # for the addresses that are made: /probe-1


class _ProbeCell(Cell):
    """A cell without a task, whose mail a test takes."""

    __slots__ = ("asked",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: list[Envelope] = []

    def idle(self) -> bool:
        """Always: what a test does not take must not hold up the end of the system."""
        return True

    def bury(self, exit: Exit) -> None:  # noqa: A002
        """Also for asks that were taken and never answered; one whose asker gave up counts as handled."""
        for envelope in self.asked:
            if envelope.reply is not None and envelope.reply.done():
                self.system.succeeded(envelope, None)
            else:
                self.system.dead_letter(envelope, "stopped", exit.error)
        super().bury(exit)


class StrictSystem(ActorSystem):
    """An `ActorSystem` for tests: on leaving, a dead letter that the test did not expect fails it.

    The `AssertionError` lists them all and has the first cause chained. Where the body raised, its error goes on
    with the list as a note: the cause of a timeout is often a dead letter.

    Enter it in the test, not in a fixture: a root supervisor that gives up cancels the body of its ``async with``,
    and a fixture of anyio cannot pass that on to the test (it hangs, on trio).
    """

    def __init__(self, name: str = "test", **options: Any) -> None:
        super().__init__(name, **options)
        self._unexpected: list[DeadLetter] = []
        self._allowed: list[Callable[[DeadLetter], bool]] = []
        self._arrived = anyio.Event()
        self.subscribe(DeadLetter, self._note)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            swallowed = await super().__aexit__(kind, error, traceback)
        except BaseException as failure:
            self._add_note(failure)
            raise
        if error is not None:
            self._add_note(error)
        elif letters := self._not_allowed():
            raise AssertionError(_list(letters)) from next((each.cause for each in letters if each.cause), None)
        return swallowed

    async def expect_dead_letter(
        self, kind: type[AnyMessage] | None = None, *, reason: str | None = None, timeout: float = 1.0
    ) -> DeadLetter:
        """Take the first dead letter of this kind of message and `reason` (None: of any), and return it.

        It may have come before; each is taken once. Raises `AssertionError` where none comes within
        `timeout` seconds.
        """
        matches = _matcher(kind, reason)
        with anyio.move_on_after(timeout):
            while True:
                for number, letter in enumerate(self._unexpected):
                    if matches(letter):
                        return self._unexpected.pop(number)
                await self._arrived.wait()
        what = f" {kind.__qualname__}" if kind else ""
        why = f" ({reason})" if reason else ""
        raise AssertionError(f"expected a dead letter{what}{why} within {timeout} s; {_list(self._unexpected)}")

    def allow_dead_letters(self, kind: type[AnyMessage] | None = None, *, reason: str | None = None) -> None:
        """Dead letters like these, as many as there are, do not fail the test, also those on leaving."""
        self._allowed.append(_matcher(kind, reason))

    def _note(self, letter: DeadLetter) -> None:
        self._unexpected.append(letter)
        self._arrived.set()
        self._arrived = anyio.Event()

    def _not_allowed(self) -> list[DeadLetter]:
        return [each for each in self._unexpected if not any(matches(each) for matches in self._allowed)]

    def _add_note(self, error: BaseException) -> None:
        if letters := self._not_allowed():
            error.add_note(_list(letters))


def virtual_time() -> tuple[str, dict[str, Any]]:
    """What anyio's `anyio_backend` fixture returns for tests in virtual time: trio with a clock of its own.

    The clock starts at 0 and jumps to the next deadline as soon as every task waits, so an hour takes no
    time and an order of events is the same in each run. Threads and sockets do not wait on this clock.

    Raises `ImportError` where trio is not installed.
    """
    try:
        from trio.testing import MockClock
    except ImportError as error:
        raise ImportError("virtual time runs on trio: pip install 'waooaw-actors[trio]'") from error
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def run_virtual(main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run ``main(*args)`` in virtual time and return its result: one example of a Hypothesis test, say.

    Raises `ImportError` where trio is not installed.
    """
    name, options = virtual_time()
    return anyio.run(main, *args, backend=name, backend_options=options)


def _matcher(kind: type[AnyMessage] | None, reason: str | None) -> Callable[[DeadLetter], bool]:
    return lambda letter: (kind is None or isinstance(letter.message, kind)) and reason in (None, letter.reason)


def _show(envelope: Envelope) -> str:
    how = "" if envelope.priority in (CONTROL, Priority.NORMAL) else f", {Priority(envelope.priority).name}"
    return f"{_text(envelope.message)}{_by(envelope.sender)}{how}"


def _text(message: AnyMessage) -> str:
    """One line; the `repr` of a protobuf message has one for each field, and does not say what it is."""
    text = repr(message)
    return f"{type(message).__name__}({' '.join(text.split())})" if is_protobuf(type(message)) else text


def _list(letters: list[DeadLetter]) -> str:
    if not letters:
        return "there were none"
    lines = (
        f"  {_text(each.message)} to {each.address}{_by(each.sender)}: {each.reason}"
        + (f", {describe(each.cause)}" if each.cause else "")
        for each in letters
    )
    return "\n".join([f"{len(letters)} unexpected dead letter{'s' if len(letters) > 1 else ''}:", *lines])


def _by(sender: str | None) -> str:
    return "" if sender is None else f" from {sender}"
