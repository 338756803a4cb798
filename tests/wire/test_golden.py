"""What earlier releases wrote is read for ever: golden/ holds frames, and what each was written to say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.wire import make_golden, reader, rows
from transport.address import Address
from transport.wire import Wire

FILES: Final = {path.stem: json.loads(path.read_text()) for path in sorted(rows.GOLDEN.glob("*.json"))}
FRAMES: Final = [
    pytest.param(row, file["keys"], id=f"{release}-{row['name']}")
    for release, file in FILES.items()
    for row in file["frames"]
]


@pytest.mark.parametrize(("row", "secrets"), FRAMES)
def test_a_frame_of_an_earlier_release_is_read(row: dict[str, Any], secrets: dict[str, str]) -> None:
    content = rows.content_of(row)
    message = rows.message_of(content.type, row["message"])
    reads = Wire(keys=rows.keys_of(row["keys"], secrets))
    envelope, reply_to = reads.decode(bytes.fromhex(row["frame"]), at=Address(row["at"]), now=100.0)
    rows.assert_same(envelope, rows.envelope_of(content, message, now=100.0))
    assert reply_to == content.reply_to


@pytest.mark.parametrize(("row", "secrets"), FRAMES)
def test_a_frame_of_an_earlier_release_is_what_the_document_says(row: dict[str, Any], secrets: dict[str, str]) -> None:
    keys = {name: bytes.fromhex(secrets[name]) for name in row["keys"]}
    kinds = {row["content"]["type"]: lambda _: True}
    content, _ = reader.read(bytes.fromhex(row["frame"]), at=row["at"], types=kinds, keys=keys)
    assert content == rows.content_of(row)


def test_the_first_release_wrote_each_codec_in_each_way() -> None:
    ways = {"plain", "gzip", "zstd", "lz4", "signed", "zstd-signed"}
    names = [row["name"] for row in FILES["0.1.0"]["frames"]]
    assert sorted(names) == sorted(f"{codec}-{way}" for codec in ("msgpack", "json", "protobuf") for way in ways)
    for row in FILES["0.1.0"]["frames"]:
        assert (row["content"]["compression"] or "plain") in row["name"].replace("-signed", "-plain")
        assert bool(row["keys"]) == ("signed" in row["name"])


def test_golden_frames_are_never_written_again(tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    make_golden.write(path)
    written = path.read_bytes()
    assert len(json.loads(written)["frames"]) == len(FILES["0.1.0"]["frames"])
    path.write_bytes(written[:-1])
    with pytest.raises(FileExistsError):
        make_golden.write(path)
    assert path.read_bytes() == written[:-1]
