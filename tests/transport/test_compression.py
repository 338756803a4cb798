"""Compression: what is packed comes back, and no bytes take more room than they were allowed."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lz4.frame  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transport.compression import LZ4, RATIO, Compression, Gzip, Zstd, compression
from transport.errors import DecodeError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMIT = 256 * 1024
EACH = pytest.mark.parametrize("name", ["gzip", "zstd", "lz4"])
EVERY = [*((Gzip, level) for level in range(1, 10)), *((Zstd, level) for level in range(1, 20))]
TEXT = b'{"order": 7, "customer": "Ada", "lines": [{"article": "B-1", "price": 19.9}, {"article": "B-2", "price": 3}]}'

payloads = st.binary(max_size=200) | st.builds(lambda some, n: some * n, st.binary(max_size=60), st.integers(1, 4000))


def packed(name: str, data: bytes = TEXT) -> bytes:
    return compression(name).compress(data)


def refusal(name: str, data: bytes, limit: int = LIMIT) -> str:
    """Why `data` is refused; empty where it is not, and then it is as small as it has to be."""
    try:
        output = compression(name).decompress(data, limit)
    except DecodeError as refused:
        error = refused
    else:
        assert type(output) is bytes
        assert len(output) <= min(limit, RATIO * len(data))
        return ""
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    assert 0 < len(str(error)) < 150
    return str(error)


# What goes in comes out.


@EACH
@given(data=payloads)
@example(b"")
@example(random.Random(1).randbytes(300_000))  # several blocks of each, that do not pack
@example(TEXT * 3_000)
def test_what_is_packed_comes_back_whole_or_is_refused_for_its_ratio(name: str, data: bytes) -> None:
    pack = packed(name, data)
    if len(data) <= RATIO * len(pack):
        assert compression(name).decompress(pack, len(data)) == data
    else:
        assert f"more than 100 times its {len(pack)} bytes" in refusal(name, pack, len(data))


@pytest.mark.parametrize(("kind", "level"), EVERY)
def test_every_level_packs_what_is_read_and_always_the_same(kind: type[Gzip | Zstd], level: int) -> None:
    first, second = kind(level), kind(level)
    for data in (TEXT, TEXT * 20, random.Random(1).randbytes(70_000), TEXT):
        pack = first.compress(data)
        assert first.decompress(pack, len(data)) == data
        assert second.compress(data) == pack


@pytest.mark.parametrize("large", [Gzip(9), Zstd(19), LZ4()], ids=["gzip", "zstd", "lz4"])
def test_what_is_far_larger_than_a_frame_comes_back(large: Compression) -> None:
    """From level 20 on zstd would have a window of 16 MiB for this, and its own reader would refuse it."""
    data = random.Random(1).randbytes(500_000) * 18
    assert large.decompress(large.compress(data), len(data)) == data


@EACH
def test_other_libraries_read_it(name: str) -> None:
    read: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.decompress,
        "zstd": zstd.decompress,
        "lz4": lz4.frame.decompress,
    }
    assert read[name](packed(name)) == TEXT


def gzip_file() -> bytes:
    with gzip.GzipFile("a name", "wb", mtime=7, fileobj=(file := io.BytesIO())) as writer:
        writer.write(TEXT * 100)
    return file.getvalue()


def zstd_stream(**options: int) -> bytes:
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter[key]: n for key, n in options.items()})
    return b"".join(compressor.compress(TEXT, compressor.FLUSH_BLOCK) for _ in range(100)) + compressor.flush()


def lz4_stream(**options: Any) -> bytes:
    compressor = lz4.frame.LZ4FrameCompressor(**options)
    return bytes(compressor.begin() + compressor.compress(TEXT * 100) + compressor.flush())


def lz4_frame(data: bytes = TEXT * 100, **options: Any) -> bytes:
    return bytes(lz4.frame.compress(data, **options))


FOREIGN = {
    "gzip, with a name and a time": ("gzip", gzip_file()),
    "zstd, a stream of unknown size": ("zstd", zstd_stream()),
    "zstd, a window of 8 MiB": ("zstd", zstd_stream(window_log=23, checksum_flag=1)),
    "lz4, with its size": ("lz4", lz4_frame(store_size=True)),
    "lz4, a checksum per block": ("lz4", lz4_frame(block_checksum=True)),
    "lz4, blocks of their own": ("lz4", lz4_frame(block_linked=False)),
    "lz4, 256 KiB a block": ("lz4", lz4_stream(block_size=lz4.frame.BLOCKSIZE_MAX256KB)),
}


@pytest.mark.parametrize(("name", "data"), FOREIGN.values(), ids=FOREIGN)
def test_what_other_libraries_pack_is_read(name: str, data: bytes) -> None:
    assert compression(name).decompress(data, LIMIT) == TEXT * 100


@EACH
def test_threads_may_share_one(name: str) -> None:
    shared, texts = compression(name), [bytes([n]) * 500 + TEXT * 20 for n in range(32)]
    with ThreadPoolExecutor(4) as pool:
        packs = list(pool.map(shared.compress, texts * 4))
        assert list(pool.map(shared.decompress, packs, [LIMIT] * len(packs))) == texts * 4


# Damage.


@EACH
def test_cut_off_anywhere_it_is_refused(name: str) -> None:
    data = packed(name)
    assert all(refusal(name, data[:end]) for end in range(len(data)))
    assert "is cut off after" in refusal(name, data[:-1])


@EACH
def test_no_damaged_byte_changes_the_payload(name: str) -> None:
    """The checksum sees to it: either the byte said nothing of the payload (the time, in gzip), or it is refused."""
    data, unpacked = packed(name), 0
    for place, byte in enumerate(data):
        for other in range(256):
            damaged = data[:place] + bytes([other]) + data[place + 1 :]
            if other != byte and not refusal(name, damaged):
                assert compression(name).decompress(damaged, LIMIT) == TEXT
                unpacked += 1
    assert unpacked < (7 * 256 if name == "gzip" else 32)


@EACH
@pytest.mark.parametrize("after", [b"\0", b"\n", None], ids=["a zero", "a newline", "a second stream"])
def test_nothing_may_follow(name: str, after: bytes | None) -> None:
    after = after or packed(name)
    assert f"ends {len(after)} bytes before" in refusal(name, packed(name) + after)


STARTS = [b"", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18\x60\x40\x82", *map(packed, ("gzip", "lz4"))]


@EACH
@given(start=st.sampled_from([*STARTS, packed("zstd")]), cut=st.integers(0, 90), rest=st.binary(max_size=60))
def test_any_bytes_unpack_or_are_refused(name: str, start: bytes, cut: int, rest: bytes) -> None:
    refusal(name, start[: len(start) - cut] + rest)


SKIPPABLE = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
MAGIC = b"\x28\xb5\x2f\xfd"
SAMPLES = [b"a sample, number %d of some" % n * 3 for n in range(300)]
REFUSED = {
    "gzip: a zlib stream": ("gzip", zlib.compress(TEXT), "incorrect header check"),
    "gzip: bare deflate": ("gzip", zlib.compress(TEXT, wbits=-15), "not gzip data"),
    "zstd: an empty frame to be skipped": ("zstd", SKIPPABLE, "not zstd data"),
    "lz4: an empty frame to be skipped": ("lz4", SKIPPABLE, "not lz4 data"),
    "zstd: a dictionary": ("zstd", zstd.compress(TEXT, zstd_dict=zstd.train_dict(SAMPLES, 1000)), "Dictionary"),
    "lz4: a dictionary": (
        "lz4",
        b'\x04"M\x18a@\x01\x00\x00\x00\xd0\x0b\x00\x00\x00\x1fx\x01\x00\x19Pxxxxx\x00\x00\x00\x00',
        "needs a dictionary",
    ),
    "lz4: blocks of 1 MiB": (
        "lz4",
        lz4_frame(bytes(1 << 20), block_size=lz4.frame.BLOCKSIZE_MAX1MB),
        "has blocks of 1048576 bytes",
    ),
    "zstd: a window of 9 MiB": ("zstd", MAGIC + b"\0\x69", "too much memory"),
    "zstd: a window of 128 MiB": ("zstd", zstd_stream(window_log=27), "too much memory"),
}


@pytest.mark.parametrize(("name", "data", "why"), REFUSED.values(), ids=REFUSED)
def test_refused_with_a_reason(name: str, data: bytes, why: str) -> None:
    if name == "lz4" and data.endswith(b"Pxxxxx\0\0\0\0"):
        assert lz4.frame.decompress(data) == b"x" * 50, "the library alone would not refuse it"
    assert why in refusal(name, data)


# Limits and bombs.


@EACH
def test_the_limit_is_exact(name: str) -> None:
    for size in (1, 1000, 32 * 1024, 64 * 1024, LIMIT):
        data = random.Random(1).randbytes(size)
        assert compression(name).decompress(packed(name, data), size) == data
        assert f"unpacks to more than {size - 1} bytes" in refusal(name, packed(name, data), size - 1)


def rle(size: int, *, last: bool = False) -> bytes:
    """A block of zstd: `size` zeros in four bytes."""
    return (size << 3 | 2 | last).to_bytes(3, "little") + b"\0"


def gzip_bomb(mebibytes: int) -> bytes:
    compressor = zlib.compressobj(wbits=31)
    head = compressor.compress(b"") + compressor.flush(zlib.Z_FULL_FLUSH)
    body = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return head + body * mebibytes + b"\x03\x00" + bytes(8)


def zstd_bomb(mebibytes: int, header: bytes = b"\0\x68") -> bytes:
    return MAGIC + header + rle(128 * 1024) * (mebibytes * 8 - 1) + rle(128 * 1024, last=True)


def lz4_bomb(mebibytes: int, block_size: int = lz4.frame.BLOCKSIZE_MAX64KB) -> bytes:
    size = 1 << 8 + 2 * block_size
    data = lz4.frame.compress(bytes(size), block_size=block_size, block_linked=False, store_size=False)
    return bytes(data[:7] + data[7:-4] * (mebibytes * (1 << 20) // size) + data[-4:])


def bombs() -> dict[str, tuple[str, bytes]]:
    gib = {"gzip": gzip_bomb(1024), "zstd": zstd_bomb(1024), "lz4": lz4_bomb(1024)}
    found = {f"{name}: 1 GiB of zeros": (name, data) for name, data in gib.items()}
    found |= {f"{name}: the start of 1 GiB of zeros": (name, data[:20_000]) for name, data in gib.items()}
    found |= {
        f"{name} in {outer}": (outer, packed(outer, data[:1_000_000])) for name, data in gib.items() for outer in gib
    }
    for each in range(5, 8):
        found[f"lz4: 16 MiB in blocks of size {each}"] = ("lz4", lz4_bomb(16, each))
    for log in range(31):
        found[f"zstd: a window of 2**{log + 10}"] = ("zstd", zstd_bomb(128, bytes([0, log << 3 | 7])))
    for size in (LIMIT + 1, 1 << 28, (1 << 32) - 1):
        found[f"zstd: claims {size} bytes"] = ("zstd", zstd_bomb(128, b"\xa0" + size.to_bytes(4, "little")))
        found[f"zstd: claims {size} bytes, holds 9"] = ("zstd", MAGIC + b"\xa0" + size.to_bytes(4, "little") + rle(9))
    found["zstd: claims 2**64-1 bytes"] = ("zstd", zstd_bomb(128, b"\xe0" + b"\xff" * 8))
    found["zstd: claims 2**64-1 bytes, in a small window"] = ("zstd", zstd_bomb(128, b"\xc0\x38" + b"\xff" * 8))
    small = lz4.frame.compress(TEXT, store_size=False)
    claims = small[:4] + bytes([small[4] | 8, small[5]]) + (2**63 - 1).to_bytes(8, "little")
    for check in range(256):  # the last byte of a header is its checksum: one of them is right
        found[f"lz4: claims 2**63-1 bytes, {check}"] = ("lz4", claims + bytes([check]) + small[7:])
    return found


MEASURE = """
import resource, sys, msgspec
from transport.compression import RATIO, compression
from transport.errors import DecodeError

def field(name):  # of /proc/self/status, in bytes
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024

corpus = open(sys.argv[1], "rb").read()  # kept, as what is freed would hide as much of what the bombs take
bombs, limit = msgspec.msgpack.decode(corpus, type=tuple[dict[str, tuple[str, bytes]], int])
for name in ("gzip", "zstd", "lz4"):
    compression(name).decompress(compression(name).compress(bytes(1000) + bytes(range(256))), 5000)
room = field("VmSize:") + 32 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (room, room))
before, texts = field("VmRSS:"), {}
for key, (name, data) in bombs.items():
    try:
        texts[key] = str(len(compression(name).decompress(data, limit)))
    except DecodeError as error:
        texts[key] = str(error)
print(field("VmHWM:") - before, msgspec.json.encode(texts).decode())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what C allocates, tracemalloc does not")
def test_no_bomb_takes_room(tmp_path: Path) -> None:
    """In a process of its own, for the whole corpus: its peak, and no more than 32 MiB of address space."""
    corpus = bombs()
    (file := tmp_path / "bombs").write_bytes(msgspec.msgpack.encode((corpus, LIMIT)))
    run = subprocess.run([sys.executable, "-c", MEASURE, file], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    peak, text = run.stdout.split(b" ", 1)
    texts = msgspec.json.decode(text, type=dict[str, str])
    assert texts.keys() == corpus.keys()
    unpacked = {key for key, text in texts.items() if text.isdigit()}
    assert unpacked == set(), "a bomb is not unpacked in part either"
    for name in ("gzip", "zstd", "lz4"):
        assert f"unpacks to more than {LIMIT} bytes" in texts[f"{name}: 1 GiB of zeros"]
        assert f"unpacks to more than {LIMIT} bytes" in texts[f"{name}: the start of 1 GiB of zeros"]
    assert int(peak) < 6 * 2**20


@EACH
def test_the_ratio_holds_whatever_the_limit(name: str) -> None:
    bomb = {"gzip": gzip_bomb, "zstd": zstd_bomb, "lz4": lz4_bomb}[name](1)
    assert "unpacks to more than 100 times" in refusal(name, bomb, 1 << 62)


# Names, levels and packages.


@EACH
def test_a_frame_names_its_compression(name: str) -> None:
    assert compression(name).name == name
    assert compression(name) is compression(name)


@pytest.mark.parametrize(
    "name", ["", "GZIP", "brotli", "\n", "x" * 1000, "\x1b[31m"], ids=lambda name: ascii(name)[:12]
)
def test_an_unknown_name_is_a_decode_error(name: str) -> None:
    with pytest.raises(DecodeError, match=r"^unknown compression '.*('|\.\.\.): known are gzip, zstd, lz4$") as caught:
        compression(name)
    assert len(str(caught.value)) < 120
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("kind", "highest"), [(Gzip, 9), (Zstd, 19)])
def test_a_level_there_is_not(kind: type[Gzip | Zstd], highest: int) -> None:
    for level in (-1, 0, highest + 1):
        with pytest.raises(ValueError, match=f"level must be from 1 to {highest}, not {level}"):
            kind(level)


WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(["lz4", "lz4.frame", "compression.zstd", "backports.zstd"]))  # None: no import
from transport.compression import LZ4, Gzip, Zstd, compression
from transport.errors import DecodeError
for kind in (Gzip, Zstd, LZ4):
    for make in (kind, lambda: compression(kind.name)):
        try:
            print(make().decompress(Gzip().compress(b"unpacked"), 8).decode())
        except (ImportError, DecodeError) as error:
            print(type(error).__name__, error)
"""


def test_a_missing_package_is_named() -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    missing = "{0} compression is not installed: pip install 'waooaw-actors[{0}]'"
    assert run.stdout.splitlines() == [
        "unpacked",
        "unpacked",
        "ImportError " + missing.format("zstd"),
        "DecodeError " + missing.format("zstd"),
        "ImportError " + missing.format("lz4"),
        "DecodeError " + missing.format("lz4"),
    ]
