"""Supervised actors: typed mailboxes, a supervisor tree, one fate per message."""

from actors.actor import Actor, Terminated, handles
from actors.errors import AskCycle, AskTimeout, HandlerFailed, Refusal, RestartIntensityExceeded, SpawnError
from actors.events import DeadLetter
from actors.ref import ActorRef, Receipt
from actors.supervision import Backoff, Placement, Restart, Strategy
from actors.supervisor import ChildSpec, Supervisor
from actors.system import ActorSystem, run
from transport.address import Address
from transport.envelope import Envelope, Outcome, Priority
from transport.errors import (
    ActorNotFound,
    ActorsError,
    ActorStopped,
    AddressInUse,
    CodecError,
    DecodeError,
    DeliveryError,
    DeliveryUnknown,
    MailboxFull,
    MessageTooLarge,
    RateLimited,
    TransportClosed,
    TransportLost,
    UnknownMessage,
)
from transport.mailbox import Overflow
from transport.message import Message
from transport.middleware import Middleware

__all__ = [
    "Actor",
    "ActorNotFound",
    "ActorRef",
    "ActorStopped",
    "ActorSystem",
    "ActorsError",
    "Address",
    "AddressInUse",
    "AskCycle",
    "AskTimeout",
    "Backoff",
    "ChildSpec",
    "CodecError",
    "DeadLetter",
    "DecodeError",
    "DeliveryError",
    "DeliveryUnknown",
    "Envelope",
    "HandlerFailed",
    "MailboxFull",
    "Message",
    "MessageTooLarge",
    "Middleware",
    "Outcome",
    "Overflow",
    "Placement",
    "Priority",
    "RateLimited",
    "Receipt",
    "Refusal",
    "Restart",
    "RestartIntensityExceeded",
    "SpawnError",
    "Strategy",
    "Supervisor",
    "Terminated",
    "TransportClosed",
    "TransportLost",
    "UnknownMessage",
    "handles",
    "run",
]
