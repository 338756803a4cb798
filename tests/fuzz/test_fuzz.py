"""A short run of the fuzzer, the same each time, and what it has to find. `make fuzz` is the long run."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from functools import partial
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.fuzz.mutate import REGRESSIONS, explore, seeds
from tests.fuzz.run import FOUND, Current, keep, replay, search, watch
from tests.fuzz.target import Finding, Target
from transport.wire import Wire

INPUTS = 8_000  # 0.8 s


def fates() -> list[str]:
    return list(islice(explore(Target().check, seed=3), INPUTS))


def test_no_bytes_break_a_wire() -> None:
    met = fates()
    assert sum(fate.startswith("read") for fate in met) > INPUTS / 10, "hardly any gets past the checks"
    assert len(set(met)) > 200, "few of the checks are met"


def test_what_was_found_once_is_looked_at_again() -> None:
    found = [path.read_bytes() for path in REGRESSIONS.glob("*.bin")]
    assert found
    assert set(found) <= set(seeds())


def encode_without_causation(wire: Wire, envelope: Any, **options: Any) -> bytes:
    return ENCODE(wire, msgspec.structs.replace(envelope, causation_id=None), **options)


ENCODE = Wire.encode


def die(current: Current) -> None:
    current.put(b"the last words")
    os.kill(os.getpid(), signal.SIGKILL)


def hang(current: Current) -> None:
    current.put(b"the last words")
    threading.Event().wait()


def fail(current: Current) -> None:
    raise LookupError("not a finding")


@pytest.mark.parametrize(
    ("place", "bug", "finding"),
    [
        ("transport.wire.Malformed", (msgspec.MsgspecError, RecursionError), "decode raises UnicodeDecodeError"),
        ("transport.keys.Keys.verify", lambda *_: True, "a frame that is not signed is read"),
        ("transport.wire.header_size", lambda _: 0, r"a frame of \d+ bytes with a payload of \d+ is read"),
        ("transport.codec.MessagePack._check", lambda *_: None, "a payload of depth 33 is read"),
        ("transport.compression.RATIO", inf, "a payload of .* is read"),
        ("transport.wire.detail", lambda error: repr(error)[:150], "an error that repeats the payload"),
        ("transport.wire.Wire.encode", encode_without_causation, "what was read, sent and read again says"),
        ("tests.fuzz.target.TIME", 0.0, "decode takes .* of CPU"),
    ],
)
def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch, place: str, bug: Any, finding: str) -> None:
    monkeypatch.setattr(place, bug)
    with pytest.raises(Finding, match=finding):
        fates()


@pytest.mark.parametrize(
    ("run", "says"),
    [(die, "FOUND: the process ended by SIGKILL\n"), (hang, "FOUND: an input that takes more than 0.3 s\n")],
)
def test_the_input_outlives_the_process(
    run: Callable[[Current], None], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert watch(run, stuck=0.3) == b"the last words"
    assert capfd.readouterr().out == says


def test_an_error_of_the_fuzzer_is_no_finding(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="the fuzzer itself failed"):
        watch(fail)
    assert "LookupError: not a finding" in capfd.readouterr().err


def test_a_run_says_what_it_met(capfd: pytest.CaptureFixture[str]) -> None:
    assert watch(partial(search, seconds=0.1, seed=1)) is None
    assert re.search(r"\d s: [\d,]+ inputs, [\d,]+/s, \d+ fates\n +\d+\.\d%  ", capfd.readouterr().out)


def test_a_finding_is_kept_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: what is planted is not in another."""
    monkeypatch.setattr("transport.keys.Keys.verify", lambda *_: True)
    current = Current()
    with pytest.raises(SystemExit) as ended:
        search(current, seconds=60.0, seed=1)
    assert ended.value.code == FOUND
    path = keep(current.data, tmp_path / "regressions")
    with pytest.raises(SystemExit) as ended:
        replay(Current(), [path])
    assert ended.value.code == FOUND
    monkeypatch.undo()
    replay(Current(), [path])
    found, again, mended = capsys.readouterr().out.splitlines()
    assert found == "FOUND: a frame that is not signed is read by one that has keys"
    assert again == f"{path}: {found}"
    assert mended.startswith(f"{path}: read wire.Note")
