"""What carries messages: addresses, envelopes, mailboxes, codecs, transports. It knows no actors."""

from transport.address import Address
from transport.base import Inlet, Transport
from transport.envelope import Envelope, Outcome, Priority
from transport.mailbox import Overflow, PriorityMailbox
from transport.memory import MemoryTransport
from transport.message import Message
from transport.middleware import Middleware

__all__ = [
    "Address",
    "Envelope",
    "Inlet",
    "MemoryTransport",
    "Message",
    "Middleware",
    "Outcome",
    "Overflow",
    "Priority",
    "PriorityMailbox",
    "Transport",
]
