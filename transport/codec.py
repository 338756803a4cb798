"""`Codec`: messages to bytes and back. Here are `MessagePack` and `JSON`, on msgspec."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate
from math import inf
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import inspect

from transport.address import Address
from transport.errors import CodecError, DecodeError, MessageTooLarge, text_of

T = TypeVar("T")
_Pair: TypeAlias = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]


class Codec(Protocol):
    """Turns values of a known type into bytes and back.

    ``decoder(kind)(encoder(kind)(value)) == value`` for every value that encodes. Any bytes at all decode to a
    `kind` or raise, in time and memory in proportion to their length.

    The functions are asked for once per type and then called for every message, so that nothing need stand between
    the caller and a function in C. They may raise any `Exception`: the caller makes a `CodecError` of it that
    repeats nothing of what was received (see `detail`). `MessageTooLarge` and `DecodeError` it passes on.
    """

    name: str
    """What the codec is called on the wire."""

    def encoder(self, kind: type[T], /) -> Callable[[T], bytes]:
        """What encodes a `kind`. Raises `CodecError` where no receiver could decode one."""
        ...

    def decoder(self, kind: type[T], /) -> Callable[[bytes], T]:
        """What decodes a `kind`. Raises `CodecError` as `encoder` does."""
        ...


class _Msgspec:
    """What the two formats of msgspec share: a pair of functions per type, and the checks of what it leaves open.

    The depth of a payload is the number of maps and arrays around its innermost value: 0 for a bare number, 1 for
    a message of numbers (or of none), 2 where one of its fields is a list, be it empty. What the receiver's type
    does not know counts only where the type sets no bound by itself: elsewhere it is passed over, unread.
    """

    name: str

    def __init__(self, depth: int = 32) -> None:
        if depth < 1:
            raise ValueError(f"depth={depth!r}: a message is a map, which is 1 deep")
        self.depth = depth
        self._pairs: dict[Any, _Pair] = {}

    def encoder(self, kind: type[T], /) -> Callable[[T], bytes]:
        """As `Codec.encoder`. What it returns raises `MessageTooLarge` for what nests deeper than `depth`."""
        return (self._pairs.get(kind) or self._add(kind))[0]

    def decoder(self, kind: type[T], /) -> Callable[[bytes], T]:
        """As `Codec.decoder`. Nothing that nests deeper than `depth` becomes objects."""
        return (self._pairs.get(kind) or self._add(kind))[1]

    def _add(self, kind: Any) -> _Pair:
        try:
            shape = inspect.type_info(kind)
            encode, decode = self._pair(kind, shape)
        except Exception as error:
            raise CodecError(f"{self.name} cannot carry {kind!r}: {error}") from error
        if (check := self._check(shape)) is not None:
            encode, decode = _checked(encode, decode, check)
        self._pairs[kind] = encode, decode
        return encode, decode

    def _pair(self, kind: Any, shape: inspect.Type) -> _Pair:
        """The functions of the format."""
        raise NotImplementedError

    def _check(self, shape: inspect.Type) -> Callable[[bytes], None] | None:
        """What refuses bytes before they are decoded or sent; None where the type alone is enough.

        It reads up to where they are malformed, as no decoder gets further, in time in proportion to their length.
        """
        raise NotImplementedError

    def _too_deep(self) -> MessageTooLarge:
        return MessageTooLarge(f"it nests deeper than {self.depth}")


class MessagePack(_Msgspec):
    """MessagePack (https://msgpack.org): each message is a map from field names, readable in any language.

    Fields have any type that msgspec knows, or `Address`. Fields that the receiver does not know are passed
    over and those it misses get their defaults, so both ends need not change on the same day. Integers go
    from -2**63 to 2**64 - 1. An aware `datetime` keeps its instant and comes back in UTC.

    A message nests at most `depth` deep. Types that bound this by themselves cost nothing more than msgspec does.
    For those that hold `Any`, themselves or an `Address` (which msgspec reads as `Any` first) the bytes are looked
    at, at both ends: 0.2 µs where no more than `depth` of 200 bytes could open a container; otherwise 60 ns for
    each value, which is up to twice the time of decoding it. Such a payload may have 1,000 maps or arrays as keys.

    Not checked here: how long the bytes are. An array of empty arrays takes about 70 times its bytes. And of fields
    that are sets of, or maps from, `Decimal`, `UUID`, instants, durations, tuples or frozen structs, a sender can
    choose the members so that all their hashes are equal: it takes seconds to decode 256 KiB of them.
    """

    name = "msgpack"

    def _pair(self, kind: Any, shape: inspect.Type) -> _Pair:
        return _pack, msgspec.msgpack.Decoder(kind, dec_hook=_from_wire).decode

    def _check(self, shape: inspect.Type) -> Callable[[bytes], None] | None:
        return None if _nesting(shape, {}) <= self.depth else self._scan

    def _scan(self, data: bytes) -> None:
        if len(data) - len(data.translate(None, _OPENERS)) <= self.depth:
            return
        at, keys = 0, 0
        left = 2  # twice the values that are still to come in the innermost container, and 1 more where it is a map
        around: list[int] = []  # the same of those around it
        with suppress(IndexError):  # it ends too early
            while True:
                while left > 1:
                    left -= 2
                    code = data[at]
                    if size := _SIZES[code]:
                        at += size
                        continue
                    if code < 0xA0:
                        count, at = code & 0x0F, at + 1
                    else:
                        start = at + 1 + _DIGITS[code]
                        count, at = int.from_bytes(data[at + 1 : start], "big"), start
                        if code < 0xDC:  # text, bytes, or an extension after its type
                            at += count + (0xC7 <= code <= 0xC9)
                            continue
                    if len(around) >= self.depth:
                        raise self._too_deep()
                    if left & 3 == 3:  # in a map, with an odd number of values to come
                        keys += 1
                        if keys > _MOST_KEYS:
                            raise CodecError(f"it has more than {_MOST_KEYS:,} maps or arrays as keys")
                    around.append(left)
                    if code in _MAPS:
                        left = 4 * count + 1
                        continue
                    left = 2 * count
                    if count > 15 and (size := _SIZES[data[at]]):  # an embedding? 1,500 floats in 2 µs and not in 90
                        end = at + size * count
                        if data[at:end:size].count(data[at]) == count:
                            at, left = end, 0
                if not around:
                    return
                left = around.pop()


class JSON(_Msgspec):
    """JSON (RFC 8259), for other languages and to read along: the same types and the same rules as `MessagePack`.

    What JSON has no form for travels as text and comes back as what the field's type says. Within `Any` it stays
    text: bytes (in base64), instants, keys that are numbers. An aware `datetime` keeps its offset. NaN and
    the infinities, for which msgspec writes null, do not encode. Whole numbers go from -2**63 to 2**64 - 1 (many
    readers, JavaScript's among them, are exact to 2**53 only); a type with `int` or `Any` in it takes no others in
    the place of its floats either. Of two fields of the same name the last one counts.

    To look at the bytes takes 0.3 µs for a message of six fields, and some microseconds more where there could be
    a NaN: where a null was written and the type has floats or `Any`. To scan what has more than `depth` brackets
    takes 0.1 µs for each string.
    """

    name = "json"

    def _pair(self, kind: Any, shape: inspect.Type) -> _Pair:
        decode = msgspec.json.Decoder(kind, dec_hook=_from_wire).decode
        return _dump_finite if _holds(shape, inspect.FloatType) else _dump, decode

    def _check(self, shape: inspect.Type) -> Callable[[bytes], None] | None:
        is_bounded, has_whole = _nesting(shape, {}) <= self.depth, _holds(shape, inspect.IntType)
        if is_bounded and not has_whole:
            return None
        has_keys = any(_holds(each.key_type, inspect.IntType) for each in _within(shape) if hasattr(each, "key_type"))

        def check(data: bytes) -> None:
            if not is_bounded and data.count(b"[") + data.count(b"{") > self.depth:
                steps = _STRING.sub(b"", data).translate(_STEPS, _NO_BRACKETS)
                if max(accumulate(memoryview(steps).cast("b")), default=0) > self.depth:
                    raise self._too_deep()
            if not has_whole or len(data) - len(data.translate(None, b"0123456789")) < 19:
                return
            if _RUN in data.translate(_ALL_0):
                for number in _LONG_NUMBER.findall(_STRING.sub(b"", data)):
                    _check_whole(number)
            if has_keys:
                for key in _LONG_KEY.findall(data):
                    _check_whole(key)

        return check


def _checked(encode: Callable[[Any], bytes], decode: Callable[[bytes], Any], check: Callable[[bytes], None]) -> _Pair:
    def checked_encode(value: Any) -> bytes:
        try:
            data = encode(value)
        except RecursionError:
            raise MessageTooLarge("it holds itself, or nests hundreds deep") from None
        check(data)
        return data

    def checked_decode(data: bytes) -> Any:
        try:
            check(data)
        except (CodecError, MessageTooLarge) as error:
            raise DecodeError(str(error)) from None
        return decode(data)

    return checked_encode, checked_decode


def _check_whole(number: bytes) -> None:
    # By the length first, as int() takes a quadratic time. Whoever escapes digits (only in a key) hides something.
    if b"\\" in number or len(number) > 20 or not -(2**63) <= int(number) < 2**64:
        raise CodecError("it has a whole number outside -2**63 to 2**64 - 1")


def _to_wire(value: Any) -> str:
    if isinstance(value, Address):
        return str(value)
    raise CodecError(f"a {type(value).__qualname__} has no form on the wire")


def _from_wire(kind: type, value: Any) -> Address:
    if kind is Address:
        return Address(value)
    raise TypeError(f"{kind!r} has no form on the wire")


def _dump_finite(value: Any) -> bytes:
    data = _dump(value)
    if b"null" in data:
        try:
            json.dumps(msgspec.to_builtins(value, str_keys=True, enc_hook=lambda _: None), allow_nan=False)
        except ValueError:
            raise CodecError("JSON has no NaN and no infinity") from None
    return data


_pack: Final = msgspec.msgpack.Encoder(enc_hook=_to_wire).encode
_dump: Final = msgspec.json.Encoder(enc_hook=_to_wire).encode

# MessagePack: the first byte of a value says what it is, and often how long.
_MAPS: Final = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])
_OPENERS: Final = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])  # of maps and arrays
_DIGITS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4} | {
    0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4
}  # fmt: skip  # bytes of the length that follows
_FIXED: Final = dict(zip(range(0xCA, 0xD9), (5, 9, 2, 3, 5, 9, 2, 3, 5, 9, 3, 4, 6, 10, 18), strict=True))
_TEXTS: Final = {0xA0 + length: 1 + length for length in range(32)}
_SIZES: Final = [  # bytes of the whole value, 0 where the first byte does not say
    0 if code in _DIGITS or code in _OPENERS else (_FIXED | _TEXTS).get(code, 1) for code in range(256)
]
_MOST_KEYS: Final = 1000  # as keys of equal hash take a quadratic time: 11 ms so, 3.5 s for all that 256 KiB can hold

# JSON: a string up to its end or that of the data, possessive, so that no quote is tried twice.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # 1 and, as a signed byte, -1
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[{]}"))
_LONG_NUMBER: Final = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}+(?![.eE])")
_LONG_KEY: Final = re.compile(rb'"((?:-|\\u002[dD])?(?:[0-9]|\\u003[0-9]){19,}+)"[ \t\r\n]*+:')
_ALL_0: Final = bytes.maketrans(b"123456789", b"000000000")
_RUN: Final = b"0" * 19  # digits of the shortest number that could be too long


_PARTS: Final = ("type", "types", "item_type", "item_types", "key_type", "value_type", "fields")


def _parts(shape: inspect.Type) -> list[inspect.Type] | None:
    """The types right within `shape`; None for a scalar."""
    found = [getattr(shape, name) for name in _PARTS if hasattr(shape, name)]
    parts = [part for each in found for part in (each if isinstance(each, tuple) else (each,))]
    return [getattr(part, "type", part) for part in parts] if found else None  # a field has a type, a type is one


def _nesting(shape: inspect.Type, known: dict[int, float]) -> float:
    """How deep a value of this type can nest; `inf` where the type sets no bound."""
    if id(shape) not in known:
        known[id(shape)] = inf  # meanwhile: who comes by here again is a part of itself
        if isinstance(shape, inspect.AnyType | inspect.RawType | inspect.CustomType):
            return inf
        parts = _parts(shape)
        within = max((_nesting(part, known) for part in parts or ()), default=0)
        is_container = parts is not None and not isinstance(shape, inspect.Metadata | inspect.UnionType)
        known[id(shape)] = within + is_container
    return known[id(shape)]


def _within(shape: inspect.Type) -> list[inspect.Type]:
    """`shape` and all types that it is made of."""
    found = {id(shape): shape}
    new = [shape]
    while new:
        for part in _parts(new.pop()) or ():
            if id(part) not in found:
                found[id(part)] = part
                new.append(part)
    return list(found.values())


def _holds(shape: inspect.Type, kind: type[inspect.Type]) -> bool:
    """Whether a value of the type `shape` can have a `kind` in it."""
    return any(isinstance(each, kind | inspect.AnyType) for each in _within(shape))


def detail(error: BaseException) -> str:
    """What may be said of `error`, a decoder's or encoder's, where anybody reads it: nothing that the payload says.

    Of msgspec's errors that is the type and the place; of others, as those of a `__post_init__`, the class.
    """
    if not isinstance(error, msgspec.MsgspecError):
        return type(error).__name__
    text, what, place = text_of(error), type(error).__name__, None
    if (cause := error.__cause__) is not None:  # what a __post_init__ raised: its text, and then the place
        what, before = type(cause).__name__, text_of(cause)
        if text.startswith(before):
            place = _PLACE.fullmatch(text, len(before))
    elif (own := _OWN_TEXT.match(text)) is not None:
        what = own[0]
        if not text.startswith("Object contains"):  # which ends with the sender's word
            place = _PLACE.search(text)
    said = what + place[0] if place is not None else what
    return said if len(said) <= 200 else f"{said[:200]}..."


_OWN_TEXT: Final = re.compile(
    r"Expected `[a-z| ]+`(?: of (?:at (?:least|most) )?length (?:[<>]= )?\d+(?: to \d+)?)?(?:, got (?:`\w+`|\d+))?"
    r"|Object missing required field `[^`]*`|Object contains unknown field|Input data was truncated"
    r"|Invalid (?:enum value|value|UUID|decimal|base64|RFC3339 encoded \w+|epoch timestamp|ISO8601 duration)"
    r"|(?:JSON|MessagePack data) is malformed|(?:Integer value|Number|Timestamp is|Duration is) out of range"
)
_PLACE: Final = re.compile(r" - at (?:`key[^`]*` in )*`\$[^`]*`\Z| \(byte \d+\)\Z")
