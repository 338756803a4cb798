"""`Compression` of payloads: `Gzip`, `Zstd` and `LZ4`. No bytes unpack to more than was allowed."""

from __future__ import annotations

import sys
import zlib
from functools import cache
from typing import Final, Protocol

from transport.errors import DecodeError, shown

RATIO: Final = 100
"""No payload unpacks to more than this many times its bytes, whatever the limit: text packs to a tenth, bombs to a
thousandth. No floor is needed, as the smallest stream that holds something has over 10 bytes."""

_GZIP: Final = 31  # zlib's wbits: a gzip header and trailer, the largest window (32 KiB)
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_WINDOW_LOG: Final = 23  # 8 MiB, what RFC 8878 asks every decoder to take; the levels up to 19 need no more
_LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"
_LZ4_BLOCK: Final = 64 * 1024  # the smallest block size of the format; larger blocks save under 0.1% of 100 KiB


class Compression(Protocol):
    """Makes payloads smaller: ``decompress(compress(data), len(data)) == data``, where the ratio is at most `RATIO`.

    An instance may be used by several threads at once.
    """

    name: str
    """What the compression is called on the wire."""

    def compress(self, data: bytes, /) -> bytes:
        """`data`, packed: exactly one stream, the same bytes each time."""
        ...

    def decompress(self, data: bytes, limit: int, /) -> bytes:
        """What `data` holds: at most `limit` bytes, and `RATIO` times its own. Raises `DecodeError` and nothing else.

        Damaged or cut off data is refused, and so is what follows the stream. Memory is bounded by a few times
        `limit`, whatever the data claims to need.
        """
        ...


class Gzip:
    """gzip (RFC 1952), which every language reads without a package. `level`: from 1 (fast) to 9 (small)."""

    name = "gzip"

    def __init__(self, level: int = 6) -> None:
        self._level = _checked_level(level, 9)

    def compress(self, data: bytes, /) -> bytes:
        """As `Compression.compress`. The header holds no time, so equal payloads stay equal."""
        return zlib.compress(data, self._level, _GZIP)

    def decompress(self, data: bytes, limit: int, /) -> bytes:
        """As `Compression.decompress`."""
        stream = zlib.decompressobj(_GZIP)
        try:
            output = stream.decompress(data, _cap(data, limit) + 1)
        except zlib.error as error:
            raise _damaged(self.name, error) from None
        return _whole(self.name, data, limit, output, ended=stream.eof, after=len(stream.unused_data))


class Zstd:
    """Zstandard (RFC 8878), the best of the three in bytes. `level`: from 1 (fast) to 19 (small).

    Needs the extra ``zstd`` before Python 3.14; raises `ImportError` without it. Frames carry a checksum (4 bytes,
    7 µs in 100 KiB). A window of over 8 MiB is not read, which is why there is no level 20.
    """

    name = "zstd"

    def __init__(self, level: int = 3) -> None:
        try:
            if sys.version_info >= (3, 14):
                from compression import zstd
            else:
                from backports import zstd
        except ImportError as error:
            raise ImportError(_not_installed(self.name)) from error
        parameter = zstd.CompressionParameter
        options: dict[int, int] = {parameter.compression_level: _checked_level(level, 19), parameter.checksum_flag: 1}
        self._compressor = zstd.ZstdCompressor(options=options)  # locks itself; kept, a KiB takes 5 µs instead of 21
        self._decompressor = zstd.ZstdDecompressor
        self._options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        self._error = zstd.ZstdError

    def compress(self, data: bytes, /) -> bytes:
        """As `Compression.compress`."""
        return self._compressor.compress(data, self._compressor.FLUSH_FRAME)

    def decompress(self, data: bytes, limit: int, /) -> bytes:
        """As `Compression.decompress`."""
        if not data.startswith(_ZSTD_MAGIC):  # also: no skippable frame, none of the formats before 1.0
            raise DecodeError("not zstd data")
        stream = self._decompressor(options=self._options)
        try:
            output = stream.decompress(data, _cap(data, limit) + 1)
        except self._error as error:
            raise _damaged(self.name, error) from None
        return _whole(self.name, data, limit, output, ended=stream.eof, after=len(stream.unused_data))


class LZ4:
    """LZ4 frames (https://lz4.org), the fastest of the three. Needs the extra ``lz4``; raises `ImportError` without it.

    Frames carry a checksum (4 bytes, 30 µs in 100 KiB). Blocks larger than the limit are not read, except those of
    64 KiB: a block is unpacked as a whole.
    """

    name = "lz4"

    def __init__(self) -> None:
        try:
            import lz4.frame  # type: ignore[import-untyped]
        except ImportError as error:
            raise ImportError(_not_installed(self.name)) from error
        self._frame = lz4.frame

    def compress(self, data: bytes, /) -> bytes:
        """As `Compression.compress`."""
        packed: bytes = self._frame.compress(
            data, block_size=self._frame.BLOCKSIZE_MAX64KB, content_checksum=True, store_size=False
        )
        return packed

    def decompress(self, data: bytes, limit: int, /) -> bytes:
        """As `Compression.decompress`."""
        if not data.startswith(_LZ4_MAGIC):  # also: no skippable frame
            raise DecodeError("not lz4 data")
        flags, descriptor = (*data[4:6], 0, 0)[:2]
        if flags & 1:  # the library passes over it
            raise DecodeError("lz4 data needs a dictionary: pack it without one")
        if (block := 1 << 8 + 2 * (descriptor >> 4 & 7)) > max(limit, _LZ4_BLOCK):
            raise DecodeError(f"lz4 data has blocks of {block} bytes: pack it in blocks of {_LZ4_BLOCK}")
        try:
            # Not lz4.frame.decompress: it allocates whatever size the header claims.
            context = self._frame.create_decompression_context()
            output, read, ended = self._frame.decompress_chunk(context, data, max_length=_cap(data, limit) + 1)
        except RuntimeError as error:
            raise _damaged(self.name, error) from None
        return _whole(self.name, data, limit, output, ended=ended, after=len(data) - read)


_KNOWN: Final[dict[str, type[Gzip | Zstd | LZ4]]] = {kind.name: kind for kind in (Gzip, Zstd, LZ4)}


@cache
def compression(name: str) -> Compression:
    """The compression that a frame calls `name`, as its reader needs it. Raises `DecodeError` where there is none."""
    if name not in _KNOWN:
        raise DecodeError(f"unknown compression {shown(name)}: known are {', '.join(_KNOWN)}")
    try:
        return _KNOWN[name]()
    except ImportError as error:
        raise DecodeError(str(error)) from None


def _cap(data: bytes, limit: int) -> int:
    return min(limit, RATIO * len(data))


def _whole(name: str, data: bytes, limit: int, output: bytes, *, ended: bool, after: int) -> bytes:
    """`output`, if it is all that `data` held. Up to one byte over the cap was asked for, to see whether it is over."""
    if len(output) > limit:
        raise DecodeError(f"{name} data unpacks to more than {limit} bytes: send less, or a reference to it")
    if len(output) > RATIO * len(data):
        raise DecodeError(f"{name} data unpacks to more than {RATIO} times its {len(data)} bytes: send it unpacked")
    if not ended:
        raise DecodeError(f"{name} data is cut off after {len(data)} bytes")
    if after:
        raise DecodeError(f"{name} data ends {after} bytes before the payload does: send one stream, and no more")
    return output


def _damaged(name: str, error: Exception) -> DecodeError:
    return DecodeError(f"not {name} data, or damaged: {error}")  # the libraries' texts hold nothing of the data


def _not_installed(name: str) -> str:
    return f"{name} compression is not installed: pip install 'waooaw-actors[{name}]'"


def _checked_level(level: int, highest: int) -> int:
    if not 1 <= level <= highest:
        raise ValueError(f"level must be from 1 to {highest}, not {level}")
    return level
