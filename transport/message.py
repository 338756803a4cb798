"""`Message[R]`: what actors say to each other, and the names by which it is known on the wire."""

from __future__ import annotations

import sys
from pathlib import PurePath
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Protocol,
    TypeAlias,
    TypeGuard,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
)

import msgspec

from transport.errors import CodecError, UnknownMessage

R_co = TypeVar("R_co", covariant=True)
_names: Final[dict[str, type[AnyMessage]]] = {}


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

    __wire_name__: str | None  # None: it stays within its process
    __reply_type__: Any
    __parameters__: tuple[Any, ...]  # set by Generic

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *,
        wire_name: str | None = None, local: bool = False, **options: Any,
    ) -> Any:  # fmt: skip
        options.setdefault("frozen", True)
        cls: Any = super().__new__(mcls, name, bases, namespace, **options)
        cls.__reply_type__ = _reply_type(cls)
        # A handler takes subclasses too, so what is below a local class could stand in for it.
        if local or any(isinstance(base, MessageMeta) and base.__wire_name__ is None for base in bases):
            if wire_name is not None:
                raise TypeError(f"{cls.__qualname__}: wire_name={wire_name!r} of a message that stays in its process")
            cls.__wire_name__ = None
            return cls
        cls.__wire_name__ = wire_name or f"{_module(cls)}.{cls.__qualname__}"
        known = _names.setdefault(cls.__wire_name__, cls)
        if known is not cls:
            # The same definition run again (a reload, a notebook cell, a function's local class) takes its own place.
            if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise _taken(cls, cls.__wire_name__, f"choose another: class {name}(..., wire_name=...)")
            _names[cls.__wire_name__] = cls
        return cls


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Message(msgspec.Struct, Generic[R_co], metaclass=MessageMeta, frozen=True):
    """The base of every message; the type parameter is the type of the reply.

    A subclass is a frozen `msgspec.Struct`: ``class Greet(Message[str]): who: str``. Only such classes, and
    those that protoc generates (`ProtobufMessage`), are sent and decode from bytes. Its wire name is
    ``module.QualName``, or the `wire_name` given in the class statement, which lets a class move without
    breaking old senders. ``local=True`` keeps it and what is derived from it within their process: no bytes
    make one.

    Raises `TypeError` at the class statement where the wire name belongs to another class.
    """

    if TYPE_CHECKING:

        def __init_subclass__(cls, *, wire_name: str | None = None, local: bool = False, **options: Any) -> None: ...


class ProtobufMessage(Protocol):
    """A message of a class that protoc generated; by its shape, as protobuf is an optional extra.

    It is sent as it is: ``@handles(orders_pb2.Order)``, ``await ref.tell(orders_pb2.Order(number=7))``. Its
    reply may be anything (`Any`), its wire name is its full name in the .proto file. Unlike a `Message` it
    is mutable, and within a process it is not copied: neither who sends one nor who gets it may change it.
    """

    @property
    def DESCRIPTOR(self) -> Any: ...  # noqa: N802  # protobuf's names

    def SerializeToString(self) -> bytes: ...  # noqa: N802

    @classmethod
    def FromString(cls, data: bytes, /) -> Any: ...  # noqa: N802


AnyMessage: TypeAlias = Message[Any] | ProtobufMessage
"""What actors say to each other."""


def is_protobuf(kind: Any) -> TypeGuard[type[ProtobufMessage]]:
    """Whether `kind` is a class that protoc generated; the base of them all has no descriptor, and is none."""
    return (
        isinstance(kind, type)
        and isinstance(getattr(_descriptor(kind), "full_name", None), str)
        and callable(getattr(kind, "SerializeToString", None))
        and callable(getattr(kind, "FromString", None))
    )


def _descriptor(kind: type) -> Any:
    return getattr(kind, "DESCRIPTOR", None)


def register(kind: type[ProtobufMessage]) -> None:
    """Let messages of a protobuf class come from the wire, as a class statement does for a `Message`.

    ``@handles(kind)`` does it too, so this is for a process that receives them in no handler of their own
    type. A process that only sends them needs neither. Raises `TypeError` where `kind` is none, or where
    its wire name belongs to another class.
    """
    if not is_protobuf(kind):
        raise TypeError(f"register({kind!r}): not a generated protobuf class; a Message registers itself")
    name = wire_name(kind)
    if _names.setdefault(name, kind) is not kind:
        raise _taken(kind, name, "it is the full name in the .proto file: change its package")


def _taken(kind: type, name: str, advice: str) -> TypeError:
    known = _names[name]
    return TypeError(
        f"{kind.__module__}.{kind.__qualname__}: the wire name {name!r} belongs to "
        f"{known.__module__}.{known.__qualname__}; {advice}"
    )


def message_type(wire_name: str) -> type[AnyMessage]:
    """The class registered under `wire_name`. Raises `UnknownMessage`; imports nothing."""
    try:
        return _names[wire_name]
    except KeyError:
        raise UnknownMessage(wire_name) from None


def wire_name(kind: type) -> str:
    """The name under which `kind` travels. Raises `CodecError` where it does not."""
    if isinstance(kind, MessageMeta):
        if kind.__wire_name__ is None:
            raise CodecError(f"{kind.__qualname__} stays within its process (local=True)")
        return kind.__wire_name__
    if is_protobuf(kind):
        return str(_descriptor(kind).full_name)
    raise CodecError(f"{getattr(kind, '__qualname__', kind)} is not a message type: only these have a wire name")


def reply_type(kind: type[AnyMessage]) -> Any:
    """The type parameter R of a message class, `Any` where it has none."""
    reply = kind.__reply_type__ if isinstance(kind, MessageMeta) else Any
    return Any if isinstance(reply, TypeVar) else reply


def field_names(kind: type[AnyMessage]) -> tuple[str, ...]:
    """The names of the fields of a message class."""
    if isinstance(kind, MessageMeta):
        return kind.__struct_fields__
    return tuple(_descriptor(kind).fields_by_name)
