"""`Actor` and `@handles`: what a user writes."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, overload

import msgspec

from transport.address import Address
from transport.envelope import Envelope
from transport.message import Message, MessageMeta, reply_type

if TYPE_CHECKING:
    from actors.cell import Cell
    from actors.ref import ActorRef
    from actors.supervisor import ChildSpec
    from actors.system import ActorSystem
    from transport.base import Inlet

A = TypeVar("A", bound="Actor")
R = TypeVar("R")
M_co = TypeVar("M_co", bound=Message[Any], covariant=True)


class Terminated(Message[None], wire_name="actors.Terminated"):
    """Sent once to whoever watched `address` when the actor there has ended for good.

    `reason` is "stopped", "killed", "finished", "failed", or "not found" where nobody lived there.
    """

    address: Address
    reason: str


class Handler(msgspec.Struct, frozen=True):
    """One `@handles` method."""

    function: Callable[..., Any]
    awaits: bool
    concurrency: int
    attempts: int


class _Handles(Protocol[M_co]):  # type: ignore[misc]  # the self types below keep it covariant
    @overload
    def __call__(
        self: _Handles[Message[R]], method: Callable[[Any, M_co], Awaitable[R]], /
    ) -> Callable[[Any, M_co], Awaitable[R]]: ...
    @overload
    def __call__(self: _Handles[Message[R]], method: Callable[[Any, M_co], R], /) -> Callable[[Any, M_co], R]: ...


def handles(kind: type[M_co], *, concurrency: int = 1, attempts: int = 1) -> _Handles[M_co]:
    """Mark a method as the handler for messages of `kind` (and of its subclasses without one of their own).

    The return value is the reply. `concurrency` > 1 runs up to that many at once, beside the actor's
    other handlers. `attempts` is how often one message may be tried, with a restart in between; after
    the last it is a dead letter. A plain `def` handler cannot suspend, so an ask that finds the actor
    idle may run it at once.

    Raises `TypeError` or `ValueError` where the class is defined, not where a message arrives.
    """
    if not isinstance(kind, MessageMeta):
        raise TypeError(f"@handles({kind!r}): not a message type; derive it from Message[ReplyType]")
    options: dict[str, object] = {"concurrency": concurrency, "attempts": attempts}
    for option, value in options.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"@handles({kind.__name__}, {option}={value!r}): a whole number, at least 1")

    def mark(method: Callable[..., Any]) -> Any:
        handler = _handler(kind, method, concurrency, attempts)
        method.__dict__.setdefault("__handles__", []).append((kind, handler))
        return method

    return mark


def _handler(kind: type, method: Callable[..., Any], concurrency: int, attempts: int) -> Handler:
    """`method` as the handler for `kind`. Raises `TypeError` where it cannot be one."""
    awaits = inspect.iscoroutinefunction(method)
    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        raise TypeError(f"@handles({kind.__name__}): {_name(method)} yields; a handler returns one reply")
    if concurrency > 1 and not awaits:
        raise TypeError(
            f"@handles({kind.__name__}, concurrency={concurrency}): {_name(method)} is a plain def; "
            "only an async def handler can share its actor"
        )
    return Handler(method, awaits, concurrency, attempts)


class Actor:
    """The base of every agent: one turn at a time, restarted with fresh state by its supervisor.

    What `__init__` sets is private to the actor. `self.system`, `self.ref` and the rest are there from
    `on_start` on, not yet in `__init__`.
    """

    __handlers__: ClassVar[dict[type, Handler]] = {}
    __declared__: ClassVar[dict[type, Handler]] = {}  # of those, what this class itself defines
    __dispatch__: ClassVar[dict[type, Handler]] = {}  # the handlers, and what `find_handler` remembers
    __plain__: ClassVar[bool] = False  # whether any of them is a plain def
    _cell: Cell

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        table: dict[type, Handler] = {}
        for base in reversed(cls.__mro__[1:]):
            table |= base.__dict__.get("__declared__", {})
        # A method that a subclass overrides without @handles stays a handler.
        declared = cls.__declared__ = {}
        for kind, handler in table.items():
            override = cls.__dict__.get(handler.function.__name__)
            if inspect.isfunction(override) and "__handles__" not in override.__dict__:
                _check_reply(cls, kind, override)
                declared[kind] = _handler(kind, override, handler.concurrency, handler.attempts)
        seen: dict[type, str] = {}
        for method in cls.__dict__.values():
            for kind, handler in getattr(method, "__dict__", {}).get("__handles__", ()):
                if kind in seen:
                    raise TypeError(
                        f"{cls.__qualname__}: both {seen[kind]} and {method.__name__} handle {kind.__name__}"
                    )
                _check_reply(cls, kind, method)
                seen[kind] = method.__name__
                declared[kind] = handler
        cls.__handlers__ = table | declared
        cls.__dispatch__ = dict(cls.__handlers__)
        cls.__plain__ = not all(handler.awaits for handler in cls.__handlers__.values())

    # What you may override -------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Called before the first message of each incarnation; a failure here is a failure of the actor."""

    async def on_stop(self, reason: str) -> None:
        """Called when the actor ends: "stopped", "killed", "finished", or "restarting" for a sibling's sake.

        Its children have stopped before. Not called after a failure, which calls `on_restart`.
        """

    async def on_restart(self, error: BaseException) -> None:
        """The failed instance's last word, before the supervisor decides; the next one is built afresh."""

    # What you may use ------------------------------------------------------------------------------------

    @property
    def ref(self: A) -> ActorRef[A]:
        """The reference to this actor."""
        return self._cell.ref

    @property
    def system(self) -> ActorSystem:
        """The system this actor lives in."""
        return self._cell.system

    @property
    def envelope(self) -> Envelope:
        """The envelope of the message being handled: sender, correlation, deadline, attempt.

        Raises `LookupError` where no message is being handled.
        """
        envelope = self._cell.current_envelope()
        if envelope is None:
            raise LookupError(f"{self._cell.address} is not handling a message")
        return envelope

    async def spawn(self, actor: type[A], /, *args: Any, **options: Any) -> ActorRef[A]:
        """Start a child; arguments, options and errors as in `ActorSystem.spawn`."""
        return await self._cell.children.spawn(actor, *args, **options)

    async def supervise(self, *children: ChildSpec[Any], **options: Any) -> ActorRef[Any]:
        """Start a supervisor below this actor; as `ActorSystem.supervise`."""
        return await self._cell.children.supervise(*children, **options)

    async def pool(self, actor: type[A], /, *args: Any, **options: Any) -> ActorRef[A]:
        """Start a pool below this actor; as `ActorSystem.pool`."""
        return await self._cell.children.pool(actor, *args, **options)

    def stop(self) -> None:
        """Handle what is queued, then finish by itself. A PERMANENT actor is restarted even so."""
        self._cell.finish()

    def watch(self, ref: ActorRef[Any]) -> None:
        """Get one `Terminated` when that actor has ended, at once where it has already.

        Holds for this incarnation. Raises `TypeError` where the class does not handle `Terminated`.
        """
        self._cell.watch(ref.address)

    def unwatch(self, ref: ActorRef[Any]) -> None:
        """No `Terminated` for that actor is handled from now on."""
        self._cell.unwatch(ref.address)

    def after(self, delay: float, message: Message[Any], *, key: Hashable = None) -> None:
        """Send `message` to itself in `delay` seconds. `key` (default: the message's type) names the timer.

        Setting a timer whose key is in use replaces it. Timers end with the incarnation.
        """
        self._cell.set_timer(delay, message, key, repeat=False)

    def every(self, period: float, message: Message[Any], *, key: Hashable = None) -> None:
        """Send `message` to itself every `period` seconds, first in one period from now.

        At most one tick waits in the mailbox: an actor that is slower than its timer misses ticks.
        """
        self._cell.set_timer(period, message, key, repeat=True)

    def cancel(self, key: Hashable) -> None:
        """Cancel a timer: no tick of it is handled from now on, also none that is queued already."""
        self._cell.cancel_timer(key)

    def stash(self) -> Any:
        """Put the message being handled aside, to be handled again after `unstash`: ``return self.stash()``.

        It is put aside when the handler returns, whose value does not count; where the handler raises, that
        is the message's fate instead. As many fit as in the mailbox.

        Raises `MailboxFull` where the stash is full, `LookupError` where no message is being handled.
        """
        self._cell.stash_current(self.envelope)

    def unstash(self) -> None:
        """Put everything stashed back at the head of the mailbox, in its first order."""
        self._cell.unstash()

    @classmethod
    def _inlet(cls, cell: Cell) -> Inlet:
        """Where mail for this kind of actor goes in; a pool's goes to its workers."""
        return cell.gate()


def find_handler(actor: type[Actor], kind: type) -> Handler | None:
    """The handler for `kind` or the nearest of its bases; remembered in the actor's table."""
    for base in kind.__mro__:
        if (handler := actor.__handlers__.get(base)) is not None:
            actor.__dispatch__[kind] = handler
            return handler
    return None


def _check_reply(cls: type[Actor], kind: type[Message[Any]], method: Callable[..., Any]) -> None:
    """Raise `TypeError` where a handler's signature certainly contradicts its message type."""
    parameters = [p for p in inspect.signature(method).parameters.values() if p.default is p.empty]
    if len(parameters) != 2:
        raise TypeError(f"{_name(method)} takes {len(parameters)} arguments; a handler takes self and the message")
    try:
        hints = typing.get_type_hints(method)
    except Exception:  # noqa: BLE001  # a name that is not defined yet: the type checker sees it, we cannot
        return
    where = f"{_name(method)} handles {kind.__name__}"
    message = hints.get(parameters[1].name, kind)
    if isinstance(message, type) and not issubclass(kind, message):
        raise TypeError(f"{where} but its message is annotated {message.__name__}")
    wanted, given = reply_type(kind), hints.get("return", Any)
    if Any in (wanted, given):
        return
    if given is type(None) and not _allows_none(wanted):
        raise TypeError(f"{where}, whose reply is {_type_name(wanted)}, but is annotated to return None")
    known, returned = _class_of(wanted), _class_of(given)
    if known is not None and returned is not None and not issubclass(returned, known):
        raise TypeError(f"{where}, whose reply is {_type_name(wanted)}, but is annotated to return {_type_name(given)}")


def _class_of(annotation: Any) -> type | None:
    """The class behind an annotation; None where only a type checker could compare it."""
    if annotation is None:
        return type(None)
    known = typing.get_origin(annotation) or annotation
    return known if isinstance(known, type) and known is not types.UnionType else None


def _allows_none(kind: Any) -> bool:
    return kind in (None, type(None), object) or type(None) in typing.get_args(kind)


def _type_name(kind: Any) -> str:
    return "None" if kind is type(None) else kind.__name__ if isinstance(kind, type) else str(kind)


def _name(method: Callable[..., Any]) -> str:
    return method.__qualname__
