"""`Cell`: one actor's life, from its first start to the last fate of its last message. Read this first.

A cell outlives the instances of its class: the address, the mailbox and the recipe stay, each incarnation
runs in a task of its own (`live`), and what comes after it is the supervisor's decision.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

import anyio

from actors.actor import Actor, Handler, Terminated, find_handler
from actors.children import Children
from actors.errors import Refusal
from actors.events import ActorRestarted, ActorStarted, ActorStopped, HookFailed
from actors.ref import HANDLED, ActorRef, current
from actors.supervision import Exit, Reason, restarts
from actors.supervisor import ChildSpec, Supervisor
from actors.timers import Insistence, Timer
from actors.turn import Background, Turn, is_fatal, plain
from transport.address import Address
from transport.base import Inlet
from transport.envelope import Envelope, Outcome, Undecodable
from transport.errors import DeliveryError, MailboxFull
from transport.eventloop import Future, Task
from transport.mailbox import PriorityMailbox
from transport.message import AnyMessage
from transport.middleware import Gate, compose_accept

if TYPE_CHECKING:
    from actors.system import ActorSystem

# Fairness: a busy actor lets the others run after 2 ms or 1,024 messages; looking at the clock every
# 16 messages costs 4 ns each.
_LOOK_EVERY: Final = 16
_MOST_LOOKS: Final = 64
_LONGEST_TURN: Final = 0.002


class Cell:
    """What stays of an actor while its incarnations come and go. Internal: users hold an `ActorRef`."""

    __slots__ = (
        "_children",
        "_ended",
        "_idle",
        "_ref",
        "_started",
        "_stash",
        "_timers",
        "_turns",
        "_watched",
        "address",
        "began",
        "envelope",
        "failed_at",
        "failures",
        "inlet",
        "instance",
        "interruptible",
        "mailbox",
        "order",
        "parent",
        "spec",
        "system",
        "task",
        "waits_for",
        "watchers",
    )  # fmt: skip

    serial: ClassVar[bool] = True

    def chain(self) -> tuple[Address, ...]:
        """Who else waits while the turn that is on asks somebody: this actor, with all its mail."""
        return (self.address,)

    def __init__(self, system: ActorSystem, spec: ChildSpec[Any], address: Address, parent: Children) -> None:
        self.system = system
        self.spec = spec
        self.address = address
        self.parent = parent
        self.mailbox = PriorityMailbox(
            system.future, system.dropped, address=address, waiting=system.waiting,
            capacity=system.capacity if spec.capacity is None else spec.capacity,
            overflow=spec.overflow or system.overflow, ageing=spec.ageing,
        )  # fmt: skip
        self.inlet: Inlet = spec.actor._inlet(self)
        """Where senders put their mail: the mailbox, the middleware before it, or a pool's workers."""
        self.instance: Actor | None = None
        self.envelope: Envelope | None = None
        """The message being handled, if it is one of those handled one at a time."""
        self.task: Task | None = None
        """The task of the running incarnation; None between two."""
        self.order: Reason | None = None
        """How this incarnation has been told to end."""
        self.interruptible = False
        self.began = False
        """Whether `on_start` of the running incarnation has succeeded."""
        self.failures = 0
        self.failed_at = 0.0
        self.watchers: set[Cell] | None = None
        self.waits_for: Address | None = None
        """Whose answer, or whose room, the actor's own turn waits for."""
        self._ref: ActorRef[Any] | None = None
        self._started: Future | None = None
        self._ended: list[Future] | None = None
        self._idle: Future | None = None
        self._children: Children | None = None
        self._turns: set[Turn] | None = None
        self._timers: dict[Hashable, Timer] | None = None
        self._watched: set[Address] | None = None
        self._stash: deque[Envelope] | None = None

    # A life ----------------------------------------------------------------------------------------------

    async def start(self) -> Exit | None:
        """Begin an incarnation. None once `on_start` has succeeded, otherwise how it ended instead."""
        self.order = None
        self.mailbox.reopen()
        if self.spec.actor.on_start is Actor.on_start and not issubclass(self.spec.actor, Supervisor):
            exit = self.build()  # noqa: A001  # nothing to wait for: half of a spawn was waiting
            if exit is None:
                self.task = self.system.loop.start(self.live, self.address)
            return exit
        self._started = started = self.system.future()
        self.task = self.system.loop.start(self.live, self.address)
        return await started  # type: ignore[no-any-return]

    async def live(self) -> None:
        """One incarnation: begin, handle mail until told to end or a handler fails, end.

        Wait, then take, with no await in between: cancelling loses no mail. An idle actor is this one
        coroutine and its mailbox; the loop in a function of its own would be 0.2 KiB more.
        """
        current.set(self)
        self.interruptible = True
        mailbox, system, handlers = self.mailbox, self.system, self.spec.actor.__dispatch__
        deliver, settled, now = system.deliver, system.settled, system.now
        looks, budget, since = _MOST_LOOKS, _LOOK_EVERY, 0.0
        message: Any
        result: Any
        exit: Exit | None = None  # noqa: A001
        try:
            if not self.began:
                exit = await self.begin()  # noqa: A001
            if not system.middleware and self.spec.actor.__plain__:
                mailbox.at_once = self.answer_at_once
            instance = self.instance
            while exit is None:
                envelope = mailbox.take()
                if envelope is None:
                    self.envelope = None
                    if mailbox.closed:
                        exit = Exit(self.order or "stopped")  # noqa: A001
                        break
                    if self._idle is not None:
                        self.tell_idle()
                    message = reply = result = None  # this frame keeps no message alive while it waits
                    await mailbox.mail()
                    looks, budget, since = _MOST_LOOKS, _LOOK_EVERY, 0.0
                    continue

                message = envelope.message
                try:
                    handler: Handler | None = handlers[type(message)]
                except KeyError:
                    handler = find_handler(self.spec.actor, type(message))
                if handler is None:
                    exit = self.control_or_unhandled(envelope)  # noqa: A001
                    continue
                if handler.concurrency > 1 and not self.has_turn_for(handler):
                    mailbox.put_back(envelope)
                    await mailbox.mail()  # a turn that ends wakes the mailbox, and so does control mail
                    continue
                if mailbox.blocked is not None:
                    mailbox.let_in()
                reply, deadline = envelope.reply, envelope.deadline
                if (reply is not None and reply.done()) or (deadline is not None and deadline <= now()):
                    self.too_late(envelope)
                    continue
                if handler.concurrency > 1:
                    await self.start_turn(envelope, handler)
                    continue

                self.envelope = envelope
                try:
                    if deliver is not None:
                        result = await deliver(envelope)
                    elif handler.awaits:
                        result = await handler.function(instance, message)
                    else:
                        result = plain(handler.function(instance, message), handler)
                except BaseException as error:  # noqa: BLE001  # failed() tells what it is
                    exit = self.failed(envelope, handler, error)  # noqa: A001
                else:
                    if self.envelope is not envelope:
                        self.put_aside(envelope)
                    else:
                        if reply is not None and not reply.done():
                            reply.set_result(result)
                        if settled:
                            for tell in settled:
                                tell(envelope, HANDLED)

                budget -= 1
                if not budget:
                    looks, budget = looks - 1, _LOOK_EVERY
                    since = since or now()
                    if not looks or now() - since > _LONGEST_TURN:
                        await system.loop.checkpoint()
                        looks, since = _MOST_LOOKS, 0.0
        except BaseException as error:  # noqa: BLE001  # blame() tells what it is
            exit = self.blame(error)  # noqa: A001
        exit = await self.end(exit)  # noqa: A001
        if self.must_go_on_draining(exit):
            self.task = system.loop.start(self.live, self.address)
        else:
            self.task = None
            self.ended(exit)

    def build(self) -> Exit | None:
        """Build the instance from its recipe; an `Exit` where that fails."""
        try:
            instance = self.spec.build()
            instance._cell = self
        except Exception as error:  # noqa: BLE001  # the supervisor decides
            return Exit("failed", error)
        self.instance = instance
        self.began = type(instance).on_start is Actor.on_start and not isinstance(instance, Supervisor)
        if self.began:
            self.system.publish(ActorStarted, self.address)
        return None

    async def begin(self) -> Exit | None:
        """Build the instance and start it; an `Exit` where that fails."""
        if self.order == "killed":
            return Exit("killed")
        try:
            exit = self.build()  # noqa: A001
            if exit is not None or self.began:
                return exit
            assert self.instance is not None
            if isinstance(self.instance, Supervisor):
                for spec in self.instance.children():
                    await self.children.start(spec)
            current.set(Background(self))
            await self.instance.on_start()
            current.set(self)
        except BaseException as error:  # noqa: BLE001  # blame() tells what it is
            return self.blame(error)
        self.began = True
        started, self._started = self._started, None
        if started is not None and not started.done():
            started.set_result(None)
        self.system.publish(ActorStarted, self.address)
        return None

    async def end(self, exit: Exit) -> Exit:  # noqa: A002
        """Stop what belongs to this incarnation, children first, and give the instance its last word."""
        self.interruptible = False
        self.mailbox.at_once = None
        if self.order == "killed":
            exit = Exit("killed", exit.error)  # noqa: A001
        hook = "on_restart" if exit.reason == "failed" else "on_stop"
        has_last_word = getattr(self.spec.actor, hook) is not getattr(Actor, hook)
        if has_last_word or self._children is not None or self._turns:  # a scope is 8 µs, half a spawn and stop
            await self.system.loop.absorb()
            with anyio.CancelScope(shield=True):
                if self._turns:
                    await self.end_turns(now=exit.reason == "killed")
                if self._children is not None:
                    await self._children.stop(now=exit.reason == "killed")
                if has_last_word and self.instance is not None:
                    exit = await self.last_word(self.instance, hook, exit)  # noqa: A001
        self.forget_timers()
        self.forget_watches()
        self.unstash()
        self.mailbox.withdraw(lambda envelope: isinstance(envelope.message, Exit))
        self.instance = self.envelope = self._children = None
        return Exit("killed", exit.error) if self.order == "killed" else exit

    def must_go_on_draining(self, exit: Exit) -> bool:  # noqa: A002
        """Whether a message failed while the mailbox was drained: the others get a fresh instance."""
        began, self.began = self.began, False
        if (
            self.order in ("stopped", "finished")
            and exit.reason == "failed"
            and began
            and len(self.mailbox) > 0
            and restarts(self.spec.restart, exit)
            and self.parent.may_restart()
        ):
            self.system.publish(ActorRestarted, self.address, 0.0, exit.error)
            return True
        return False

    async def last_word(self, instance: Actor, hook: str, exit: Exit) -> Exit:  # noqa: A002
        """Call the hook, for at most the actor's shutdown time."""
        try:
            with anyio.fail_after(self.spec.shutdown):
                reason = "killed" if self.order == "killed" else exit.reason  # it may have been killed meanwhile
                await getattr(instance, hook)(exit.error if hook == "on_restart" else reason)
        except BaseException as error:  # noqa: BLE001  # the actor ends all the same
            if is_fatal(error):
                self.system.fail(error)
            self.system.publish(HookFailed, self.address, hook, error)
            if exit.reason == "finished":
                return Exit("failed", error)
        return exit

    def ended(self, exit: Exit) -> None:  # noqa: A002
        """Hand the exit record to whoever decides: who waits for the start, or the supervisor."""
        started, self._started = self._started, None
        if started is not None and not started.done():
            started.set_result(exit)
        else:
            self.parent.exited(self, exit)
        waiting, self._ended = self._ended or (), None
        for each in waiting:
            if not each.done():
                each.set_result(None)
        self.tell_idle()

    def bury(self, exit: Exit) -> None:  # noqa: A002
        """The end for good: no more mail; what is left are dead letters; the watchers are told."""
        system = self.system
        self.mailbox.close()
        dead_letter = partial(
            system.dead_letter, reason="stopped", cause=exit.error if exit.reason == "failed" else None
        )
        system.forget(self, dead_letter)
        for envelope in self.mailbox.drain():
            dead_letter(envelope)
        watchers, self.watchers = self.watchers, None
        for watcher in watchers or ():
            watcher.terminated(self.address, exit.reason)
        system.publish(ActorStopped, self.address, exit.reason, exit.error)

    # How it is told to end -------------------------------------------------------------------------------

    def stop(self) -> None:
        """Drain, then end; at once where no incarnation runs."""
        if self.task is None:
            self.parent.exited(self, Exit("stopped"))
        elif self.order != "killed":  # an ordered stop outranks finishing and a sibling's casualty
            self.order = "stopped"
            self.mailbox.close()

    def finish(self) -> None:
        """The actor's own wish to stop: drain, then end as "finished"."""
        if self.order is None:
            self.order = "finished"
            self.mailbox.close()

    def leave(self) -> None:
        """End after the message in hand, and keep the mail: a sibling's casualty."""
        if self.order is None:
            self.order = "restarting"
            self.mailbox.post(Envelope(Exit("restarting"), self.address))  # type: ignore[arg-type]

    def fail(self, error: BaseException) -> None:
        """End after the message in hand, with `error`."""
        self.mailbox.post(Envelope(Exit("failed", error), self.address))  # type: ignore[arg-type]

    def kill(self) -> None:
        """End now."""
        if self.task is None:
            self.parent.exited(self, Exit("killed"))
            return
        self.order = "killed"
        self.mailbox.close()
        self.mailbox.post(Envelope(Exit("killed"), self.address))  # type: ignore[arg-type]  # should it not be cancellable
        self.interrupt()
        if self._children is not None:
            self._children.kill()

    def lose(self) -> None:
        """The address has gone to another process."""
        self.parent.lost(self)

    def interrupt(self) -> None:
        """Cancel the incarnation, and again every second where it resists. Cleaning up is bounded by itself."""
        if self.interruptible and self.task is not None:
            self.task.cancel()
            self.system.deadlines.at(self.system.now() + 1.0, Insistence(self, self.task))

    async def wait_ended(self, deadline: float) -> None:
        """Return when the running incarnation has ended, or at `deadline`; at once where none runs."""
        if self.task is not None:
            if self._ended is None:
                self._ended = []
            ended = self.system.future()
            self._ended.append(ended)
            await self.system.wait(ended, deadline)

    async def wait_idle(self) -> None:
        """Return when the actor has nothing in hand and nothing queued."""
        while not self.idle():
            self._idle = self.system.future()
            await self._idle

    def idle(self) -> bool:
        """Whether nothing is in hand and nothing is queued."""
        if self.task is None:
            return not len(self.mailbox)
        return self.mailbox.parked and not len(self.mailbox) and not self._turns

    def load(self) -> int:
        """How many messages are waiting and in hand."""
        return len(self.mailbox) + (self.envelope is not None) + len(self._turns or ())

    def tell_idle(self) -> None:
        """Wake whoever waits for idleness; it looks for itself."""
        idle, self._idle = self._idle, None
        if idle is not None and not idle.done():
            idle.set_result(None)

    # What becomes of a message ---------------------------------------------------------------------------

    def failed(self, envelope: Envelope, handler: Handler, error: BaseException) -> Exit | None:
        """A handler raised: an answer "no", or a failure of the actor.

        Returns the exit record, or None where the actor goes on.
        """
        system = self.system
        if isinstance(error, Refusal):
            system.settle(envelope, Outcome("handled", "refused", error), error)
            return None
        exit = self.blame(error)  # noqa: A001
        if exit.reason != "failed":
            system.dead_letter(envelope, "killed", error if isinstance(error, Exception) else None)
        elif envelope.attempt < handler.attempts and not system.failing:
            envelope.attempt += 1
            system.transport.tried(envelope)
            self.mailbox.put_back(envelope)
        else:
            system.dead_letter(envelope, "failed", error)
        return exit

    def blame(self, error: BaseException) -> Exit:
        """The exit record for what came out of the user's code: a failure, or the cancellation we ordered.

        A cancellation that nobody ordered, leaked from something awaited, is a failure like any other. What
        is neither an `Exception` nor a cancellation (KeyboardInterrupt, ...) is nobody's to handle here: it
        ends the system and comes out of its ``async with``.
        """
        if is_fatal(error):
            self.system.fail(error)
        elif self.order == "killed":
            return Exit("killed", error)
        elif not isinstance(error, Exception) and self.system.loop.cancelled():
            return Exit(self.order or "killed", error)
        return Exit("failed", error)

    def too_late(self, envelope: Envelope) -> None:
        """Nobody wants this message handled any more: its time is up, or its asker has gone."""
        expired = envelope.deadline is not None and envelope.deadline <= self.system.now()
        self.system.dead_letter(envelope, "expired" if expired else "abandoned")

    def control_or_unhandled(self, envelope: Envelope) -> Exit | None:
        """Control mail that ends the incarnation; or nothing to handle: a dead letter, and the actor goes on."""
        message: object = envelope.message
        if isinstance(message, Exit):
            return message
        self.mailbox.let_in()
        if isinstance(message, Undecodable):
            self.system.dead_letter(envelope, message.reason, message.error)
            return None
        kinds = ", ".join(sorted(kind.__name__ for kind in self.spec.actor.__handlers__)) or "nothing"
        who, kind = f"{self.spec.actor.__name__} at {self.address}", type(envelope.message).__name__
        error = DeliveryError(f"{who} does not handle {kind}; it handles {kinds}", envelope)
        self.system.dead_letter(envelope, "unhandled", error)
        return None

    def answer_at_once(self, envelope: Envelope) -> bool:
        """Run a plain `def` handler in the asker's turn; False where it has to take its place in the mailbox."""
        handler = self.spec.actor.__dispatch__.get(type(envelope.message))
        if handler is None or handler.awaits or self.instance is None:
            return False
        self.envelope = envelope
        turn = current.set(self)
        try:
            result = plain(handler.function(self.instance, envelope.message), handler)
        except BaseException as error:  # noqa: BLE001  # failed() tells what it is
            exit = self.failed(envelope, handler, error)  # noqa: A001
            if exit is not None:
                self.mailbox.post(Envelope(exit, self.address))  # type: ignore[arg-type]
        else:
            if self.envelope is not envelope:
                self.put_aside(envelope)
            else:
                envelope.reply.set_result(result)  # type: ignore[union-attr]  # only asks are answered at once
        finally:
            current.reset(turn)
            self.envelope = None
        return True

    # Handlers that share the actor -----------------------------------------------------------------------

    def has_turn_for(self, handler: Handler) -> bool:
        """Whether one more message of a concurrent handler may be handled now."""
        return sum(turn.handler is handler for turn in self._turns or ()) < handler.concurrency

    async def start_turn(self, envelope: Envelope, handler: Handler) -> None:
        """Start a concurrent handler; returns when it has begun, as trio starts new tasks in any order."""
        turn = Turn(self, envelope, handler)
        if self._turns is None:
            self._turns = set()
        self._turns.add(turn)
        await turn.begun

    def turn_over(self, turn: Turn) -> None:
        """A concurrent handler has finished: there is room for the next."""
        if self._turns is not None:
            self._turns.discard(turn)
        self.mailbox.wake()

    async def end_turns(self, *, now: bool) -> None:
        """Let the concurrent handlers finish within the shutdown time, then cancel them; at once if `now`."""
        deadline = self.system.now() + (0.0 if now else self.spec.shutdown)
        while self._turns:
            for turn in list(self._turns):
                if turn in self._turns:
                    await self.system.wait(turn.over(), deadline)
            deadline = self.system.now() + 1.0
            for turn in self._turns:
                turn.cancel()

    def current_envelope(self) -> Envelope | None:
        """The envelope of the message that the running code handles."""
        turn = current.get()
        return turn.envelope if type(turn) is Turn and turn.cell is self else self.envelope

    # What an actor has besides its mail ------------------------------------------------------------------

    @property
    def ref(self) -> ActorRef[Any]:
        """The reference to this actor."""
        if self._ref is None:
            self._ref = ActorRef(self.system, self.address)
        return self._ref

    @property
    def children(self) -> Children:
        """The actors below this one."""
        if self._children is None:
            of = self.instance
            supervision = (of.strategy, of.intensity, of.period, of.auto_shutdown) if isinstance(of, Supervisor) else ()
            self._children = Children(self.system, self.address, self, *supervision)
            if not self.interruptible:
                self._children.close()  # the incarnation is ending, and nothing may outlive it
        return self._children

    def gate(self) -> Inlet:
        """Where senders put their mail: the mailbox itself, or the middleware before it."""
        if not self.system.middleware:
            return self.mailbox
        put = self.mailbox.put
        accept = compose_accept(self.system.middleware, put)
        return self.mailbox if accept is put else Gate(accept)

    def watch(self, address: Address) -> None:
        """Be told once when the actor at `address` has ended."""
        if Terminated not in self.spec.actor.__handlers__:
            name = self.spec.actor.__name__
            raise TypeError(f"{name} watches {address} but has no @handles(Terminated) method to be told with")
        if self._watched is None:
            self._watched = set()
        if address in self._watched:
            return
        self._watched.add(address)
        watched = self.system.cells.get(address)
        if watched is None:
            self.terminated(address, "not found")
        else:
            if watched.watchers is None:
                watched.watchers = set()
            watched.watchers.add(self)

    def unwatch(self, address: Address) -> None:
        """Not any more, not even where the word is in the mailbox already."""
        if self._watched is not None:
            self._watched.discard(address)
        watched = self.system.cells.get(address)
        if watched is not None and watched.watchers is not None:
            watched.watchers.discard(self)
        self.mailbox.withdraw(lambda e: isinstance(e.message, Terminated) and e.message.address == address)

    def terminated(self, address: Address, reason: str) -> None:
        """An actor that this one watches has ended."""
        if self._watched is not None and address in self._watched:
            self._watched.discard(address)
            self.mailbox.post(Envelope(Terminated(address, reason), self.address, sender=address))

    def forget_watches(self) -> None:
        """Watches end with the incarnation."""
        if self._watched is not None:
            for address in list(self._watched):
                self.unwatch(address)
            self.mailbox.withdraw(lambda e: isinstance(e.message, Terminated))

    def set_timer(self, seconds: float, message: AnyMessage, key: Hashable, *, repeat: bool) -> None:
        """Start a timer; one of the same key is replaced."""
        if not seconds >= 0 or (repeat and seconds == 0):
            raise ValueError(f"a timer of {seconds} s at {self.address}: delays are at least 0 s, periods over 0 s")
        key = type(message) if key is None else key
        self.cancel_timer(key)
        if self._timers is None:
            self._timers = {}
        self._timers[key] = Timer(self, key, message, seconds, repeat=repeat)

    def cancel_timer(self, key: Hashable) -> None:
        """Stop a timer, and take its tick out of the mailbox."""
        timer = self._timers.pop(key, None) if self._timers else None
        if timer is not None:
            timer.cancelled = True
            self.mailbox.withdraw(lambda e: e is timer.tick)
            if self._stash:
                self._stash = deque(each for each in self._stash if each is not timer.tick)

    def forget_timer(self, timer: Timer) -> None:
        """A timer has ticked for the last time and the tick is settled."""
        if self._timers and self._timers.get(timer.key) is timer:
            del self._timers[timer.key]

    def forget_timers(self) -> None:
        """Timers end with the incarnation."""
        if self._timers is not None:
            for key in list(self._timers):
                self.cancel_timer(key)

    def stash_current(self, envelope: Envelope) -> None:
        """The message being handled is not settled when its handler returns, but put aside."""
        depth = len(self._stash or ())
        if depth >= self.mailbox.capacity:
            raise MailboxFull(f"the stash of {self.address} is full", envelope, depth=depth)
        turn = current.get()
        if type(turn) is Turn and turn.cell is self:
            turn.envelope = None
        else:
            self.envelope = None

    def put_aside(self, envelope: Envelope) -> None:
        """The handler of a stashed message has returned."""
        if self._stash is None:
            self._stash = deque()
        self._stash.append(envelope)

    def unstash(self) -> None:
        """Put what was put aside back, in its first order."""
        stash, self._stash = self._stash, None
        while stash:
            self.mailbox.put_back(stash.pop())
