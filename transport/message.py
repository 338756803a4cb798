"""`Message[R]`: what actors say to each other, and the names by which it is known on the wire."""

from __future__ import annotations

import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, dataclass_transform, get_args, get_origin

import msgspec

from transport.errors import UnknownMessage

R_co = TypeVar("R_co", covariant=True)
_names: Final[dict[str, type[Message[Any]]]] = {}


def _module(cls: type) -> str:
    """The module of `cls`; a script is named as it would be when imported, so that both agree on the wire."""
    if cls.__module__ != "__main__":
        return cls.__module__
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:
        return str(spec.name).removesuffix(".__main__")
    return PurePath(getattr(main, "__file__", "__main__")).stem


def _reply_type(cls: Any) -> Any:
    """The reply type as it stands in the class statement, with the base's type parameters filled in."""
    for base in getattr(cls, "__orig_bases__", ()):
        origin = get_origin(base)
        if isinstance(origin, MessageMeta):
            reply, given = origin.__reply_type__, dict(zip(origin.__parameters__, get_args(base), strict=False))
            if isinstance(reply, TypeVar):
                return given.get(reply, reply)
            parameters = getattr(reply, "__parameters__", ())  # list[T] of Page[T]: list[str] of Page[str]
            return reply[tuple(given.get(each, each) for each in parameters)] if parameters else reply
    return next((b.__reply_type__ for b in cls.__bases__ if isinstance(b, MessageMeta)), R_co)


class MessageMeta(msgspec.StructMeta):
    """Makes each message class frozen, remembers its reply type and registers its wire name."""

    __wire_name__: str
    __reply_type__: Any
    __parameters__: tuple[Any, ...]  # set by Generic

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *,
        wire_name: str | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        options.setdefault("frozen", True)
        cls: Any = super().__new__(mcls, name, bases, namespace, **options)
        cls.__wire_name__ = wire_name or f"{_module(cls)}.{cls.__qualname__}"
        cls.__reply_type__ = _reply_type(cls)
        known = _names.setdefault(cls.__wire_name__, cls)
        if known is not cls:
            # The same definition run again (a reload, a notebook cell, a function's local class) takes its own place.
            if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise TypeError(
                    f"{cls.__module__}.{cls.__qualname__}: the wire name {cls.__wire_name__!r} belongs to "
                    f"{known.__module__}.{known.__qualname__}; choose another: class {name}(..., wire_name=...)"
                )
            _names[cls.__wire_name__] = cls
        return cls


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Message(msgspec.Struct, Generic[R_co], metaclass=MessageMeta, frozen=True):
    """The base of every message; the type parameter is the type of the reply.

    A subclass is a frozen `msgspec.Struct`: ``class Greet(Message[str]): who: str``. Only such classes
    are sent and only they decode from bytes. Its wire name is ``module.QualName``, or the `wire_name`
    given in the class statement, which lets a class move without breaking old senders.

    Raises `TypeError` at the class statement where the wire name belongs to another class.
    """

    if TYPE_CHECKING:

        def __init_subclass__(cls, *, wire_name: str | None = None, **options: Any) -> None: ...


def message_type(wire_name: str) -> type[Message[Any]]:
    """The class registered under `wire_name`. Raises `UnknownMessage`; imports nothing."""
    try:
        return _names[wire_name]
    except KeyError:
        raise UnknownMessage(wire_name) from None


def wire_name(kind: type[Message[Any]]) -> str:
    """The name under which `kind` travels."""
    return kind.__wire_name__


def reply_type(kind: type[Message[Any]]) -> Any:
    """The type parameter R of a message class, `Any` where it has none."""
    return Any if isinstance(kind.__reply_type__, TypeVar) else kind.__reply_type__
