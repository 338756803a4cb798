"""The grammar of addresses, and moving about in them."""

from __future__ import annotations

import copy
import pickle
import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transport.address import MAX_LENGTH, ROOT, Address

ALLOWED = string.ascii_letters + string.digits + "_.~@:+=-"
names = st.text(ALLOWED, min_size=1, max_size=20)
paths = st.lists(names, min_size=1, max_size=8)

INJECTIONS = [
    "", "a", "a/b", "//", "/a/", "/a//b", " /a", "/a ", "/a b", "/a\tb", "/a\n", "/a\r\n", "/a\0", "/a\x1b[31m",
    "/a\x7f", "/{a}", "/a}b", "/{user}.actors", "/a[0]", "/a*", "/a?", "/a,b", "/a;b", "/a|b", "/a$b", "/a%00", "/a%2F",
    "/a\\b", "/a'b", '/a"b', "/a<b>", "/a(b)", "/a!", "/a#b", "/a&b", "/a^b", "/a`b`",
    "/\xe9", "/\u0430", "/\u0131", "/\u0663", "/\uff41", "/a\u0301", "/a\u200b", "/a\u202eb", "/a\u2028", "/a\ud800",
    "/\U0001f600", "\ufeff/a", "\uff0fa", "/a/\u2215b",
]  # fmt: skip


@pytest.mark.parametrize("path", INJECTIONS, ids=ascii)
def test_what_could_inject_a_key_or_hide_in_a_log_is_no_address(path: str) -> None:
    with pytest.raises(ValueError, match=r"not an address"):
        Address(path)
    if path.strip("/") not in ("", "a", "a/b"):
        with pytest.raises(ValueError, match="not a name"):
            ROOT.child(path.removeprefix("/"))


@given(st.text())
@example("/a\n")
@example("/")
def test_any_text_is_an_address_by_the_rule_or_a_value_error(text: str) -> None:
    by_the_rule = text == "/" or (
        text.startswith("/") and all(name and set(name) <= set(ALLOWED) for name in text[1:].split("/"))
    )
    if by_the_rule and len(text) <= MAX_LENGTH:
        assert Address(text) == text
    else:
        with pytest.raises(ValueError, match="address"):
            Address(text)


@given(paths)
def test_a_path_is_built_and_taken_apart_again(path: list[str]) -> None:
    address = ROOT
    for depth, name in enumerate(path):
        below = address.child(name)
        assert (below.name, below.parent) == (name, address)
        assert below == "/" + "/".join(path[: depth + 1]) == Address(below)
        assert type(below) is type(below.parent) is Address
        assert below.within(address)
        assert not address.within(below)
        address = below


few = st.lists(st.sampled_from(["a", "ab", "b"]), min_size=1, max_size=4)


@given(few, few)
def test_within_means_the_same_or_below(one: list[str], other: list[str]) -> None:
    a, b = Address("/" + "/".join(one)), Address("/" + "/".join(other))
    assert a.within(b) == (one[: len(other)] == other)
    assert a.within(ROOT)


def test_a_name_that_begins_alike_is_not_within() -> None:
    assert not Address("/ab").within(Address("/a"))
    assert not Address("/a/bc").within(Address("/a/b"))


def test_the_root_is_its_own_parent_and_has_no_name() -> None:
    assert (ROOT.parent, ROOT.name, ROOT.within(ROOT)) == (ROOT, "", True)


@pytest.mark.parametrize("length", [MAX_LENGTH, MAX_LENGTH + 1])
def test_two_hundred_characters_are_the_limit(length: int) -> None:
    path = "/" + "a" * (length - 1)
    if length <= MAX_LENGTH:
        assert Address(path) == ROOT.child(path[1:]) == path
    else:
        with pytest.raises(ValueError, match="address of 201 characters, the limit is 200"):
            Address(path)
        with pytest.raises(ValueError, match="has 201 characters, the limit is 200"):
            ROOT.child(path[1:])


def test_an_error_does_not_repeat_a_megabyte() -> None:
    for text in ("x" * 1_000_000, "/{" * 500_000, "/a" * 500_000):
        with pytest.raises(ValueError, match="limit is 200") as caught:
            Address(text)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("wrong", [None, 7, b"/a", ["/a"]])
def test_only_text_is_an_address(wrong: object) -> None:
    with pytest.raises(TypeError):
        Address(wrong)  # type: ignore[arg-type]


def test_it_is_a_str_to_all_who_want_one() -> None:
    address = Address("/a/b")
    assert Address(address) is address
    assert {address: 1}["/a/b"] == 1  # type: ignore[index]  # equal and of equal hash
    assert repr(address) == "Address('/a/b')"
    assert type(str(address)) is str
    assert f"{address}" == "/a/b"
    assert re.fullmatch("(/[ab])+", address)


def test_a_copy_is_an_address() -> None:
    for again in (copy.deepcopy(ROOT.child("a")), pickle.loads(pickle.dumps(ROOT.child("a")))):
        assert (type(again), again) == (Address, "/a")
