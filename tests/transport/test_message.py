"""Messages: frozen, with a reply type, known by one wire name each."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any, Generic, Optional, TypeVar

import msgspec
import pytest

from tests.protobuf.orders_pb2 import Cancel, Order
from transport.errors import CodecError, UnknownMessage
from transport.message import (
    Message,
    MessageMeta,
    field_names,
    is_protobuf,
    message_type,
    register,
    reply_type,
    wire_name,
)

T = TypeVar("T")
K = TypeVar("K")
ROOT = Path(__file__).parents[2]


class Greet(Message[str]):
    who: str = "you"


class Politely(Greet):
    title: str = "Dr"


class Page(Message[list[T]], Generic[T]):
    number: int = 0


class Names(Page[str]):
    pass


class MoreNames(Names):
    pass


class Echo(Message[T]):
    pass


class EchoNumber(Echo[int]):
    pass


class Table(Message[dict[K, list[T]]], Generic[T, K]):
    pass


class Ages(Table[int, str]):
    pass


class Half(Table[int, K], Generic[K]):
    pass


class Whole(Half[str]):
    pass


class Untyped(Message):  # type: ignore[type-arg]  # which is what is tested
    pass


class Base(msgspec.Struct, frozen=True):
    shared: int = 0


class Mixed(Base, Message[bytes]):
    pass


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        (Greet, str),
        (Politely, str),
        (Names, list[str]),
        (MoreNames, list[str]),
        (Echo, Any),
        (EchoNumber, int),
        (Ages, dict[str, list[int]]),
        (Whole, dict[str, list[int]]),
        (Untyped, Any),
        (Mixed, bytes),
        (Message, Any),
    ],
)
def test_the_reply_type_is_the_type_parameter(kind: type[Message[Any]], reply: Any) -> None:
    assert reply_type(kind) == reply


def test_a_message_without_a_reply_has_none() -> None:
    class Forget(Message[None]):
        pass

    class Perhaps(Message[Optional[int]]):  # noqa: UP045  # both spellings
        pass

    class Or(Message[int | None]):
        pass

    assert reply_type(Forget) is type(None)
    assert reply_type(Perhaps) == reply_type(Or) == int | None


def test_a_wire_name_is_the_module_and_the_qualified_name_and_leads_back() -> None:
    class Local(Message[None]):
        pass

    assert wire_name(Greet) == "tests.transport.test_message.Greet"
    assert wire_name(Local) == f"{__name__}.{Local.__qualname__}"
    assert message_type(wire_name(Greet)) is Greet
    assert message_type(wire_name(Local)) is Local


def test_a_chosen_wire_name_lets_a_class_move_and_is_not_inherited() -> None:
    class Moved(Message[None], wire_name="old.place.Moved"):
        pass

    class Below(Moved):
        pass

    assert (wire_name(Moved), message_type("old.place.Moved")) == ("old.place.Moved", Moved)
    assert wire_name(Below).endswith(".Below")
    with pytest.raises(UnknownMessage):
        message_type(f"{Moved.__module__}.{Moved.__qualname__}")


def test_an_unknown_wire_name_says_what_to_do() -> None:
    with pytest.raises(UnknownMessage, match=r"unknown message type 'no\.such\.Thing': import the module") as caught:
        message_type("no.such.Thing")
    assert caught.value.name == "no.such.Thing"


def test_a_wire_name_of_another_class_is_an_error_at_the_class_statement() -> None:
    class First(Message[None], wire_name="tests.message.taken"):
        pass

    with pytest.raises(TypeError, match=r"Second: the wire name 'tests.message.taken' belongs to .*First; choose"):

        class Second(Message[None], wire_name="tests.message.taken"):
            pass

    assert message_type("tests.message.taken") is First


def test_a_class_defined_again_takes_its_own_place() -> None:
    def define() -> type[Message[Any]]:
        class Again(Message[None]):
            pass

        return Again

    first, second = define(), define()
    assert first is not second
    assert message_type(wire_name(first)) is second


def test_renaming_a_class_does_not_free_its_old_wire_name_for_another() -> None:
    class Renamed(Message[None], wire_name="tests.message.renamed"):
        pass

    Renamed.__qualname__ = "Elsewhere"
    with pytest.raises(TypeError, match=r"belongs to .*Elsewhere"):

        class Other(Message[None], wire_name="tests.message.renamed"):
            pass


# Messages that stay within their process ----------------------------------------------------------------------


class Secret(Message[None], local=True):
    pass


class BelowSecret(Secret, Mixed):
    """Would be handled as a `Secret`."""


@pytest.mark.parametrize("kind", [Secret, BelowSecret])
def test_a_local_message_has_no_wire_name_and_no_name_leads_to_it(kind: type[Message[Any]]) -> None:
    with pytest.raises(CodecError, match=rf"^{kind.__name__} stays within its process \(local=True\)$"):
        wire_name(kind)
    with pytest.raises(UnknownMessage):
        message_type(f"{__name__}.{kind.__name__}")


def test_a_wire_name_for_a_local_message_is_an_error_at_the_class_statement() -> None:
    with pytest.raises(TypeError, match=r"Odd: wire_name='tests\.message\.odd' of a message that stays"):

        class Odd(Message[None], local=True, wire_name="tests.message.odd"):
            pass

    with pytest.raises(TypeError, match="OddBelow: wire_name="):

        class OddBelow(Secret, wire_name="tests.message.odd"):
            pass

    with pytest.raises(UnknownMessage):
        message_type("tests.message.odd")


def test_of_the_runtime_s_own_messages_only_two_come_from_the_wire() -> None:
    """Both are for processes; a frame to an actor could fake a death, or an order to stop."""
    program = """
        import pkgutil, importlib, actors, transport
        from transport.message import Message, _names
        for package in (actors, transport):
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                if module.name != "transport.testing":  # the kit for tests of transports
                    importlib.import_module(module.name)
        from transport.answers import Answer, Drain
        assert set(_names.values()) == {Message, Answer, Drain}, _names
    """
    lines = [line[8:] for line in program.splitlines()]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", [int, Base, msgspec.Struct, Exception, type, MessageMeta])
def test_what_is_no_message_type_has_no_wire_name(kind: type) -> None:
    with pytest.raises(CodecError, match=f"^{kind.__qualname__} is not a message type"):
        wire_name(kind)


# Types that protoc generated ----------------------------------------------------------------------------------


def test_a_generated_type_has_its_full_name_and_decodes_once_it_is_registered() -> None:
    assert wire_name(Order.Recipient) == "tests.orders.Order.Recipient"
    with pytest.raises(UnknownMessage):
        message_type("tests.orders.Order.Recipient")
    register(Order.Recipient)
    register(Order.Recipient)
    assert message_type("tests.orders.Order.Recipient") is Order.Recipient
    assert reply_type(Order.Recipient) is Any


@pytest.mark.parametrize("kind", [Greet, int, Order(), None])
def test_only_generated_types_are_registered(kind: Any) -> None:
    with pytest.raises(TypeError, match="not a generated protobuf class"):
        register(kind)


def test_a_class_statement_cannot_take_the_name_of_a_generated_type() -> None:
    register(Cancel)
    with pytest.raises(TypeError, match=r"the wire name 'tests\.orders\.Cancel' belongs to tests.protobuf.orders_pb2."):

        class Mine(Message[None], wire_name="tests.orders.Cancel"):
            pass

    assert message_type("tests.orders.Cancel") is Cancel


def test_the_fields_of_both_have_names() -> None:
    assert field_names(Politely) == ("who", "title")
    assert field_names(Order.Recipient) == ("name", "street")
    assert (is_protobuf(Order), is_protobuf(Greet)) == (True, False)


def test_a_message_is_frozen_and_hashable_and_equal_by_value() -> None:
    greet = Greet("Ada")
    with pytest.raises(AttributeError, match="immutable"):
        greet.who = "Bob"  # type: ignore[misc]
    assert greet == Greet(who="Ada") != Greet("Bob")
    assert len({greet, Greet("Ada"), Greet("Bob")}) == 2


@pytest.mark.parametrize(
    ("command", "name"),
    [(["{file}"], "letters.Hello"), (["-m", "letters"], "letters.Hello"), (["-m", "post"], "post.Hello")],
    ids=["script", "module", "package"],
)
def test_a_program_s_own_messages_are_named_as_if_imported(tmp_path: Path, command: list[str], name: str) -> None:
    program = (
        "from transport.message import Message, wire_name\nclass Hello(Message[None]): pass\nprint(wire_name(Hello))\n"
    )
    (tmp_path / "letters.py").write_text(program)
    (tmp_path / "post").mkdir()
    (tmp_path / "post" / "__main__.py").write_text(program)
    argv = [sys.executable, *(part.format(file=tmp_path / "letters.py") for part in command)]
    done = subprocess.run(
        argv, cwd=tmp_path, env={"PYTHONPATH": f"{ROOT}"}, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == name


def test_at_a_prompt_there_is_no_file_to_name_a_message_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    kind = MessageMeta("Typed", (Message,), {"__module__": "__main__", "__qualname__": "Typed"})
    assert wire_name(kind) == "__main__.Typed"
