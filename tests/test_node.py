"""The node: its file with everything that can be wrong in it, its life as a real process, its logs."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from actors import Actor, Message, TransportLost, handles
from actors.config import (
    ActorTable,
    BackoffTable,
    LogTable,
    Node,
    NodeTable,
    PoolTable,
    RedisTable,
    SupervisorTable,
    WireTable,
    load,
)
from actors.events import ActorStopped, Event
from actors.logs import escape, set_up_logs
from actors.node import BAD_CONFIG, FAILED, FINISHED, HUNG, TRANSPORTS, app, serve
from actors.toml import ConfigError
from transport.errors import mask
from transport.memory import MemoryTransport

ROOT = Path(__file__).parent.parent

# The shop: modules for the nodes of these tests, good and faulty ----------------------------------------------

SHOP = {
    "__init__.py": "",
    "desk.py": '''
        """Good actors, and what might be taken for one."""
        from actors import Actor, Message, Terminated, handles

        class Order(Message[None]):
            customer: str

        class Close(Message[None]):
            pass

        class Desk(Actor):
            def __init__(self, city: str, seats: int = 1, *, open: bool = True) -> None:
                pass

            @handles(Order)
            async def order(self, message: Order) -> None: ...

            @handles(Terminated)
            async def terminated(self, message: Terminated) -> None: ...

        class Till(Desk):
            @handles(Close)
            async def close(self, message: Close) -> None: ...

        class Picky(Actor):
            def __init__(self, *, name: str) -> None: ...

        class Lamp: ...
        desk = Desk("Ulm")
    ''',
    "raises.py": "\nfrom shop import desk\nraise ValueError('redis://joe:secret@host\\nis down')\n",
    "syntax.py": "def f(:\n",
    "needs.py": "import not_installed_anywhere\n",
    "circle.py": "from shop import circle_back\nDesk = 1\n",
    "circle_back.py": "from shop.circle import Desk\n",
    "exits.py": "import sys\nsys.exit('bye')\n",
    "clash.py": """
        from actors import Message
        class One(Message[None], wire_name="shop.one"): ...
        class Two(Message[None], wire_name="shop.one"): ...
    """,
}


def write(folder: Path, modules: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in modules.items():
        first, *rest = text.split("\n")
        indent = min((len(line) - len(line.lstrip()) for line in rest if line.strip()), default=0)
        (folder / name).write_text("\n".join([first, *(line[indent:] for line in rest)]))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the shop that modules are imported from, forgotten afterwards."""
    write(tmp_path / "shop", SHOP)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


def node_of(folder: Path, text: str) -> Node:
    file = folder / "node.toml"
    file.write_text(text)
    return load(file, TRANSPORTS)


def child(more: str = "", actor: str = "shop.desk:Desk", args: str = 'args = ["Ulm"]') -> str:
    return f'[[children]]\nname = "desk"\nactor = "{actor}"\n{args}\n{more}\n'


SUPERVISOR = '[[children]]\nname = "crew"\n'
MEMBER = '[[children.children]]\nname = "desk"\nactor = "shop.desk:Desk"\nargs = ["Ulm"]\n'

REDIS = "transport = 'redis://h'\n[redis]\n"
WIRE = "transport = 'redis://h'\n[wire]\n"

WRONG = [
    # The file itself
    ("name = ", "node.toml:1: is not TOML: Invalid value"),
    ("\n\nimports = [\n  'a',\n", "node.toml:3: is not TOML: "),
    ("a = 1\na b\n", "node.toml:2: is not TOML: "),
    ("x = " + "[" * 100_000, "node.toml: is not TOML: nested too deeply"),
    # Keys
    ("", "node.toml: 'children' is missing"),
    ("children = []", "node.toml:1: children: expected an array of length >= 1, not []"),
    ("nod = 'a'", "node.toml:1: nod: unknown key; did you mean 'node'?"),
    ("\n# here\nquite_wrong = 1\n", "node.toml:3: quite_wrong: unknown key; there is namespace, node, transport,"),
    ("[log]\nlevle = 'info'", "node.toml:2: log.levle: unknown key; did you mean 'level'?"),
    (child("strateggy = 1"), "node.toml:5: children[0].strateggy: unknown key; "),
    (SUPERVISOR + "[[children.childs]]\n", "node.toml:3: children[0].childs: unknown key; there is name, restart,"),
    (child("backoff = {initial = 1, end = 2}"), "node.toml:5: children[0].backoff.end: unknown key; there is initial"),
    (
        child() + "[[children]]\nname = 'b'\n",
        "node.toml:6: children[1]: 'actor' is missing; with size a child is a pool",
    ),
    ("[[children]]\nactor = 'a:B'", "node.toml:1: children[0]: 'name' is missing"),
    # Types and values
    ("period = 'x'", "node.toml:1: period: expected a number, got a string"),
    ("period = 0", "node.toml:1: period: expected a number > 0.0, not 0"),
    ("drain = nan", "node.toml:1: drain: expected a number >= 0.0, not nan"),
    ("shutdown = inf", "node.toml:1: shutdown: expected a number <= 86400.0, not inf"),
    ("capacity = true", "node.toml:1: capacity: expected an integer, got a boolean"),
    ("imports = 'os'", "node.toml:1: imports: expected an array, got a string"),
    ("imports = [\n'os',\n3]", "node.toml:1: imports[1]: expected a string, got an integer"),
    ("children = [3]", "node.toml:1: children[0]: expected a table, got an integer"),
    ("[log]\nlevel = 'loud'", "node.toml:2: log.level: cannot be 'loud'; there is debug, info, warning, error, "),
    ("[log]\nformat = 'yson'", "node.toml:2: log.format: cannot be 'yson'; did you mean 'json'?"),
    ("overflow = 'drop'", "node.toml:1: overflow: cannot be 'drop'; there is block, reject, drop_oldest, drop_lowest"),
    (
        child("restart = 'permanet'"),
        "node.toml:5: children[0].restart: cannot be 'permanet'; did you mean 'permanent'?",
    ),
    (child("size = 0"), "node.toml:5: children[0].size: expected an integer >= 1, not 0"),
    (child("backoff = {initial = 9, cap = 1}"), "node.toml:5: children[0].backoff: BackoffTable(initial=9.0, cap=1.0"),
    (
        SUPERVISOR + "strategy = 'one_for_al'\n" + MEMBER,
        "node.toml:3: children[0].strategy: cannot be 'one_for_al'; did you mean 'one_for_all'?",
    ),
    (SUPERVISOR + "children = []", "node.toml:3: children[0].children: expected an array of length >= 1, not []"),
    (SUPERVISOR + "intensity = -1\n" + MEMBER, "node.toml:3: children[0].intensity: expected an integer >= 0, not -1"),
    # Names
    (child().replace('"desk"', '"a desk"'), "node.toml:2: children[0].name: not a name for an actor: 'a desk'; names"),
    (child().replace('"desk"', f'"{"a" * 200}"'), "children[0].name: "),
    ("node = 'a/b'\n" + child(), "node.toml:1: node: not a name for an actor: 'a/b'"),
    ("namespace = ''\n" + child(), "node.toml:1: namespace: not a name for an actor: ''"),
    (child() + child(), "node.toml:7: children[1].name: /desk is the address of another child; choose another name"),
    (
        SUPERVISOR + MEMBER + MEMBER,
        "node.toml:8: children[0].children[1].name: /crew/desk is the address of another child; choose another name",
    ),
    # The transport
    (
        "transport = 'kafka://u:secret@h'\n" + child(),
        "node.toml:1: transport: there is no transport for kafka://; the URL",
    ),
    ("transport = 'secret'\n" + child(), "node.toml:1: transport: not a URL; it begins with memory:// or redis://"),
    ("transport = 'memory://x'\n" + child(), "node.toml:1: transport: memory:// takes nothing more"),
    (
        "transport = 'redis://:secret/h'\n" + child(),
        "node.toml:1: transport: not a URL that redis-py takes: after redis:// come user:password@",
    ),
    (
        "transport = 'rediss://h?secret=1'\n" + child(),
        "node.toml:1: transport: not a URL that redis-py takes: after redis:// come user:password@",
    ),
    (
        "[redis]\nlease = 30\n" + child(),
        "node.toml:1: redis: has no effect with memory://, which brings messages to no",
    ),
    ("wire = {}\n" + child(), "node.toml:1: wire: has no effect with memory://, which brings messages to no other pro"),
    (REDIS + "leas = 3\n" + child(), "node.toml:3: redis.leas: unknown key; did you mean 'lease'?"),
    (REDIS + "lease = 4\n" + child(), "node.toml:2: redis: beat is 2.5: at most half the lease of 4.0, or one lost be"),
    (REDIS + "partitions = 0\n" + child(), "node.toml:3: redis.partitions: expected an integer >= 1, not 0"),
    (REDIS + "namespace = 'a{b}'\n" + child(), "node.toml:3: redis.namespace: not a name for an actor: 'a{b}'"),
    (
        REDIS + "guarantee = 'unsafe'\n" + child(),
        "node.toml:3: redis.guarantee: cannot be 'unsafe'; there is fast, durable, replicated",
    ),
    (WIRE + "codec = 'pickle'\n" + child(), "node.toml:3: wire.codec: cannot be 'pickle'; there is msgpack, json"),
    (
        WIRE + "compression = 'zst'\n" + child(),
        "node.toml:3: wire.compression: cannot be 'zst'; did you mean 'zstd'?",
    ),
    (WIRE + "threshold = -1\n" + child(), "node.toml:3: wire.threshold: expected an integer >= 0, not -1"),
    (WIRE + "frame = 0\n" + child(), "node.toml:3: wire.frame: expected an integer >= 1, not 0"),
    (
        WIRE + "keys_file = '/none/keys'\n" + child(),
        "node.toml:3: wire.keys_file: /none/keys: the file of keys cannot be read, No such file or directory; check",
    ),
    (
        WIRE + "keys_file = 'a'\nkeys_env = 'B'\n" + child(),
        "node.toml:4: wire.keys_env: has no effect beside keys_file; keep one of them",
    ),
    # Modules
    (
        "imports = ['shop.desk', 'shop/desk']\n" + child(),
        "node.toml:1: imports[1]: 'shop/desk' is not the name of a mod",
    ),
    ("imports = ['.desk']\n" + child(), "imports[0]: '.desk' is not the name of a module, such as shop.desk"),
    ("imports = ['shp']\n" + child(), "imports[0]: no module named 'shp'; start in the folder that holds it, or set P"),
    (child(actor="shop.dsk:Desk"), "node.toml:3: children[0].actor: no module named 'shop.dsk'; start in the folder"),
    (
        child(actor="shop.raises:Desk"),
        "children[0].actor: importing shop.raises failed with ValueError: redis://joe:***@host is down (",
    ),
    (child(actor="shop.raises:Desk"), f"shop{os.sep}raises.py:3)"),
    (child(actor="shop.syntax:Desk"), "importing shop.syntax failed with SyntaxError: "),
    (child(actor="shop.syntax:Desk"), "(syntax.py, line 1)"),
    (child(actor="shop.needs:Desk"), "failed with ModuleNotFoundError: No module named 'not_installed_anywhere' ("),
    (child(actor="shop.circle:Desk"), "failed with ImportError: cannot import name 'Desk' from partially initialized"),
    (child(actor="shop.exits:Desk"), "importing shop.exits failed with SystemExit: bye ("),
    (
        "imports = ['shop.clash']\n" + child(),
        "importing shop.clash failed with TypeError: shop.clash.Two: the wire name",
    ),
    # Classes and their arguments
    (
        child(actor="shop.desk"),
        "node.toml:3: children[0].actor: 'shop.desk' is not module:Class, such as shop.desk:Desk",
    ),
    (child(actor="shop.desk:Dsk"), "children[0].actor: shop.desk has no 'Dsk'; did you mean 'Desk'?"),
    (child(actor="shop:Desk"), "children[0].actor: shop has no 'Desk'; there is none"),
    (child(actor="shop.desk:Lamp"), "children[0].actor: shop.desk:Lamp is not a class derived from Actor"),
    (child(actor="shop.desk:desk"), "children[0].actor: shop.desk:desk is not a class derived from Actor"),
    (
        child(args=""),
        "node.toml:3: children[0].actor: Desk(city, seats=1, *, open=True) does not take these arguments: missing a",
    ),
    (child(args="args = [1, 2, 3]"), "node.toml:4: children[0].args: Desk(city, seats=1, *, open=True) does not take"),
    (
        child("kwargs = {sets = 3}"),
        "node.toml:5: children[0].kwargs: Desk(city, seats=1, *, open=True) does not take these arguments: got an unex",
    ),
    (
        child(actor="shop.desk:Picky", args="kwargs = {name = 'x'}"),
        "node.toml:4: children[0].kwargs.name: every child has an option name; Picky must take it by position too",
    ),
    # What contradicts itself
    (
        SUPERVISOR + "auto_shutdown = 'any_significant'\n" + MEMBER + "significant = true\n",
        "node.toml:4: children[0].children[0]: Desk is significant but PERMANENT, so it never finishes: make it TRA",
    ),
    (
        child("significant = true\nrestart = 'transient'"),
        'node.toml:5: children[0].significant: has no effect while auto_shutdown of its supervisor is "never"',
    ),
    (
        child("size = 2\nrouting = 'consistent_hash'"),
        "node.toml:6: children[0].routing: needs a key: the name of a field",
    ),
    (child("size = 2\nkey = 'customer'"), 'children[0].key: has no effect without routing = "consistent_hash"'),
    (
        child("size = 2\nrouting = 'consistent_hash'\nkey = 'custommer'"),
        "node.toml:7: children[0].key: Order, which Desk handles, has no field 'custommer'; did you mean 'customer'?",
    ),
    (
        child("size = 2\nrouting = 'consistent_hash'\nkey = 'customer'", actor="shop.desk:Till"),
        "children[0].key: Close, which Till handles, has no field 'customer'; there is none",
    ),
]


@pytest.mark.parametrize(("text", "line"), WRONG, ids=[f"{n}-{line[:60]}" for n, (_, line) in enumerate(WRONG)])
def test_a_wrong_file_is_one_line_that_says_where_and_what(folder: Path, text: str, line: str) -> None:
    (folder / "node.toml").write_text(text)
    result = CliRunner().invoke(app, ["--check", str(folder / "node.toml")])
    assert line in result.stderr
    assert result.stderr.startswith(f"{folder}{os.sep}node.toml:")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://joe:secret@h", "ACTORS_REDIS_URL, which is set, has no URL that begins with redis:// or rediss://"),
        (
            "redis://joe:sec/secret@h",
            "ACTORS_REDIS_URL, which is set, is not a URL that redis-py takes: after redis:// come user:pass",
        ),
    ],
)
def test_a_wrong_url_of_the_environment_is_blamed_on_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, url: str, problem: str
) -> None:
    monkeypatch.setenv("ACTORS_REDIS_URL", url)
    (folder / "node.toml").write_text("transport = 'redis://h'\n" + child())
    result = CliRunner().invoke(app, [str(folder / "node.toml")])
    assert result.stderr.startswith(f"{folder}{os.sep}node.toml:1: transport: {problem}")
    assert (result.exit_code, "secret" in result.stderr, result.stderr.count("\n")) == (2, False, 1)


def test_keys_that_the_environment_does_not_have_are_missing(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"3: wire\.keys_env: environment variable ACTORS_NO_KEYS is not set; set it"):
        node_of(folder, WIRE + "keys_env = 'ACTORS_NO_KEYS'\n" + child())


def test_without_the_extra_the_file_is_wrong(folder: Path) -> None:
    (folder / "redis.py").write_text("raise ModuleNotFoundError('No module named redis', name='redis')")
    (folder / "node.toml").write_text("transport = 'redis://h'\n" + child())
    result = subprocess.run(
        [sys.executable, "-m", "actors.node", "--check", "node.toml"], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}, check=False,
    )  # fmt: skip
    assert result.stderr == ("node.toml:1: transport: redis:// needs an extra: pip install 'waooaw-actors[redis]'\n")
    assert (result.returncode, result.stdout) == (2, "")


def test_a_node_of_one_process_loads_nothing_of_redis(folder: Path) -> None:
    (folder / "node.toml").write_text(child())
    program = (
        "import sys; from pathlib import Path; from actors.config import load; from actors.node import TRANSPORTS\n"
        "load(Path('node.toml'), TRANSPORTS); assert 'redis' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, check=True)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"node = '\xff'", "is not UTF-8: invalid start byte at byte 8"),
        ("\ufeffnode = 'a'".encode(), "'children' is missing"),  # what some editors write first is not held against it
    ],
)
def test_a_file_that_is_no_text_is_one_line(tmp_path: Path, content: bytes | None, problem: str) -> None:
    file = tmp_path / "node.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(file, TRANSPORTS)
    assert str(caught.value) == f"{file}: {problem}"


def test_an_error_never_moves_the_cursor_or_breaks_its_line(folder: Path) -> None:
    (folder / "node.toml").write_text('"a\\nb\\u001b[2J\\u202e" = 1\n' + child())
    result = CliRunner().invoke(app, [str(folder / "node.toml")])
    assert result.stderr.startswith(f"{folder}{os.sep}node.toml:1: a\\x0ab\\x1b[2J\\u202e: unknown key; there is ")
    assert result.stderr.count("\n") == 1


def test_the_line_is_found_behind_strings_that_look_like_toml(folder: Path) -> None:
    text = (
        child("kwargs = {}")
        + """
[[children]]
name = "other"
# name = "desk"
args = [
  '''
[[children]]
restart = "wrong"
''',
]
actor = "shop.desk:Desk"
restart = "wrong"
"""
    )
    for newline in ("\n", "\r\n"):
        (folder / "node.toml").write_text(text, newline=newline)
        with pytest.raises(ConfigError, match=r"node\.toml:17: children\[1\]\.restart: cannot be 'wrong'"):
            load(folder / "node.toml", TRANSPORTS)


TREE = """
namespace = "shop"
node = "shop-1"
imports = ["shop.desk"]
[[children]]
name = "crew"
strategy = "rest_for_one"
auto_shutdown = "all_significant"
  [[children.children]]
  name = "tills"
  actor = "shop.desk:Desk"
  args = ["Ulm"]
  size = 3
  routing = "consistent_hash"
  key = "customer"
  [[children.children]]
  name = "desk"
  actor = "shop.desk:Desk"
  kwargs = { city = "Ulm", seats = 3 }
  restart = "transient"
  significant = true
  backoff = { initial = 0.5, cap = 2 }
[[children]]
name = "spare"
actor = "shop.desk:Desk"
args = ["Ulm"]
shutdown = inf
size = 2
routing = "least_loaded"
"""


def test_check_prints_the_tree_and_starts_nothing(folder: Path) -> None:
    (folder / "node.toml").write_text(TREE)
    result = CliRunner().invoke(app, ["--check", str(folder / "node.toml")])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "node shop-1 in shop, by memory://",
        "  crew  supervisor  strategy = rest_for_one, auto_shutdown = all_significant",
        "    tills  3 x shop.desk:Desk  routing = consistent_hash, key = customer",
        "    desk  shop.desk:Desk  restart = transient, backoff = {initial = 0.5, cap = 2.0}, significant = True",
        "  spare  2 x shop.desk:Desk  shutdown = inf, routing = least_loaded",
    ]


def test_the_file_becomes_recipes_in_its_order(folder: Path) -> None:
    node = node_of(folder, TREE)
    assert [str(each.address) for child in node.children for _, each in child.walk()] == [
        "/crew",
        "/crew/tills",
        "/crew/desk",
        "/spare",
    ]
    desk = node.children[0].children[1].spec
    assert (desk.args, desk.kwargs, desk.significant) == (("Ulm", 3), None, True)
    assert desk.backoff == BackoffTable(initial=0.5, cap=2.0)


@pytest.mark.parametrize("example", ["node.toml", "code_review/node.toml"])
def test_the_examples_are_right(example: str) -> None:
    load(ROOT / "examples" / example, TRANSPORTS)


def test_the_manual_names_every_key_event_and_exit_code() -> None:
    manual = (ROOT / "docs" / "operations.md").read_text()
    tables = (NodeTable, LogTable, RedisTable, WireTable, ActorTable, PoolTable, SupervisorTable)
    for key in {key for table in tables for key in table.__struct_fields__} - {"log", "redis", "wire"}:
        assert re.search(rf"^\|.*`(log\.)?{key}`.*\|", manual, re.MULTILINE), key
    source = (ROOT / "actors" / "node.py").read_text()
    for event in re.findall(r'\.(?:info|warning|error|critical)\("(node [^"]+)"', source) + [
        event.text for event in Event.__subclasses__()
    ]:
        assert f"`{event}`" in manual
    for code in (FINISHED, FAILED, BAD_CONFIG, HUNG):
        assert f"\n| {code} |" in manual


# A life as a process -----------------------------------------------------------------------------------------

LIFE = {
    "life.py": '''
        """What real nodes run."""
        import threading
        from pathlib import Path
        import anyio
        import structlog
        from actors import Actor, Message, handles

        log = structlog.get_logger()

        class Work(Message[None]):
            number: int

        class Done(Message[None]):
            pass

        class Worker(Actor):
            """Tells the source of each message done. At the message `at` it gets stuck in the way that `how` says."""

            def __init__(self, at: int, how: str) -> None:
                self.at, self.how, self.handled = at, how, 0

            @handles(Work)
            async def work(self, message: Work) -> None:
                if message.number == self.at:
                    log.info("busy")
                    await getattr(self, self.how)()
                self.handled += 1
                await anyio.lowlevel.checkpoint()  # 500 rounds of the event loop, so that a stop comes in between
                await self.system.ref("/source", Source).tell(Done())

            async def on_stop(self, reason: str) -> None:
                log.info("worker stopped", handled=self.handled)

            async def until_told(self) -> None:
                await anyio.to_thread.run_sync(Path("gate").read_bytes)  # a pipe: until the test opens it

            async def for_ever(self) -> None:
                await anyio.sleep_forever()

            async def blocking(self) -> None:
                await anyio.to_thread.run_sync(threading.Event().wait)  # nothing can cancel this

            async def failing(self) -> None:
                raise ConnectionError("redis://joe:secret@host is down\\n\\x1b[2J")

        class Source(Actor):
            def __init__(self, messages: int, worker: str = "/worker") -> None:
                self.messages, self.worker, self.done = messages, worker, 0

            async def on_start(self) -> None:
                for number in range(self.messages):
                    await self.system.ref(self.worker, Worker).tell(Work(number=number))

            @handles(Done)
            async def count(self, message: Done) -> None:
                self.done += 1

            async def on_stop(self, reason: str) -> None:
                log.info("source stopped", done=self.done)

        class Sleeper(Actor):
            async def on_start(self) -> None:
                log.info("starting")
                await anyio.sleep_forever()
    ''',
    "slow.py": '''
        import sys
        print("importing", file=sys.stderr, flush=True)
        open("gate").read()
    ''',
}  # fmt: skip


class Process:
    """`python -m actors.node` in a folder, and the JSON lines that it logs."""

    def __init__(self, folder: Path, text: str, *options: str) -> None:
        write(folder, LIFE)
        os.mkfifo(folder / "gate")
        (folder / "node.toml").write_text(text)
        self.log: list[dict[str, Any]] = []
        self.other: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "actors.node", "node.toml", *options],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with self.process:
            pass

    def until(self, *events: str) -> None:
        """Read on until each of these has been logged; a line that is no JSON is an event of its own."""
        missing = set(events)
        for line in self.lines():
            missing.discard(line)
            if not missing:
                return
        raise AssertionError(f"{missing} never logged, but {self.log} and {self.other}")

    def ends(self) -> int:
        """Read on to the end, and return the exit code."""
        for _ in self.lines():
            pass
        return self.process.wait()

    def lines(self) -> Iterator[str]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith("{"):
                self.log.append(json.loads(line))
                yield self.log[-1]["event"]
            else:
                self.other.append(line)
                yield line.strip()

    def told(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]


def busy(how: str, **settings: float) -> str:
    """A worker that gets stuck at the tenth of 500 messages."""
    return "\n".join([*(f"{key} = {value}" for key, value in settings.items()), f"""
        node = "busy"
        [[children]]
        name = "worker"
        actor = "life:Worker"
        args = [9, "{how}"]
        shutdown = 60
        [[children]]
        name = "source"
        actor = "life:Source"
        args = [500]
    """])  # fmt: skip


def test_sigterm_in_the_middle_of_work_drains_and_stops_in_order(tmp_path: Path) -> None:
    with Process(tmp_path, busy("until_told", drain=60, shutdown=60), "--log-level", "debug") as node:
        node.until("node ready", "busy")
        node.process.send_signal(signal.SIGTERM)
        node.until("node stopping, a second signal kills it")
        assert {"signal": "SIGTERM", "actors": 2, "waiting": 490}.items() <= node.log[-1].items()
        (tmp_path / "gate").write_bytes(b"")
        assert node.ends() == 0
        assert node.told("worker stopped")[0]["handled"] == 500
        assert node.told("source stopped")[0]["done"] == 500  # though it is the first to be stopped: that is the drain
        assert [line["address"] for line in node.told("actor stopped")] == ["/source", "/worker"]
        assert {"reason": "asked to stop", "exit_code": 0, "dead_letters": {}}.items() <= node.log[-1].items()
        assert node.other == []


def test_who_does_not_stop_within_the_deadline_is_killed_and_every_message_is_accounted_for(tmp_path: Path) -> None:
    with Process(tmp_path, busy("for_ever", shutdown=0.1)) as node:
        node.until("node ready", "busy")
        node.process.send_signal(signal.SIGINT)
        assert node.ends() == 0
        assert node.told("node did not stop in time, killing")[0]["actors"] == ["/source", "/worker"]
        assert node.told("worker stopped")[0]["handled"] == 9
        assert node.log[-1]["dead_letters"] == {"killed": 1, "stopped": 490}


def test_what_cannot_be_killed_ends_with_the_process_and_is_shown(tmp_path: Path) -> None:
    with Process(tmp_path, busy("blocking", shutdown=0.1)) as node:
        node.until("node ready", "busy")
        node.process.send_signal(signal.SIGTERM)
        assert node.ends() == 137
        assert any("threading.py" in line for line in node.other)  # where the thread waits


def test_a_second_signal_kills(tmp_path: Path) -> None:
    with Process(tmp_path, busy("for_ever", shutdown=60)) as node:
        node.until("node ready", "busy")
        node.process.send_signal(signal.SIGTERM)
        node.until("node stopping, a second signal kills it")
        node.process.send_signal(signal.SIGINT)
        assert node.ends() == -signal.SIGINT
        assert {"signal": "SIGINT", "actors": 2, "waiting": 490}.items() <= node.log[-1].items()
        assert node.log[-1]["event"] == "node killed"


def test_a_node_whose_log_is_gone_goes_on_and_stops_in_order(tmp_path: Path) -> None:
    with Process(tmp_path, busy("until_told", drain=60, shutdown=60)) as node:
        node.until("node ready", "busy")
        assert node.process.stderr is not None
        node.process.stderr.close()
        node.process.send_signal(signal.SIGTERM)
        (tmp_path / "gate").write_bytes(b"")
        assert node.process.wait() == 0


def test_a_signal_while_the_tree_starts_stops_what_has_started(tmp_path: Path) -> None:
    text = busy("until_told") + '[[children]]\nname = "sleeper"\nactor = "life:Sleeper"\n'
    with Process(tmp_path, text) as node:
        node.until("starting")
        (tmp_path / "gate").write_bytes(b"")
        node.process.send_signal(signal.SIGINT)
        assert node.ends() == 0
        assert node.told("node ready") == []
        assert node.told("worker stopped")[0]["handled"] == 500


def test_a_signal_while_modules_are_imported_ends_it_without_a_word(tmp_path: Path) -> None:
    with Process(tmp_path, 'imports = ["slow"]\n' + busy("for_ever")) as node:
        node.until("importing")
        node.process.send_signal(signal.SIGINT)
        assert node.ends() == -signal.SIGINT
        assert node.other == ["importing\n"]


def test_the_root_giving_up_is_exit_code_1(tmp_path: Path) -> None:
    with Process(tmp_path, busy("failing", intensity=0)) as node:
        assert node.ends() == 1
        failed = node.told("node failed")[0]
        assert failed["error"].startswith(
            "RestartIntensityExceeded: /: more than 0 restarts in 5.0 s, the last because "
        )
        assert failed["cause"] == "ConnectionError: redis://joe:***@host is down\n\x1b[2J"
        assert {"reason": "failed", "exit_code": 1}.items() <= node.log[-1].items()
        assert node.log[-1]["dead_letters"]["failed"] == 1
        assert (node.other, "secret" in repr(node.log)) == ([], False)


def test_the_example_finishes_by_itself(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "node.toml").read_text()
    with Process(tmp_path, text.replace("every = 0.2", "every = 0.01")) as node:
        assert node.ends() == 0
        clerks = {(line["customer"], line["clerk"]) for line in node.told("answered")}
        assert len(clerks) == len({customer for customer, _ in clerks}) == 3
        assert len(node.told("answered")) == 7
        assert {"reason": "finished", "exit_code": 0, "dead_letters": {"failed": 3}}.items() <= node.log[-1].items()


def on_a_terminal(folder: Path, *options: str) -> tuple[int, str]:
    """The exit code and what a terminal gets from a node."""
    write(folder, LIFE)
    (folder / "node.toml").write_text(busy("failing", intensity=0))
    terminal, its_end = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [sys.executable, "-m", "actors.node", "node.toml", *options], cwd=folder, stdout=its_end, stderr=its_end,
        env=environment | {"PYTHONPATH": str(ROOT), "TERM": "xterm"},
    )  # fmt: skip
    os.close(its_end)
    shown = ""
    with open(terminal, encoding="utf-8", newline="") as screen, suppress(OSError):  # Linux ends a terminal with EIO
        while part := screen.readline():
            shown += part
    return process.wait(), shown


def test_on_a_terminal_the_tree_has_branches(tmp_path: Path) -> None:
    code, shown = on_a_terminal(tmp_path, "--check")
    assert code == 0
    assert "├── \x1b[1mworker\x1b[0m  life:Worker" in shown


def test_on_a_terminal_the_log_is_for_people_and_obeys_nobody(tmp_path: Path) -> None:
    code, shown = on_a_terminal(tmp_path)
    assert code == 1
    assert "\x1b[1mnode failed" in shown
    assert r"redis://joe:***@host is down\\x0a\\x1b[2J" in shown
    assert "secret" not in shown
    assert "\x1b[2J" not in shown


# A life in this process --------------------------------------------------------------------------------------


class Hurt(Message[None]):
    """Fail."""


class Short(Actor):
    """Does not live long: it ends in the way that `how` says."""

    def __init__(self, how: str) -> None:
        self.how = how

    async def on_start(self) -> None:
        match self.how:
            case "finishes":
                self.stop()
            case "does not start":
                raise ConnectionError("nobody there")
            case "fails":
                await self.ref.tell(Hurt())
            case "breaks the system":
                self.system.subscribe(ActorStopped, self.broken)
                self.stop()
            case "exits":
                await self.ref.tell(Hurt())

    @handles(Hurt)
    async def hurt(self, _: Hurt) -> None:
        raise SystemExit(3) if self.how == "exits" else ValueError("hurt")

    def broken(self, _: ActorStopped) -> None:
        raise ZeroDivisionError("a subscriber of the user's")


class Lost(MemoryTransport):
    """Cannot be opened."""

    async def open(self) -> None:
        raise TransportLost("nobody answers")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("how", "starts", "error", "cause"),
    [
        ("finishes", 1, None, None),
        ("does not start", 0, "SpawnError: Short at /short did not start", "ConnectionError: nobody there"),
        ("fails", 4, "RestartIntensityExceeded: /: more than 3 restarts", "ValueError: hurt"),
        ("breaks the system", 1, "ZeroDivisionError: a subscriber of the user's", None),
        ("exits", None, "SystemExit: 3", None),
        ("has no transport", 0, "TransportLost: nobody answers", None),
    ],
)
async def test_the_log_and_the_exit_code_say_how_it_ended(
    tmp_path: Path, how: str, starts: int | None, error: str | None, cause: str | None
) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        f'[log]\nlevel = "debug"\n[[children]]\nname = "short"\nactor = "{__name__}:Short"\nargs = ["{how}"]\n'
        'restart = "transient"\n'
    )
    transports = {"memory": lambda _: Lost()} if how == "has no transport" else TRANSPORTS
    with structlog.testing.capture_logs() as log:
        code = await serve(load(file, transports))
    assert code == (0 if error is None else 1)
    assert starts in (None, [line["event"] for line in log].count("actor started"))
    failed = [line for line in log if line["event"] == "node failed"]
    assert len(failed) == code
    if error is not None:
        assert failed[0]["error"].startswith(error)
        assert failed[0]["cause"] == cause
        assert failed[0]["exc_info"] == (how in ("breaks the system", "exits"))  # where a bug is
    assert log[-1]["event"] == "node stopped"
    assert log[-1]["reason"] == ("failed" if code else "finished")


@pytest.mark.anyio
async def test_a_node_that_is_cancelled_from_outside_ends_as_cancelled(folder: Path) -> None:
    node = node_of(folder, child())
    with anyio.move_on_after(0.01) as scope:
        await serve(node)
    assert scope.cancelled_caught


def test_the_version_is_that_of_the_distribution() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"waooaw-actors {version('waooaw-actors')}\n"


# The log -----------------------------------------------------------------------------------------------------


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def _logs_as_before() -> Iterator[None]:
    saved, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**saved)
    logging.basicConfig(handlers=handlers, level=level, force=True)
    logging.captureWarnings(False)


@pytest.mark.usefixtures("_logs_as_before")
def test_a_line_for_machines_is_json_without_passwords() -> None:
    file = io.StringIO()
    set_up_logs("info", "auto", file, system="shop-1")
    url = "redis://joe:secret@host:6379/0"
    log = structlog.get_logger()
    log.debug("not this")
    log.info(
        "a\nb\x1b\u202e", url=url, more={url: [url, (url,)]}, path=Path("/tmp"), error=ValueError(url), nan=float("nan")
    )
    try:
        raise ConnectionError(url)
    except ConnectionError:
        log.exception("lost", n=1.5, yes=True, none=None)
    first, second = map(json.loads, file.getvalue().splitlines())
    assert "secret" not in file.getvalue()
    assert file.getvalue().isascii()
    assert "\x1b" not in file.getvalue()
    masked = "redis://joe:***@host:6379/0"
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "a\nb\x1b\u202e", "level": "info", "system": "shop-1", "url": masked, "nan": "nan",
        "more": {masked: [masked, [masked]]}, "path": repr(Path("/tmp")), "error": f"ValueError('{masked}')",
    }  # fmt: skip
    assert (second["n"], second["yes"], second["none"]) == (1.5, True, None)
    assert second["exception"].splitlines()[-1] == f"ConnectionError: {masked}"


@pytest.mark.usefixtures("_logs_as_before")
@pytest.mark.parametrize("color", [True, False])
def test_a_line_for_people_has_nothing_that_a_terminal_obeys(monkeypatch: pytest.MonkeyPatch, *, color: bool) -> None:
    monkeypatch.setenv("NO_COLOR", "" if color else "1")
    file = Screen()
    set_up_logs("warning", "auto", file)
    log = structlog.get_logger()
    log.info("not this")
    try:
        raise ValueError("a\x1b[2Jb")
    except ValueError:
        log.exception("a\nb", more={"\x07": ["\u202e"]}, text="x\r")
    shown = re.sub(r"\x1b\[\d+m", "", file.getvalue())
    assert ("\x1b[" in file.getvalue()) == color
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert r"a\x0ab" in shown
    assert r"text=x\x0d" in shown
    assert shown.splitlines()[-1] == r"ValueError: a\x1b[2Jb"


@pytest.mark.usefixtures("_logs_as_before")
def test_what_libraries_log_and_warn_looks_like_the_rest() -> None:
    file = io.StringIO()
    set_up_logs("info", "json", file, system="shop-1")
    library = logging.getLogger("some.library")
    library.debug("not this")
    library.log(25, "%s is down", "redis://joe:secret@host")
    library.info("%d", "redis://joe:secret@host")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    down, faulty, warned = map(json.loads, file.getvalue().splitlines())
    assert {"event": "redis://joe:***@host is down", "logger": "some.library", "level": "info"}.items() <= down.items()
    assert faulty["event"].startswith(f"%d (does not fit its arguments, {__file__}:")
    assert (warned["logger"], warned["level"]) == ("py.warnings", "warning")
    assert "DeprecationWarning: old" in warned["event"]


@given(
    user=st.text("abc-_.%", max_size=5),
    password=st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1).map(lambda text: f"<{text}>"),
    rest=st.sampled_from(["", "/0", ":6379", ":6379/0?db=1", "[::1]:6379", "h/a@b"]),
)
def test_no_password_of_a_url_comes_through(user: str, password: str, rest: str) -> None:
    assert password not in mask(f"cannot reach 'redis://{user}:{password}@host{rest}', retrying")
    assert "redis://" in mask(f"redis://{user}:{password}@host{rest}")


@pytest.mark.parametrize(
    "text",
    [
        "http://host:80/a@b",
        "http://host:80 for a@b",
        "http://host/a:b?c=d",
        "a:b@c",
        "redis://host:6379",
        "redis://user@host",
        "passwords=1&token=2",
    ],
)
def test_what_is_no_password_stays(text: str) -> None:
    assert mask(text) == text


def test_a_secret_in_the_query_is_a_password() -> None:
    assert mask("redis://h?db=1&password=x&token=y#z") == "redis://h?db=1&password=***&token=***#z"


def test_escaping_leaves_other_alphabets_alone() -> None:
    assert escape("Grüße 日本 🎭\t\x85\u2028") == "Grüße 日本 🎭\\x09\\x85\\u2028"
