"""What can go wrong on the way to a mailbox: one class per thing the caller may do next."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from transport.envelope import Envelope


# A password may hold anything but a blank; what is a port (digits, then the path or the end) is none.
_PASSWORD: Final = re.compile(r"(?<=://)([^\s:/?#@]*):(?!\d+(?:[/?#]|$))\S*@")
_SECRET: Final = re.compile(r"(?i)([?&](?:password|passwd|secret|token|api_?key)=)[^\s&#]+")


def text_of(error: BaseException) -> str:
    """The error's own text; its class must not be trusted to have one."""
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  # a failing __str__ is not the runtime's failure
        return f"<no text: its __str__ raised {type(broken).__name__}>"


def mask(text: str) -> str:
    """`text` without the passwords of the URLs in it."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text)) if "://" in text else text


def shown(name: str) -> str:
    """A name that came from outside, fit for the text of an error: escaped, and not too long."""
    text = repr(str(name))
    return text if len(text) <= 60 else f"{text[:60]}..."


_classes: dict[str, type[ActorsError]] = {}


class ActorsError(Exception):
    """The base of every error this runtime raises on purpose, and the only ones that travel between processes."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _classes[name_of(cls)] = cls

    def facts(self) -> dict[str, Any]:
        """The attributes that travel with it, besides `args`."""
        return {name: value for name, value in vars(self).items() if name != "envelope"}


def name_of(kind: type[ActorsError]) -> str:
    """The name under which an error travels."""
    return f"{kind.__module__}.{kind.__qualname__}"


def error_class(name: str) -> type[ActorsError] | None:
    """The class that `name_of` gives this name, if this process has imported it."""
    return _classes.get(name)


class DeliveryError(ActorsError):
    """The handler never ran, so sending again is safe. `envelope` is what was not delivered."""

    envelope: Envelope | None = None

    def __init__(self, detail: str, envelope: Envelope | None = None) -> None:
        super().__init__(detail)
        self.envelope = envelope


class ActorNotFound(DeliveryError):
    """No actor lives at the address: check it, or spawn the actor."""


class ActorStopped(DeliveryError):
    """The actor has stopped, or is stopping and takes no new mail."""


class MailboxFull(DeliveryError):
    """The mailbox holds `depth` messages and takes no more: slow down, then send again."""

    def __init__(self, detail: str, envelope: Envelope | None = None, *, depth: int) -> None:
        super().__init__(detail, envelope)
        self.depth = depth


class RateLimited(DeliveryError):
    """A rate limit refused the message: send again after `retry_after` seconds."""

    def __init__(self, detail: str, envelope: Envelope | None = None, *, retry_after: float) -> None:
        super().__init__(detail, envelope)
        self.retry_after = retry_after


class MessageTooLarge(DeliveryError):
    """The encoded message is over the transport's limit: send less, or a reference to it."""


class DeliveryUnknown(DeliveryError):
    """The transport could not say whether it accepted the message: at most one copy will be delivered."""


class AddressInUse(ActorsError):
    """Somebody lives at this address already: choose another name, or stop that actor first."""


class CodecError(ActorsError):
    """Bytes that do not decode, or a message that does not encode."""


class UnknownMessage(CodecError):
    """`name` is the wire name of no message class that this process has imported."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown message type {shown(name)}: import the module that defines it")
        self.name = name


class DecodeError(CodecError):
    """The bytes are not a valid message of their type."""


class TransportClosed(ActorsError):
    """This side closed the transport; nothing more can be sent through it."""


class TransportLost(ActorsError):
    """The transport went away; the cause is chained. `lasting`: no waiting mends it."""

    lasting = False
