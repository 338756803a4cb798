"""Answers: what became of a message, as a message of its own for whoever waits in another process. And `Drain`."""

from __future__ import annotations

from typing import Any

import msgspec

from transport.codec import detail
from transport.envelope import Failed, Fate, Outcome
from transport.errors import ActorsError, CodecError, error_class, name_of
from transport.message import Message, is_protobuf, message_type, reply_type, wire_name
from transport.wire import Wire


class Fault(msgspec.Struct, frozen=True):
    """An error on its way: its classes, the most special first, of which the receiver takes the first that it has."""

    kinds: tuple[str, ...]
    args: list[Any]
    facts: dict[str, Any]


class Answer(Message[None], wire_name="actors.Answer"):
    """The fate of the message whose id is `to`, and for an ask the handler's value or the error.

    The value is encoded by the codec `codec` as what the message's type says its reply is, or as the message type
    `type` where it is a message itself.
    """

    to: str
    fate: Fate = "handled"
    reason: str = ""
    codec: str = ""
    type: str | None = None
    value: bytes = b""
    error: Fault | None = None


class Drain(Message[None], wire_name="actors.Drain"):
    """An operator's wish: the process that gets it hands over and ends."""


def answer(wire: Wire, to: str, kind: type, result: Any, *, is_ask: bool) -> Answer:
    """The answer to the message `to` of class `kind`; `result` is the handler's value, or a `Failed`."""
    if isinstance(result, Failed):
        return Answer(to, result.outcome.fate, result.outcome.reason, error=_fault(result.error))
    if not is_ask:
        return Answer(to)
    is_message = isinstance(result, Message) or is_protobuf(type(result))
    codec = wire.codec(type(result) if is_message else object)
    try:
        name = wire_name(type(result)) if is_message else None
        value = codec.encoder(type(result) if is_message else reply_type(kind))(result)
    except Exception as error:  # noqa: BLE001  # whatever a codec raises
        return Answer(to, error=_fault(_unfit(f"the reply to {kind.__qualname__} does not encode", error)))
    return Answer(to, codec=codec.name, type=name, value=value)


def result_of(wire: Wire, kind: type, answer: Answer) -> Any:
    """What `answer` says to whoever sent a message of class `kind`: the handler's value, or a `Failed`."""
    if answer.error is not None:
        return _failed(_error(answer.error), answer)
    if not answer.codec:
        return None
    try:
        as_type = reply_type(kind) if answer.type is None else message_type(answer.type)
        return wire.decoder(answer.codec, as_type)(answer.value)
    except Exception as error:  # noqa: BLE001  # whatever a codec or a __post_init__ raises
        return _failed(_unfit(f"the reply to {kind.__qualname__} does not decode", error), answer)


def _failed(error: ActorsError, answer: Answer) -> Failed:
    return Failed(error, Outcome(answer.fate, answer.reason, error))


def _unfit(what: str, error: Exception) -> CodecError:
    return CodecError(f"{what}: {error if isinstance(error, CodecError) else detail(error)}")


def _fault(error: BaseException) -> Fault:
    kinds = tuple(name_of(each) for each in type(error).__mro__ if issubclass(each, ActorsError))
    facts = error.facts() if isinstance(error, ActorsError) else {}
    return Fault(kinds, [_plain(each) for each in error.args], {name: _plain(value) for name, value in facts.items()})


def _plain(value: Any) -> Any:
    """What MessagePack can carry of an error's attribute; its text, where that is nothing."""
    try:
        return msgspec.to_builtins(value, enc_hook=str)
    except Exception:  # noqa: BLE001  # whatever a user's class raises
        return f"<{type(value).__name__}>"


def _error(fault: Fault) -> ActorsError:
    """The error without its `__init__`, as a copy of an exception is made."""
    kind = next((kind for name in fault.kinds if (kind := error_class(name)) is not None), ActorsError)
    error = kind.__new__(kind)
    error.args = tuple(fault.args)
    vars(error).update(fault.facts)
    return error
