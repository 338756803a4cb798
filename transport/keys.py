"""`Keys`: the secrets that frames are signed with. Nothing in here ever shows one."""

from __future__ import annotations

import errno
import os
import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Final, NoReturn, final

SHORTEST: Final = 32
"""Bytes of a secret: those of the hash, as RFC 2104 advises."""

_AT_ONCE: Final = 2
_LARGEST_FILE: Final = 64 * 1024  # bytes; two keys take about 150
_MAKE: Final = "make a secret with: openssl rand -base64 32"
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,32}").fullmatch
_COMMENT: Final = re.compile(r"(?<![^\s,])#.*")
_LIKE_A_KEY: Final = re.compile(r"[A-Za-z0-9._-]:[A-Za-z0-9+/_-]{40}").search

_BLOCK: Final = sha256().block_size
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


@final
class Keys:
    """One or two live keys for HMAC-SHA256: the first signs, both verify. Safe to use from many threads.

    A key is an id (1 to 32 of ``A-Z a-z 0-9 . _ -``; it travels in the frame) and a secret of at least 32 random
    bytes. Raises `ValueError` for no or more than two keys, an id that is none, a secret that is short or one byte
    over and over, and for two keys with the same id or of the same effect. The secrets are not kept, only hashes
    prepared with them; so there is nothing to show, and `Keys` are neither copied nor pickled.
    """

    __slots__ = ("_signers", "key_id")

    key_id: Final[str]
    """The id of the key that signs."""

    def __init__(self, *keys: tuple[str, bytes]) -> None:
        self._signers: Final[dict[str, Callable[[bytes | memoryview], bytes]]] = {}
        try:
            fault = _fault(keys, [f"key {number}" for number, _ in enumerate(keys, 1)])
        except (AttributeError, TypeError, ValueError):
            fault = "each key is a pair: its id, a str, and its secret, bytes"
        if fault:
            del keys  # a report of the error may show this frame's variables
            raise ValueError(fault)
        self._signers.update((key_id, _signer(secret)) for key_id, secret in keys)
        self.key_id = keys[0][0]

    @staticmethod
    def from_env(variable: str = "ACTORS_KEYS") -> Keys:
        """The keys that an environment variable holds, in the form that `from_file` reads.

        Raises `ValueError`, which names the variable and the line and repeats nothing of what they hold.
        """
        return _or_raise(_parse(os.environ.get(variable), f"environment variable {_shown(variable)}"))

    @staticmethod
    def from_file(path: str | os.PathLike[str]) -> Keys:
        """The keys that a file of at most 64 KiB in UTF-8 holds.

        Each is ``id:secret``, on a line of its own or between blanks or commas. The secret is in base64, standard
        or URL-safe, with or without padding. ``#`` begins a comment.

        Raises `OSError` where there is no such text (of the usual subclass: `FileNotFoundError`, ...), `ValueError`
        for what it says. Both name the file, the latter also the line; neither repeats anything of what it holds.
        """
        return _or_raise(_read(path))

    def sign(self, data: bytes | memoryview) -> bytes:
        """The signature of `data` under the first key: 32 bytes."""
        return self._signers[self.key_id](data)

    def verify(self, key_id: str, data: bytes | memoryview, signature: bytes | memoryview) -> bool:
        """Whether `signature` is that of `data` under the key `key_id`; never under a key that is not there.

        How long it takes says nothing about where a wrong signature differs from the right one.
        """
        sign = self._signers.get(key_id)
        return sign is not None and compare_digest(sign(data), signature)

    def __repr__(self) -> str:
        return f"<Keys {', '.join(self._signers)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Keys are neither copied nor pickled: make them anew where they are needed")


def _signer(secret: bytes) -> Callable[[bytes | memoryview], bytes]:
    """HMAC-SHA256 under `secret` (RFC 2104), with the block that depends on the secret alone hashed here, once.

    Takes 0.65 us for 300 bytes; with a copy of a prepared `hmac.HMAC` it is 1.04 us, with `hmac.digest` 1.4 us.
    """
    block = (sha256(secret).digest() if len(secret) > _BLOCK else secret).ljust(_BLOCK, b"\0")
    new_inner = sha256(block.translate(_INNER)).copy
    new_outer = sha256(block.translate(_OUTER)).copy

    def sign(data: bytes | memoryview) -> bytes:
        inner, outer = new_inner(), new_outer()
        inner.update(data)
        outer.update(inner.digest())
        return outer.digest()

    return sign


def _fault(keys: Sequence[tuple[str, bytes]], places: Sequence[str]) -> str:
    """What is wrong with the keys, found in these places, and what to do about it; empty where they are sound.

    Ids are not shown either: where id and secret were swapped, that would be the secret.
    """
    if not keys:
        return f"there is no key; {_MAKE}, and put an id and a colon before it"
    if len(keys) > _AT_ONCE:
        return f"{places[_AT_ONCE]} is one too many, as {_AT_ONCE} live at once; remove the oldest"
    for place, (key_id, secret) in zip(places, keys, strict=True):
        if not _ID(key_id):
            return f"{place} has no proper id: 1 to 32 letters, digits and . _ -, as in 2026-11"
        if len(secret) < SHORTEST:
            return f"{place} has a secret of {len(secret)} bytes and needs at least {SHORTEST}; {_MAKE}"
        if len(set(secret)) == 1:
            return f"{place} has a secret of one byte over and over; {_MAKE}"
    if len({key_id for key_id, _ in keys}) < len(keys):
        return f"{places[1]} has the id of {places[0]}; give each key an id of its own"
    # By what HMAC makes of them: it takes no notice of zeros at the end of a secret.
    if len({_signer(secret)(b"") for _, secret in keys}) < len(keys):
        return f"{places[1]} has the secret of {places[0]}; {_MAKE}"
    return ""


# A traceback holds on to the variables of every function that it came through, and some reports show them. So these
# return their errors, and who raises them has no variable that holds a secret. ---------------------------------


def _or_raise(made: Keys | ValueError | OSError) -> Keys:
    if isinstance(made, Keys):
        return made
    raise made


def _read(path: str | os.PathLike[str]) -> Keys | ValueError | OSError:
    name = _shown(os.fspath(path))
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            return OSError(errno.EFBIG, f"the file of keys has over {_LARGEST_FILE} bytes; is it the right one?", name)
        text = data.decode("utf-8-sig")
    except OSError as error:
        return OSError(error.errno, f"the file of keys cannot be read, {error.strerror}; check path and rights", name)
    except UnicodeDecodeError:
        return OSError(errno.EILSEQ, "the file of keys is not UTF-8; write it as plain text", name)
    return _parse(text, name)


def _parse(text: str | None, source: str) -> Keys | ValueError:
    if text is None:
        return ValueError(f"{source} is not set; set it to id:secret, and {_MAKE}")
    keys: list[tuple[str, bytes]] = []
    places: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        for word in _COMMENT.sub("", line).replace(",", " ").split():
            place = f"key {len(keys) + 1} (line {number})"
            key_id, colon, encoded = word.partition(":")
            if not colon:
                return ValueError(f"{source}: {place} is not id:secret; put an id and a colon before the secret")
            secret = _decode(encoded)
            if secret is None:
                return ValueError(f"{source}: {place} has a secret that is not base64; {_MAKE}")
            keys.append((key_id, secret))
            places.append(place)
    fault = _fault(keys, places)
    return ValueError(f"{source}: {fault}") if fault else Keys(*keys)


def _decode(encoded: str) -> bytes | None:
    digits = encoded.replace("-", "+").replace("_", "/")
    try:
        return b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except ValueError:
        return None


def _shown(name: str) -> str:
    """The name of a file or variable; who passed the keys themselves instead shall not read them in the error."""
    return "(not shown: it looks like a key)" if _LIKE_A_KEY(name) else name
