"""What can go wrong between actors: one class per thing the caller may do next."""

from __future__ import annotations

import traceback as _traceback
from typing import Any

from transport.errors import ActorsError, text_of


class AskTimeout(ActorsError, TimeoutError):
    """No answer within the time given; the outcome is unknown, so ask again only if that is harmless."""


class AskCycle(ActorsError):
    """The ask would wait for an actor that waits for the asker; the message says who waits for whom."""


class HandlerFailed(ActorsError):
    """The handler ran and raised. In one process the exception is chained as `__cause__`.

    `kind` is the exception's class name, `detail` its text, `traceback` the formatted traceback.
    """

    def __init__(self, kind: str, detail: str, traceback: str | None = None) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.detail = detail
        self._traceback = traceback

    @classmethod
    def because(cls, error: BaseException) -> HandlerFailed:
        """What the asker gets when a handler raised `error`."""
        failed = cls(type(error).__name__, text_of(error))
        failed.__cause__ = error
        return failed

    def facts(self) -> dict[str, Any]:
        return {"kind": self.kind, "detail": self.detail, "_traceback": self.traceback}

    @property
    def traceback(self) -> str:
        """Formatted when it is read: formatting costs more than the ask."""
        if self._traceback is None:
            self._traceback = "".join(_traceback.format_exception(self.__cause__)) if self.__cause__ else ""
        return self._traceback


class Refusal(ActorsError):
    """The base of your own answers "no": an answer and not a failure.

    Raised by a handler it reaches the asker as itself, and the actor goes on with its next message.
    """


class SpawnError(ActorsError):
    """The actor's `__init__` or `on_start` raised; the cause is chained."""


class RestartIntensityExceeded(ActorsError):
    """A supervisor's children failed more often than its `intensity` allows within its `period`."""
