"""`ActorSystem`: the owner of everything, from its first actor to an orderly end."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import anyio

from actors.actor import Actor
from actors.cell import Cell
from actors.children import Children
from actors.deadlines import Deadlines
from actors.errors import AskTimeout, HandlerFailed
from actors.events import DeadLetter, Event, Throttle, log_dead_letters
from actors.pool import Routing, round_robin
from actors.ref import ActorRef, current
from actors.supervision import AutoShutdown, Backoff, Restart, RestartWindow, Strategy
from actors.supervisor import ChildSpec, Supervisor
from actors.turn import Background, Turn, call_handler
from transport.address import ROOT, Address
from transport.base import Transport
from transport.envelope import Envelope, Failed, Fate, Outcome
from transport.errors import ActorStopped, MailboxFull
from transport.eventloop import EventLoop, Future, current_event_loop
from transport.mailbox import Overflow, check_options, check_seconds
from transport.memory import MemoryTransport
from transport.message import AnyMessage, Message, ProtobufMessage
from transport.middleware import Middleware, compose_deliver, compose_settled

A = TypeVar("A", bound=Actor)
E = TypeVar("E", bound=Event)
R = TypeVar("R")
T = TypeVar("T")

_FATES: dict[str, Fate] = {
    "failed": "failed",
    "killed": "failed",
    "expired": "expired",
    "abandoned": "expired",
}
_NOT_TRIED = {"stopped", "killed", "expired", "abandoned"}
"""Reasons for dead letters that no longer hold where the address has gone to another process, or is about to go."""


class ActorSystem:
    """A tree of supervised actors and the transport that carries their messages.

    ``async with ActorSystem("shop") as system:`` On leaving, mail is drained for up to `drain` seconds,
    then the actors stop in reverse start order, each within its shutdown time. Where the body raised or
    was cancelled, nothing is waited for but the stopping itself.

    `transport` (default: in memory), `middleware` (the first is the outermost), `capacity` and `overflow`
    of mailboxes that do not say, `intensity` and `period` of the root supervisor.

    Raises `RestartIntensityExceeded` from the ``async with`` where the root supervisor gave up; the body
    has been cancelled then.
    """

    # Set on entering, when there is an event loop.
    loop: EventLoop
    future: Callable[[], Future]
    now: Callable[[], float]
    deadlines: Deadlines
    _root: Children

    def __init__(
        self,
        name: str = "actors",
        *,
        transport: Transport | None = None,
        middleware: Sequence[Middleware] = (),
        capacity: int = 10_000,
        overflow: Overflow = Overflow.BLOCK,
        intensity: int = 3,
        period: float = 5.0,
        drain: float = 5.0,
    ) -> None:
        check_options(capacity, overflow, None)
        RestartWindow(intensity, period)
        check_seconds("drain", drain)
        self.name = name
        self.transport: Transport = transport or MemoryTransport()
        self.middleware = tuple(middleware)
        self.capacity = capacity
        self.overflow = overflow
        self.cells: dict[Address, Cell] = {}
        self.dead_letters: Counter[str] = Counter()
        """How many messages became dead letters, by reason. The log is throttled, this never."""
        self.dropped = self._dropped  # bound once for all mailboxes, not once for each
        self.waiting = self._waiting
        self._in_a_row = 0
        self.settled = compose_settled(self.middleware)
        deliver = compose_deliver(self.middleware, call_handler)
        self.deliver = None if deliver is call_handler else deliver
        self.loop = self.future = self.now = self.deadlines = self._root = _NotRunning(name)  # type: ignore[assignment]
        self._intensity, self._period, self._drain = intensity, period, drain
        self._subscribers: dict[type[Event], dict[object, Callable[[Any], None]]] = {}
        self._dead_letter_log = Throttle()
        self._failure: BaseException | None = None
        self._emptied: anyio.Event | None = None

    # From the first actor to the last --------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self.loop = current_event_loop(self._tasks)
        self.future, self.now = self.loop.future, self.loop.now
        self.deadlines = Deadlines(self.future, self.now)
        self._clock = anyio.CancelScope(shield=True)  # shutdown times hold while we are being cancelled, too
        self._tasks.start_soon(self._watch_clock, name=f"{self.name}: deadlines")
        self._root = Children(self, ROOT, self, Strategy.ONE_FOR_ONE, self._intensity, self._period)
        try:
            await self.transport.open()
        except BaseException:
            self._clock.cancel()
            await self._tasks.__aexit__(None, None, None)
            raise
        self._body = anyio.CancelScope()
        self._body.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        swallowed = self._body.__exit__(kind, error, traceback)
        with anyio.CancelScope(shield=True):
            await self.transport.pause()
            if error is None:
                await self._wait_idle()
            await self._root.stop()
            await self.transport.close()
        if not_shown := self._dead_letter_log.held_back():
            log_dead_letters(not_shown, self.name)
        self._clock.cancel()
        await self._tasks.__aexit__(None, None, None)
        if self._failure is not None:
            raise self._failure
        return swallowed

    async def _watch_clock(self) -> None:
        with self._clock:
            await self.deadlines.run()

    async def _wait_idle(self) -> None:
        """Wait until no actor has anything to do, for at most the drain time."""
        with anyio.move_on_after(self._drain):
            waited = True
            while waited:
                waited = False
                for cell in list(self.cells.values()):
                    if not cell.idle():
                        waited = True
                        await cell.wait_idle()

    def fail(self, error: BaseException) -> None:
        """The root supervisor gave up, or something broke that nobody handles: end the system with `error`."""
        if self._failure is None:
            self._failure = error
            self._body.cancel()

    @property
    def failing(self) -> bool:
        """Whether the system is ending with an error; nobody is restarted then."""
        return self._failure is not None

    def finish(self) -> None:
        """Nothing: the root has no significant children."""

    # Spawning --------------------------------------------------------------------------------------------

    async def spawn(
        self,
        actor: type[A],
        /,
        *args: Any,
        name: str | None = None,
        restart: Restart = Restart.PERMANENT,
        backoff: Backoff | None = None,
        shutdown: float | None = None,
        capacity: int | None = None,
        overflow: Overflow | None = None,
        **kwargs: Any,
    ) -> ActorRef[A]:
        """Start an actor below the root supervisor; returns after its `on_start` has succeeded.

        Keeps the recipe, the class and its arguments, so that a restart gets fresh state. The options are
        those of `ChildSpec`.

        Raises `SpawnError` (the cause is chained), `AddressInUse`, or `ValueError` for a bad name or option.
        """
        return await self._root.start(
            ChildSpec(
                actor, *args, name=name, restart=restart, backoff=backoff, shutdown=shutdown,
                capacity=capacity, overflow=overflow, **kwargs,
            )
        )  # fmt: skip

    async def start(self, spec: ChildSpec[A]) -> ActorRef[A]:
        """Start a child of the root supervisor by its recipe. Raises as `spawn` does."""
        return await self._root.start(spec)

    async def supervise(
        self,
        *children: ChildSpec[Any],
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: int = 3,
        period: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
        name: str | None = None,
    ) -> ActorRef[Supervisor]:
        """Start a supervisor with these children: more than `intensity` restarts in `period` seconds, and it fails.

        Raises as `spawn` does; where a child does not start, those before it are stopped again.
        """
        return await self._root.supervise(
            *children,
            strategy=strategy,
            intensity=intensity,
            period=period,
            auto_shutdown=auto_shutdown,
            name=name,
        )

    async def pool(
        self,
        actor: type[A],
        /,
        *args: Any,
        size: int,
        routing: Routing = round_robin,
        name: str | None = None,
        **options: Any,
    ) -> ActorRef[A]:
        """Start `size` equal actors behind one address; the reference is used like any other.

        `routing` is `round_robin`, `least_loaded` or ``consistent_hash(key)`` of `actors.pool`; the options
        are those of each worker, besides `intensity` and `period` of the pool's own supervisor.
        """
        return await self._root.pool(actor, *args, size=size, routing=routing, name=name, **options)

    @overload
    def ref(self, address: str) -> ActorRef[Any]: ...
    @overload
    def ref(self, address: str, actor: type[A]) -> ActorRef[A]: ...
    def ref(self, address: str, actor: type[Any] = Actor) -> ActorRef[Any]:
        """A reference by address, whether or not anything lives there yet. Raises `ValueError`."""
        return ActorRef(self, Address(address))

    @overload
    async def ask_all(
        self, refs: Sequence[ActorRef[Any]], message: Message[R], *, timeout: float = ...
    ) -> dict[Address, R | Exception]: ...
    @overload
    async def ask_all(
        self, refs: Sequence[ActorRef[Any]], message: ProtobufMessage, *, timeout: float = ...
    ) -> dict[Address, Any]: ...
    async def ask_all(
        self, refs: Sequence[ActorRef[Any]], message: AnyMessage, *, timeout: float = 30.0
    ) -> dict[Address, Any]:
        """Ask all of `refs` at once; one outcome for each, the reply or the error, within `timeout` seconds."""
        outcomes: dict[Address, Any] = {}

        async def ask(ref: ActorRef[Any]) -> None:
            try:
                outcomes[ref.address] = await ref.ask(message, timeout=timeout)
            except Exception as error:  # noqa: BLE001  # it is this target's outcome
                outcomes[ref.address] = error

        async with anyio.create_task_group() as asks:
            for ref in refs:
                asks.start_soon(ask, ref)
        return {ref.address: outcomes[ref.address] for ref in refs}

    async def finished(self) -> None:
        """Return when no actor is left, and none waits to take over; at once where there is none."""
        while self.cells or self._root.stands_by:
            self._emptied = self._emptied or anyio.Event()
            await self._emptied.wait()

    # Watching it ----------------------------------------------------------------------------------------

    def subscribe(self, event: type[E], callback: Callable[[E], None]) -> Callable[[], None]:
        """Call `callback` with each event of this type (`Event` for all). Returns what ends the subscription.

        The callback runs in the turn in which the event happens; keep it short. What it raises ends the system.
        """
        subscribers = self._subscribers.setdefault(event, {})
        subscription = object()
        subscribers[subscription] = callback
        return lambda: subscribers.pop(subscription, None) and None

    def publish(self, event: type[Event], *facts: Any) -> None:
        """Make the event, where anybody wants it: subscribers, or the log from level warning up."""
        if event.level != "debug" or self._subscribers:
            self._tell_subscribers(fact := event(*facts))
            if event.level != "debug":
                fact.log(system=self.name)

    def _tell_subscribers(self, fact: Event) -> None:
        for kind in (type(fact), Event):
            for callback in list(self._subscribers.get(kind, {}).values()):
                try:
                    callback(fact)
                except BaseException as error:  # noqa: BLE001  # it comes out of the system's `async with`
                    self.fail(error)

    # What becomes of messages ----------------------------------------------------------------------------

    def settle(self, envelope: Envelope, outcome: Outcome, error: BaseException) -> None:
        """A message has met its fate and there is no value to reply with but `error`."""
        reply = envelope.reply
        if reply is not None and not reply.done():
            reply.set_result(Failed(error, outcome))
        for tell in self.settled:
            tell(envelope, outcome)

    def succeeded(self, envelope: Envelope, result: Any) -> None:
        """A message has been handled."""
        reply = envelope.reply
        if reply is not None and not reply.done():
            reply.set_result(result)
        for tell in self.settled:
            tell(envelope, Outcome("handled"))

    def dead_letter(self, envelope: Envelope, reason: str, cause: BaseException | None = None) -> None:
        """An accepted message will not be handled, or not here; `reason` as in `DeadLetter`."""
        if reason in _NOT_TRIED and self.transport.keeps(envelope):
            return  # whoever lives at its address next handles it
        self.dead_letters[reason] += 1
        if reason == "killed":
            error: BaseException = HandlerFailed("Killed", f"{envelope.target} was killed while it handled the message")
        elif reason == "failed" and cause is not None:
            error = HandlerFailed.because(cause)
        elif reason == "dropped":
            error = self.no_room(envelope)
        elif reason == "unhandled" and cause is not None:
            error = cause
        elif reason == "expired":
            error = AskTimeout(f"{envelope.target} did not come to the message in time")
        else:
            error = ActorStopped(f"{envelope.target} did not handle the message: {reason}", envelope)
        self.settle(envelope, Outcome(_FATES.get(reason, "dead-lettered"), reason, cause), error)
        letter = DeadLetter(envelope.target, envelope.message, reason, envelope.sender, cause, envelope.attempt)
        if self._dead_letter_log.allows(self.now()):
            letter.log(system=self.name, not_shown=self._dead_letter_log.held_back())
        self._tell_subscribers(letter)

    def _dropped(self, envelope: Envelope) -> None:
        """A full mailbox has thrown this out."""
        self.dead_letter(envelope, "dropped")

    def no_room(self, envelope: Envelope) -> MailboxFull:
        """The error for whoever sent `envelope` to a mailbox that had no room for it."""
        cell = self.cells.get(envelope.target)
        depth = 0 if cell is None else len(cell.mailbox)
        return MailboxFull(f"{envelope.target} had no room: {depth} messages waiting", envelope, depth=depth)

    # For cells and references ---------------------------------------------------------------------------

    def admit(self, spec: ChildSpec[Any], address: Address, parent: Children) -> Cell:
        """A new cell at `address`. Raises `AddressInUse`."""
        cell = Cell(self, spec, address, parent)
        self.transport.bind(address, cell.inlet)
        self.cells[address] = cell
        return cell

    def forget(self, cell: Cell, buried: Callable[[Envelope], None] = lambda _: None) -> None:
        """The cell has ended for good; `buried` is called with what comes too late for it."""
        if self.cells.get(cell.address) is cell:
            del self.cells[cell.address]
            self.transport.unbind(cell.address, buried)
            if not self.cells and self._emptied is not None:
                self._emptied.set()
                self._emptied = None

    async def stop(self, address: Address, timeout: float | None = None) -> None:
        """As `ActorRef.stop`."""
        cell = self.cells.get(address)
        if cell is None:
            return
        turn = current.get()
        if turn is not None and turn.address.within(address):
            cell.stop()  # waiting would be waiting for itself
        else:
            await cell.parent.stop_child(cell, timeout)

    def kill(self, address: Address) -> None:
        """As `ActorRef.kill`."""
        cell = self.cells.get(address)
        if cell is not None:
            cell.kill()

    def turn_is_long(self) -> bool:
        """Asked by what may return without ever waiting: every 64th time the others should run first."""
        self._in_a_row = (self._in_a_row + 1) % 64
        return not self._in_a_row

    async def wait(self, future: Future, deadline: float) -> None:
        """Wait for `future`, no longer than `deadline`."""
        entry = self.deadlines.at(deadline, future)
        try:
            await future
        finally:
            entry[1] = None

    @contextmanager
    def _waiting(self, address: Address, envelope: Envelope) -> Iterator[None]:
        """Around a wait for room at `address`. Raises `MailboxFull` where it would never end.

        That is where the full mailbox belongs to the sender, or to an actor that waits for the sender.
        """
        turn = current.get()
        if turn is None:
            yield
            return
        if self.circle(turn, address) or (turn.envelope is not None and address in turn.envelope.chain):
            raise self.cells[address].mailbox.full(envelope)
        before, turn.waits_for = turn.waits_for, address
        try:
            yield
        finally:
            turn.waits_for = before

    def circle(self, turn: Cell | Turn | Background, address: Address | None) -> list[Address]:
        """Who waits for whom, if the actor in this turn were to wait for the one at `address`; empty if nobody hangs.

        A concurrent handler holds up nobody but itself: its actor goes on with other mail.
        """
        waiting = [turn.address]
        while turn.serial and address is not None and len(waiting) <= len(self.cells):
            waiting.append(address)
            if address == turn.address:
                return waiting
            cell = self.cells.get(address)
            address = None if cell is None else cell.waits_for
        return []


class _NotRunning:
    """Stands for what a system only has while it runs."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self) -> Any:
        raise RuntimeError(f"the system {self._name!r} does not run yet: async with ActorSystem(...) as system:")

    def __getattr__(self, _: str) -> Any:
        self()


def run(main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run an async program: `anyio.run` on asyncio, with uvloop where it is installed."""
    uvloop = importlib.util.find_spec("uvloop") is not None
    return anyio.run(main, *args, backend_options={"use_uvloop": uvloop})
