"""Lifecycle facts. Each knows how to log itself; `ActorSystem.subscribe` tells them to whoever asks."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import msgspec
import structlog

from transport.address import Address
from transport.errors import text_of
from transport.message import AnyMessage


def _logger() -> Any:
    """The user's structured log; where structlog was never configured, standard error and not its standard output."""
    if structlog.is_configured():
        return structlog.get_logger("actors")
    return structlog.wrap_logger(structlog.PrintLogger(sys.stderr))


class Event(msgspec.Struct, frozen=True):
    """One fact about an actor; `address` is the actor's."""

    address: Address

    level: ClassVar[str] = "debug"
    text: ClassVar[str] = ""

    def log(self, **more: Any) -> None:
        """Write the event to the structured log, at its own level."""
        getattr(_logger(), self.level)(self.text, address=str(self.address), **self.fields(), **more)

    def fields(self) -> dict[str, Any]:
        """What the log line says beside the address. Never a payload."""
        return {}


class ActorStarted(Event, frozen=True):
    """`on_start` has succeeded."""

    text = "actor started"


class ActorStopped(Event, frozen=True):
    """The actor has ended for good: "stopped", "killed", "finished" or "failed" with the `error`."""

    reason: str
    error: BaseException | None = None

    text = "actor stopped"

    def fields(self) -> dict[str, Any]:
        return {"reason": self.reason, "error": describe(self.error)}


class ActorRestarted(Event, frozen=True):
    """A supervisor restarts the actor, in `delay` seconds, because of `error` (None: a sibling's casualty)."""

    delay: float
    error: BaseException | None

    level = "warning"
    text = "actor restarts"

    def fields(self) -> dict[str, Any]:
        return {"delay": round(self.delay, 3), "error": describe(self.error)}


class ActorOverdue(Event, frozen=True):
    """The actor did not end within `timeout` seconds of being told to, and is cancelled."""

    timeout: float

    level = "warning"
    text = "actor did not stop in time and is cancelled"

    def fields(self) -> dict[str, Any]:
        return {"timeout": self.timeout}


class HookFailed(Event, frozen=True):
    """`on_stop` or `on_restart` raised, or took longer than the actor's shutdown time; the actor ends all the same."""

    hook: str
    error: BaseException

    level = "error"
    text = "hook failed"

    def fields(self) -> dict[str, Any]:
        return {"hook": self.hook, "error": describe(self.error)}


class SupervisorGaveUp(Event, frozen=True):
    """More restarts than the supervisor's intensity allows; the last failure is the cause of `error`."""

    error: BaseException

    level = "error"
    text = "supervisor gave up"

    def fields(self) -> dict[str, Any]:
        return {"error": describe(self.error), "cause": describe(self.error.__cause__)}


class DeadLetter(Event, frozen=True):
    """An accepted message that was not handled: `address` is where it was sent, `sender` who sent it.

    `reason` is "failed" (its last attempt raised `cause`), "killed" (its handler was cancelled),
    "expired", "abandoned" (its asker had gone), "dropped" (a full mailbox), "stopped" (its actor ended
    before its turn), "unhandled" (no handler for its type) or "undecodable" (its frame was refused because of
    `cause`; the `message` is an `Undecodable`).
    """

    message: AnyMessage
    reason: str
    sender: Address | None = None
    cause: BaseException | None = None
    attempt: int = 1

    level = "warning"
    text = "dead letter"

    def fields(self) -> dict[str, Any]:
        return {
            "reason": self.reason,
            "type": type(self.message).__qualname__,
            "sender": None if self.sender is None else str(self.sender),
            "cause": describe(self.cause),
        }


def log_dead_letters(not_shown: int, system: str) -> None:
    """Write how many dead letters the log has held back."""
    _logger().warning("dead letters", not_shown=not_shown, system=system)


class Throttle:
    """At most `limit` a `period` of seconds; counts what it holds back. Pure: `now` is passed in."""

    def __init__(self, limit: int = 10, period: float = 1.0) -> None:
        self.limit = limit
        self.period = period
        self._since = float("-inf")
        self._allowed = 0
        self._held_back = 0

    def allows(self, now: float) -> bool:
        """Whether one more may pass at `now`."""
        if now - self._since >= self.period:
            self._since, self._allowed = now, 0
        self._allowed += 1
        if self._allowed <= self.limit:
            return True
        self._held_back += 1
        return False

    def held_back(self) -> int:
        """How many were held back since the last call."""
        held_back, self._held_back = self._held_back, 0
        return held_back


def describe(error: BaseException | None) -> str | None:
    """One line for a log: the class and the text of an error."""
    if error is None:
        return None
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
