"""Generated protobuf messages as actor messages: everything that a `Message` can do, they can."""

# No `from __future__ import annotations`: the checks at the class statement read annotations of local classes.

import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2, message_factory, timestamp_pb2, wrappers_pb2
from google.protobuf.message import Message as Generated

from actors import (
    Actor,
    Address,
    DeadLetter,
    HandlerFailed,
    Message,
    Outcome,
    Refusal,
    Terminated,
    handles,
)
from actors.config import load
from actors.node import TRANSPORTS
from actors.pool import consistent_hash
from actors.testing import Probe, StrictSystem
from actors.toml import ConfigError
from tests.protobuf.legacy_pb2 import Customer
from tests.protobuf.orders_pb2 import Cancel, Line, Order, Speed, Tree
from transport.message import ProtobufMessage, message_type

ROOT = Path(__file__).parents[2]


class Shop(Actor):
    """Takes orders, and some of them at the second attempt."""

    def __init__(self, seen: list[Any] | None = None) -> None:
        self.seen = [] if seen is None else seen

    @handles(Order, attempts=2)
    async def order(self, message: Order) -> Line:
        self.seen.append((message.number, self.envelope.attempt))
        if message.customer == "clumsy" and self.envelope.attempt == 1:
            raise RuntimeError("dropped it")
        if message.customer == "unwelcome":
            raise Refusal("not here")
        return message.lines[0]

    @handles(Cancel)
    def cancelled(self, message: Cancel) -> int:
        return message.number


class Night(Actor):
    """Puts orders aside until one is cancelled; a tree grows by timers."""

    def __init__(self) -> None:
        self.open = False
        self.seen: list[Any] = []

    @handles(Order)
    async def order(self, message: Order) -> int:
        if not self.open:
            self.stash()
        return message.number

    @handles(Cancel)
    async def opens(self, message: Cancel) -> None:
        self.open = True
        self.unstash()

    @handles(Tree)
    async def tree(self, message: Tree) -> list[int]:
        match message.value:
            case 1:
                self.after(60.0, Line(count=1))
                self.after(30.0, Line(count=2))  # the key is the type: it takes the first one's place
                self.every(50.0, Customer(name="tick"))
            case 2:
                self.cancel(Customer)
        return self.seen

    @handles(Line)
    async def line(self, message: Line) -> None:
        self.seen.append(message.count)

    @handles(Customer)
    async def customer(self, message: Customer) -> None:
        self.seen.append(message.name)


@pytest.fixture
async def system(anyio_backend: Any) -> AsyncIterator[StrictSystem]:
    async with StrictSystem() as system:
        yield system


@pytest.mark.anyio
async def test_it_is_told_and_asked_like_any_message(system: StrictSystem) -> None:
    seen: list[tuple[int, int]] = []
    shop = await system.spawn(Shop, seen)
    order = Order(number=7, lines=[Line(product="ink")])
    await shop.tell(order)
    receipt = await shop.tell(Order(number=8, lines=[Line()]), receipt=True)
    assert await receipt.wait(1.0) == Outcome("handled")
    assert await shop.ask(order) == Line(product="ink")
    assert await shop.ask(Cancel(number=3)) == 3, "a plain def, run at once"
    assert await system.ask_all([shop], Cancel(number=4)) == {shop.address: 4}
    assert [number for number, _ in seen] == [7, 8, 7]


@pytest.mark.anyio
async def test_within_a_process_it_is_the_same_object(system: StrictSystem) -> None:
    probe = Probe(system)
    order = Order(number=7)
    await probe.ref.tell(order)
    assert await probe.expect(Order) is order


@pytest.mark.anyio
async def test_a_handler_refuses_fails_and_tries_again(system: StrictSystem) -> None:
    seen: list[tuple[int, int]] = []
    shop = await system.spawn(Shop, seen)
    with pytest.raises(Refusal, match="not here"):
        await shop.ask(Order(customer="unwelcome"))
    assert await shop.ask(Order(number=5, customer="clumsy", lines=[Line(count=1)])) == Line(count=1)
    assert seen[-2:] == [(5, 1), (5, 2)]
    with pytest.raises(HandlerFailed, match="IndexError"):
        await shop.ask(Order())
    await system.expect_dead_letter(Order, reason="failed")


@pytest.mark.anyio
async def test_it_is_stashed_and_comes_back(system: StrictSystem) -> None:
    night = await system.spawn(Night)
    receipts = [await night.tell(Order(number=number), receipt=True) for number in range(3)]
    await night.ask(Tree())
    assert not any(receipt.done() for receipt in receipts)
    await night.ask(Cancel())
    for receipt in receipts:
        assert await receipt.wait(1.0) == Outcome("handled")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["virtual"], indirect=True)
async def test_the_key_of_a_timer_is_its_type(system: StrictSystem) -> None:
    night = await system.spawn(Night)
    await night.ask(Tree(value=1))
    await anyio.sleep(45.0)
    assert await night.ask(Tree()) == [2]
    await anyio.sleep(60.0)
    assert await night.ask(Tree(value=2)) == [2, "tick", "tick"]
    await anyio.sleep(600.0)
    assert await night.ask(Tree()) == [2, "tick", "tick"]


@pytest.mark.anyio
async def test_what_nobody_handles_is_a_dead_letter_without_its_content(
    system: StrictSystem,
    _quiet_log: list[dict[str, Any]],  # noqa: PT019  # its value is what is looked at
) -> None:
    shop = await system.spawn(Shop)
    await shop.tell(Customer(name="secret"))
    letter: DeadLetter = await system.expect_dead_letter(Customer, reason="unhandled")
    assert str(letter.cause) == "Shop at /shop-1 does not handle Customer; it handles Cancel, Order"
    logged = [line for line in _quiet_log if line["event"] == "dead letter"]
    assert len(logged) == 1
    assert "Customer" in str(logged)
    assert "secret" not in str(logged)


@pytest.mark.anyio
async def test_a_probe_takes_it_answers_it_and_says_what_came_instead(system: StrictSystem) -> None:
    probe = Probe(system, "probe")
    shop = await system.spawn(Shop)
    await probe.tell(shop, Order(lines=[Line()]))
    await probe.ref.tell(Line(product="ink", count=2))
    with pytest.raises(AssertionError) as failure:
        await probe.expect(Order)
    assert str(failure.value) == '/probe expected Order; what arrived is Line(product: "ink" count: 2)'
    await probe.ref.tell(Cancel(number=1))
    assert (await probe.expect(Generated)) == Cancel(number=1)


@pytest.mark.anyio
async def test_a_dead_letter_of_any_kind_is_expected_and_allowed_and_reported() -> None:
    with pytest.raises(AssertionError, match=r"\n  Customer\(name: \"Ada\"\) to /shop-1: unhandled, DeliveryError"):
        async with StrictSystem() as system:
            shop = await system.spawn(Shop)
            await shop.tell(Customer(name="Ada"))
    async with StrictSystem() as system:
        shop = await system.spawn(Shop)
        await shop.tell(Customer(name="Ada"))
        assert (await system.expect_dead_letter()).message == Customer(name="Ada")
        system.allow_dead_letters(reason="unhandled")
        await shop.tell(Customer(name="Bob"))


@pytest.mark.anyio
async def test_a_pool_goes_by_its_fields(system: StrictSystem) -> None:
    class Worker(Actor):
        @handles(Order)
        async def order(self, message: Order) -> Address:
            return self.ref.address

    pool = await system.pool(Worker, size=3, routing=consistent_hash(attrgetter("number")))
    first = [await pool.ask(Order(number=number)) for number in range(20)]
    assert [await pool.ask(Order(number=number, customer="Ada")) for number in range(20)] == first
    assert len(set(first)) == 3


@pytest.mark.anyio
async def test_several_are_handled_at_once(system: StrictSystem) -> None:
    class Both(Actor):
        @handles(Order, concurrency=2)
        async def order(self, message: Order) -> int:
            arrived.append(message)
            if len(arrived) == 2:
                both_here.set()
            await both_here.wait()
            return message.number

    arrived: list[Order] = []
    both_here = anyio.Event()
    both = await system.spawn(Both)
    receipt = await both.tell(Order(number=1), receipt=True)
    assert await both.ask(Order(number=2)) == 2
    assert await receipt.wait(1.0) == Outcome("handled")


@pytest.mark.anyio
async def test_the_annotation_of_a_handler_may_be_a_base_or_a_protocol(system: StrictSystem) -> None:
    class Numbered(Protocol):
        @property
        def number(self) -> int: ...

    class Broad(Actor):
        @handles(Order)
        async def order(self, message: Generated) -> str:
            return message.DESCRIPTOR.full_name

        @handles(Cancel)
        async def cancelled(self, message: Numbered) -> int:
            return message.number

        @handles(Line)
        async def line(self, message: ProtobufMessage) -> None: ...

        @handles(timestamp_pb2.Timestamp)
        async def at(self, message: timestamp_pb2.Timestamp) -> float:
            return message.ToDatetime().timestamp()

    broad = await system.spawn(Broad)
    assert await broad.ask(Order()) == "tests.orders.Order"
    assert await broad.ask(Cancel(number=3)) == 3
    assert await broad.ask(Line()) is None


# When the class is made ---------------------------------------------------------------------------------------


def test_a_handler_registers_what_it_handles() -> None:
    class Clerk(Actor):
        @handles(empty_pb2.Empty)
        async def nothing(self, message: empty_pb2.Empty) -> None: ...

    assert message_type("google.protobuf.Empty") is empty_pb2.Empty


@dataclass
class Plain:
    number: int


class Imitation:
    """Has the methods, as other packages for protobuf do, but not the description."""

    def SerializeToString(self) -> bytes:
        return b""

    @classmethod
    def FromString(cls, data: bytes) -> "Imitation":
        return cls()


class Described(Plain):
    """Has a description, and nothing that encodes it."""

    DESCRIPTOR = Order.DESCRIPTOR


@pytest.mark.parametrize("kind", [Plain, Imitation, Described, Generated, Speed, Order(), Order.DESCRIPTOR, "Order"])
def test_nothing_is_taken_for_a_generated_class_that_is_none(kind: Any) -> None:
    with pytest.raises(TypeError, match="not a message type; derive it from Message"):
        handles(kind)


def test_a_handler_of_another_type_is_an_error() -> None:
    with pytest.raises(TypeError, match="order handles Order but its message is annotated Cancel"):

        class Bad(Actor):
            @handles(Order)  # type: ignore[arg-type]
            async def order(self, message: Cancel) -> None: ...


def test_two_handlers_for_one_type_are_an_error() -> None:
    with pytest.raises(TypeError, match="both first and second handle Order"):

        class Bad(Actor):
            @handles(Order)
            async def first(self, message: Order) -> None: ...

            @handles(Order)
            async def second(self, message: Order) -> None: ...


def test_a_wire_name_that_is_taken_is_an_error_at_the_handler() -> None:
    class Mine(Message[None], wire_name="google.protobuf.BoolValue"): ...

    with pytest.raises(TypeError, match=r"BoolValue: the wire name 'google.protobuf.BoolValue' belongs to .*Mine"):
        handles(wrappers_pb2.BoolValue)
    assert message_type("google.protobuf.BoolValue") is Mine


def test_two_generated_classes_of_one_name_are_an_error() -> None:
    """As of two files that declare it, each in a pool of descriptors of its own."""
    handles(Order)
    file = descriptor_pb2.FileDescriptorProto(name="other.proto", package="tests.orders", syntax="proto3")
    file.message_type.add(name="Order")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    other: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("tests.orders.Order"))
    with pytest.raises(
        TypeError, match=r"the wire name 'tests.orders.Order' belongs to tests.protobuf.orders_pb2.Order"
    ):
        handles(other)


# A node -------------------------------------------------------------------------------------------------------


class Till(Actor):
    @handles(Order)
    async def order(self, message: Order) -> None: ...

    @handles(Cancel)
    async def cancelled(self, message: Cancel) -> None: ...

    @handles(Terminated)
    async def ended(self, message: Terminated) -> None: ...


POOL = """
[[children]]
name = "tills"
actor = "tests.actors.test_protobuf:Till"
size = 2
routing = "consistent_hash"
key = "{key}"
"""


def test_the_key_of_a_pool_in_a_node_s_file_is_a_field_of_the_messages(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(POOL.format(key="number"))
    assert load(file, TRANSPORTS).children[0].address == Address("/tills")
    file.write_text(POOL.format(key="nunber"))
    with pytest.raises(ConfigError, match="which Till handles, has no field 'nunber'; did you mean 'number'"):
        load(file, TRANSPORTS)


# Without protobuf ---------------------------------------------------------------------------------------------


def test_nobody_imports_protobuf_but_its_codec() -> None:
    program = """
        import sys
        import actors, actors.config, actors.node, actors.pool, actors.testing, transport.wire
        from actors import Actor, Message, handles, run, ActorSystem
        class Greet(Message[str]): pass
        class Greeter(Actor):
            @handles(Greet)
            async def greet(self, message: Greet) -> str:
                return "hello"
        async def main():
            async with ActorSystem("demo") as system:
                return await (await system.spawn(Greeter)).ask(Greet())
        assert run(main) == "hello"
        assert not [name for name in sys.modules if name.startswith("google")]
        import transport.protobuf
        assert "google.protobuf.message" in sys.modules
    """
    lines = [line[8:] for line in program.splitlines()]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
