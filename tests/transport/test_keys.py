"""Keys sign and verify as RFC 4231 has it, and what is wrong with them is said without showing any."""

from __future__ import annotations

import copy
import errno
import gc
import hashlib
import hmac
import json
import pickle
import string
import traceback
from base64 import b64encode, urlsafe_b64encode
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

import transport.keys
from transport.keys import Keys

NEW, OLD, OTHER = (hashlib.sha256(name.encode()).digest() for name in ("new", "old", "other"))
TEXT = {secret: b64encode(secret).decode() for secret in (NEW, OLD, OTHER)}
RAW = [repr(secret) for secret in (NEW, OLD, OTHER)]
WEAK = b64encode(NEW[:31]).decode()
VARIABLE = "TEST_ACTORS_KEYS"

ids = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=32)
secrets = st.binary(min_size=32, max_size=200).filter(lambda secret: len(set(secret)) > 1)


def effect(secret: bytes) -> bytes:
    """What HMAC makes of a secret: two of one effect sign alike (RFC 2104, section 2)."""
    return (hashlib.sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")


keys_of_one_or_two = st.lists(
    st.tuples(ids, secrets), min_size=1, max_size=2, unique_by=(lambda key: key[0], lambda key: effect(key[1]))
)


def signed_with(secret: bytes, data: bytes) -> bytes:
    return hmac.digest(secret, data, "sha256")


@pytest.fixture
def from_env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv(VARIABLE, raising=False)
    return monkeypatch


def parsed(text: str) -> Keys:
    """The keys of a text that may hold what no variable and no file can: by the variable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, text)
        return Keys.from_env(VARIABLE)


# Signing --------------------------------------------------------------------------------------------------

# RFC 4231, section 4: key, data, HMAC-SHA-256. Case 5 has only the first 128 bits.
RFC_4231 = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (b"\x0c" * 20, b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
        b"hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]


@pytest.mark.parametrize(("secret", "data", "signature"), RFC_4231, ids=range(1, 8))
def test_the_vectors_of_rfc_4231(secret: bytes, data: bytes, signature: str) -> None:
    """Their keys are too weak for `Keys`; the 64 bytes that HMAC makes of each are not, and sign alike."""
    keys = Keys(("rfc", effect(secret)))
    assert keys.sign(data).hex().startswith(signature)


@given(secrets, st.binary(max_size=500))
@example(OLD + NEW, b"")  # exactly a block
@example(OLD + NEW + b"\1", b"")  # and over it: hashed first
def test_a_signature_is_that_of_the_standard_library(secret: bytes, data: bytes) -> None:
    keys = Keys(("a", secret))
    signature = keys.sign(data)
    assert signature == keys.sign(memoryview(data)) == signed_with(secret, data)
    assert type(signature) is bytes
    assert len(signature) == 32


@given(st.binary(min_size=1, max_size=100), st.data())
def test_a_signature_verifies_only_as_it_is(data: bytes, draw: st.DataObject) -> None:
    keys = Keys(("new", NEW), ("old", OLD))
    signature = keys.sign(data)
    frame = memoryview(data + signature)
    assert keys.verify("new", data, signature)
    assert keys.verify("new", frame[:-32], frame[-32:])
    bit = draw.draw(st.integers(0, len(frame) * 8 - 1))
    forged = bytearray(frame)
    forged[bit // 8] ^= 1 << bit % 8
    assert not keys.verify("new", bytes(forged[:-32]), bytes(forged[-32:]))
    cut = draw.draw(st.integers(0, 31))
    assert not keys.verify("new", data, signature[:cut])
    assert not keys.verify("new", data, signature + b"\0")


def test_the_id_says_which_key_verifies() -> None:
    keys = Keys(("new", NEW), ("old", OLD))
    by_new, by_old = signed_with(NEW, b"data"), signed_with(OLD, b"data")
    assert keys.key_id == "new"
    assert keys.sign(b"data") == by_new
    assert keys.verify("new", b"data", by_new)
    assert keys.verify("old", b"data", by_old)
    assert not keys.verify("new", b"data", by_old)
    assert not keys.verify("old", b"data", by_new)
    assert not keys.verify("other", b"data", by_new)
    assert not keys.verify("", b"data", by_new)


def test_a_rotation_in_four_steps_refuses_no_frame() -> None:
    """While the nodes restart one by one, each step meets itself and the one before."""
    steps = [
        Keys(("old", OLD)),
        Keys(("old", OLD), ("new", NEW)),
        Keys(("new", NEW), ("old", OLD)),
        Keys(("new", NEW)),
    ]
    assert [keys.key_id for keys in steps] == ["old", "old", "new", "new"]

    def accepted(sender: Keys, receiver: Keys) -> bool:
        return receiver.verify(sender.key_id, b"data", sender.sign(b"data"))

    for before, after in pairwise(steps):
        assert accepted(before, before)
        assert accepted(before, after)
        assert accepted(after, before)
        assert accepted(after, after)
    assert not accepted(steps[0], steps[3])  # the old key is dead
    assert not accepted(steps[2], steps[0])  # so the new one is not first at once


# Where they come from -------------------------------------------------------------------------------------


@given(keys_of_one_or_two, st.sampled_from([b64encode, urlsafe_b64encode]), st.booleans())
def test_keys_come_back_from_their_text(keys: list[tuple[str, bytes]], encode: type[bytes], padded: bool) -> None:
    lines = [f"{key_id}:{encode(secret).decode()}" for key_id, secret in keys]
    made = parsed("\n".join(line if padded else line.rstrip("=") for line in lines))
    assert made.key_id == keys[0][0]
    assert made.sign(b"data") == signed_with(keys[0][1], b"data")
    assert all(made.verify(key_id, b"data", signed_with(secret, b"data")) for key_id, secret in keys)


NEW_THEN_OLD = f"new:{TEXT[NEW]}", f"old:{TEXT[OLD]}"
LAYOUTS = {
    "lines": "{}\n{}\n",
    "Windows": "{}\r\n{}\r\n",
    "blank lines and indents": "\n\n  {}  \n\n\t{}\n\n",
    "comments": "# of November: not:{{a}}, key\n{} # signs\n#\n{}\t#verifies",
    "a comment after a comma": "{},# signs\n{},",
    "commas": "{},{}",
    "a comma and a blank": "{}, {}",
    "blanks": " {}  {} ",
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "BOM"])
def test_variable_and_file_have_one_form(layout: str, mark: str, from_env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = layout.format(*NEW_THEN_OLD)
    file = tmp_path / "keys"
    file.write_bytes((mark + text).encode())
    from_env.setenv(VARIABLE, text)
    for keys in (Keys.from_env(VARIABLE), Keys.from_file(file), Keys.from_file(str(file))):
        assert keys.key_id == "new"
        assert keys.sign(b"data") == signed_with(NEW, b"data")
        assert keys.verify("old", b"data", signed_with(OLD, b"data"))


def test_the_variable_is_actors_keys_where_none_is_named(from_env: pytest.MonkeyPatch) -> None:
    from_env.setenv("ACTORS_KEYS", NEW_THEN_OLD[0])
    assert Keys.from_env().key_id == "new"


# What is wrong, and where -----------------------------------------------------------------------------------

NEVER_SOUND = {
    "nothing": ("", "there is no key"),
    "only comments": ("# none\n\n , ", "there is no key"),
    "no id": (f"\n{TEXT[NEW]}", r"key 1 \(line 2\) is not id:secret"),
    "an empty id": (f":{TEXT[NEW]}", r"key 1 \(line 1\) has no proper id"),
    "a long id": (f"{'a' * 33}:{TEXT[NEW]}", r"key 1 \(line 1\) has no proper id"),
    "a foreign letter": (f"n\xe9w:{TEXT[NEW]}", r"key 1 \(line 1\) has no proper id"),
    "swapped": (f"{TEXT[NEW]}:new", r"key 1 \(line 1\) has no proper id"),
    "an empty secret": ("new:", r"key 1 \(line 1\) has a secret of 0 bytes"),
    "a blank after the colon": (f"new: {TEXT[NEW]}", r"key 2 \(line 1\) is not id:secret"),
    "hexadecimal with colons": (f"new:{OLD.hex(':')}", r"key 1 \(line 1\) has a secret that is not base64"),
    "no base64": (f"#\nnew:{TEXT[NEW][:20]}!{TEXT[NEW][20:]}", r"key 1 \(line 2\) has a secret that is not base64"),
    "not ASCII": (f"new:{TEXT[NEW][:20]}\xe9{TEXT[NEW][20:]}", r"key 1 \(line 1\) has a secret that is not base64"),
    "padding inside": (f"new:{TEXT[NEW]}{TEXT[OLD]}", r"key 1 \(line 1\) has a secret that is not base64"),
    "cut within a byte": (f"new:{TEXT[NEW][:41]}", r"key 1 \(line 1\) has a secret that is not base64"),
    "one digit lost": (f"new:{TEXT[NEW][:42]}", r"key 1 \(line 1\) has a secret of 31 bytes and needs at least 32"),
    "a short second": (f"new:{TEXT[NEW]}\n\nold:{WEAK}", r"key 2 \(line 3\) has a secret of 31 bytes"),
    "zeros": (f"new:{b64encode(bytes(32)).decode()}", r"key 1 \(line 1\) has a secret of one byte over and over"),
    "one id twice": (f"new:{TEXT[NEW]}\nnew:{TEXT[OLD]}", r"key 2 \(line 2\) has the id of key 1 \(line 1\)"),
    "one secret twice": (f"new:{TEXT[NEW]},old:{TEXT[NEW]}", r"key 2 \(line 1\) has the secret of key 1 \(line 1\)"),
    "three": (
        f"new:{TEXT[NEW]}\nold:{TEXT[OLD]}\nother:{TEXT[OTHER]}",
        r"key 3 \(line 3\) is one too many, as 2 live at once; remove the oldest",
    ),
    "a glued comment": (f"new:{TEXT[NEW]}#signs", r"key 1 \(line 1\) has a secret that is not base64"),
}
ADVICE = "openssl rand -base64 32|remove the oldest|an id of its own|as in 2026-11|before the secret"


@pytest.mark.parametrize(("text", "problem"), NEVER_SOUND.values(), ids=NEVER_SOUND.keys())
def test_what_is_wrong_is_said_with_its_place_and_a_way_out(
    text: str, problem: str, from_env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=problem) as from_file:
        Keys.from_file(file)
    assert str(from_file.value).startswith(f"{file}: ")
    from_env.setenv(VARIABLE, text)
    with pytest.raises(ValueError, match=problem) as of_variable:
        Keys.from_env(VARIABLE)
    assert str(of_variable.value).startswith(f"environment variable {VARIABLE}: ")
    for error in (from_file, of_variable):
        error.match(ADVICE)
        assert not shown(error.value, text, *RAW)


REFUSED: dict[str, tuple[list[tuple[str, bytes]], str]] = {
    "none": ([], "there is no key"),
    "three": ([("a", NEW), ("b", OLD), ("c", OTHER)], "key 3 is one too many"),
    "a newline in the id": ([("a\n", NEW)], "key 1 has no proper id"),
    "a short secret": ([("a", NEW), ("b", OLD[:31])], "key 2 has a secret of 31 bytes"),
    "a secret of one byte": ([("a", b"\xa7" * 100)], "key 1 has a secret of one byte"),
    "one id": ([("a", NEW), ("a", OLD)], "key 2 has the id of key 1"),
    "one secret": ([("a", NEW), ("b", NEW)], "key 2 has the secret of key 1"),
    "a secret and zeros": ([("a", NEW), ("b", NEW + b"\0")], "key 2 has the secret of key 1"),
    "a long secret and its hash": ([("a", NEW * 3), ("b", effect(NEW * 3)[:32])], "key 2 has the secret of key 1"),
}


@pytest.mark.parametrize(("keys", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_keys_that_protect_nothing_are_refused(keys: list[tuple[str, bytes]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as error:
        Keys(*keys)
    for _, secret in keys:
        assert not shown(error.value, repr(secret))


@pytest.mark.parametrize(
    "keys",
    [["new", NEW], [("new", TEXT[NEW])], [("new", list(NEW))], [(7, NEW)], [("new", NEW, OLD)], [None]],
    ids=["not a pair", "text", "a list", "a number for an id", "three", "None"],
)
def test_what_is_no_key_is_refused_without_showing_it(keys: list[Any]) -> None:
    with pytest.raises(ValueError, match="each key is a pair") as error:
        Keys(*keys)
    assert not shown(error.value, TEXT[NEW], *RAW)


def test_a_variable_that_is_not_set(from_env: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=f"^environment variable {VARIABLE} is not set; .*openssl rand -base64 32$"):
        Keys.from_env(VARIABLE)


def test_a_file_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="the file of keys cannot be read, No such file") as missing:
        Keys.from_file(tmp_path / "keys")
    assert missing.value.filename == str(tmp_path / "keys")
    with pytest.raises(IsADirectoryError, match="the file of keys cannot be read, Is a directory"):
        Keys.from_file(tmp_path)
    with pytest.raises(NotADirectoryError):
        (tmp_path / "file").touch()
        Keys.from_file(tmp_path / "file" / "keys")
    with pytest.raises(OSError, match="Too many levels of symbolic links") as unreadable:  # root may read all others
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        Keys.from_file(tmp_path / "loop")
    assert unreadable.value.errno == errno.ELOOP


def test_a_file_that_is_not_utf_8_shows_nothing_of_it(tmp_path: Path) -> None:
    text = NEW_THEN_OLD[0]
    (tmp_path / "keys").write_text(text, "utf-16")
    with pytest.raises(OSError, match="is not UTF-8; write it as plain text") as error:
        Keys.from_file(tmp_path / "keys")
    assert error.value.filename == str(tmp_path / "keys")
    assert not shown(error.value, text)


def test_a_file_is_read_up_to_64_kib(tmp_path: Path) -> None:
    text = NEW_THEN_OLD[0]
    (tmp_path / "keys").write_text(text.ljust(64 * 1024))
    assert Keys.from_file(tmp_path / "keys").key_id == "new"
    (tmp_path / "keys").write_bytes(text.ljust(64 * 1024).encode() + b"\xff")
    with pytest.raises(OSError, match="has over 65536 bytes") as error:
        Keys.from_file(tmp_path / "keys")
    assert error.value.errno == errno.EFBIG
    assert not shown(error.value, text)
    with pytest.raises(OSError, match="has over 65536 bytes"):
        Keys.from_file("/dev/zero")  # without an end


# Nothing shows a secret -------------------------------------------------------------------------------------


def pieces(*texts: str) -> set[str]:
    """The pieces of six characters, but those with blanks or without a letter or digit: tracebacks are full of them."""
    found = {text[start : start + 6] for text in texts for start in range(len(text) - 5)}
    return {piece for piece in found if " " not in piece and any(map(str.isalnum, piece))}


# Hypothesis also tries the words that it finds in the sources.
PUBLIC = pieces(
    Path(transport.keys.__file__).read_text("utf-8"), Path(__file__).read_text("utf-8"), __file__, f"{VARIABLE}:"
)


def shown(error: BaseException, *values: str) -> set[str]:
    """The pieces that an error, or a report of it with variables, shares with the values and not with the sources.

    Variables count only in the frames of `transport.keys`: the caller's are the caller's.
    """
    reports = [str(error), repr(error), *traceback.format_exception(error)]
    seen: set[int] = set()
    also: list[BaseException | None] = [error]
    while also:
        each = also.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            also += [each.__cause__, each.__context__]
            reports += [repr(each.args), repr(vars(each))]
            for frame, _ in traceback.walk_tb(each.__traceback__):
                if frame.f_globals["__name__"] == "transport.keys":
                    reports.append(repr(frame.f_locals))
    return pieces(*values) & pieces(*reports) - PUBLIC


def test_a_leak_would_be_seen() -> None:
    """The other tests lean on `shown`."""
    text = TEXT[NEW]
    assert shown(ValueError(text[10:16]), text)
    assert not shown(ValueError(text[10:15]), text)
    for chain in ("__cause__", "__context__"):
        error = ValueError("fine")
        setattr(error, chain, ValueError(text))
        assert shown(error, text)
    module: dict[str, Any] = {"__name__": "transport.keys"}
    exec("def fail(secret): raise ValueError('fine')", module)
    with pytest.raises(ValueError, match="fine") as found:
        module["fail"](text)
    assert shown(found.value, text)  # by the variable


@st.composite
def almost_keys(draw: st.DrawFn) -> str:
    """Texts of keys, and what slips make of them."""
    secret = st.sampled_from([NEW, OLD, OTHER, NEW[:31], bytes(32)]) | st.binary(max_size=60)
    keys = draw(st.lists(st.tuples(ids, secret), max_size=4))
    text = draw(st.sampled_from(["\n", ",", " ", "\r\n"])).join(
        f"{key_id}{draw(st.sampled_from(':::= '))}{b64encode(secret).decode()}" for key_id, secret in keys
    )
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, len(text)))
    return text[:start] + draw(st.sampled_from(["", "", ":", "=", "#", "\xe9", "\x00"])) + text[end:]


@given(st.one_of(almost_keys(), st.text(), st.text("aZ09._-:+/=# \n")))
def test_any_text_makes_keys_or_an_error_that_shows_nothing_of_it(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.environ", {VARIABLE: text})  # also what no real one can hold: NUL and surrogates
        try:
            made: Keys | ValueError = Keys.from_env(VARIABLE)
        except ValueError as error:
            made = error
    if isinstance(made, Keys):
        assert made.verify(made.key_id, b"data", made.sign(b"data"))
    else:
        assert not shown(made, text)
        assert made.__cause__ is None
        assert made.__context__ is None


@given(st.binary(max_size=300))
@example(b"new:" + TEXT[NEW].encode() + b"\xff")
def test_any_file_makes_keys_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(data)
    with pytest.raises((ValueError, OSError)) as error:  # no draw of Hypothesis is a sound key
        Keys.from_file(file)
    assert not shown(error.value, data.decode("latin-1")) - pieces(str(file))


@pytest.mark.parametrize("text", NEW_THEN_OLD)
def test_keys_passed_for_the_name_of_their_place_are_not_shown(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"environment variable \(not shown: it looks like a key\) is not set"
    ) as unset:
        Keys.from_env(text)
    with pytest.raises(FileNotFoundError, match="not shown: it looks like a key") as missing:
        Keys.from_file(text)
    assert text[4:] not in str(unset.value) + str(missing.value) + repr(missing.value)


def test_nothing_that_shows_an_object_shows_a_secret() -> None:
    keys = Keys(("new", NEW), ("old", OLD))
    assert repr(keys) == str(keys) == f"{keys}" == "<Keys new, old>"
    assert json.loads(structlog.processors.JSONRenderer()(None, "info", {"keys": keys})) == {"keys": "<Keys new, old>"}
    with pytest.raises(TypeError):
        vars(keys)
    assert "\\x" not in repr([getattr(keys, name) for name in Keys.__slots__])
    for encode in (msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins):
        with pytest.raises(TypeError):
            encode(keys)


def held(value: object, depth: int = 6) -> list[object]:
    """What an object holds on to, and what that does."""
    below = [] if depth == 0 or isinstance(value, type) else gc.get_referents(value)
    own = [each for each in below if not (isinstance(each, dict) and "__builtins__" in each)]
    return [value, *(found for each in own for found in held(each, depth - 1))]


def test_the_secrets_are_not_kept() -> None:
    keys = Keys(("new", NEW), ("old", OLD))
    assert not [each for each in held(keys) if isinstance(each, bytes) and len(each) >= 32]
    assert [each for each in held([("new", NEW)]) if each == NEW]  # so held() finds what is there


def test_keys_are_neither_copied_nor_pickled() -> None:
    keys = Keys(("new", NEW))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            pickle.dumps(keys, protocol)
    for make in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            make(keys)
