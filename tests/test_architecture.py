"""The arrows between the packages all point one way down: no import runs back up."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"actors", "transport", "audit", "ratelimit"}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
COMPOSITION_ROOTS = ("actors/node.py", "actors/ctl.py")
EVENT_LOOPS = ("transport/eventloop.py", "transport/redis/", "audit/", "ratelimit/")  # where asyncio is allowed


def imports(path: Path) -> Iterator[str]:
    """The dotted name of everything that the module imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_runs_back_up(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    banned: set[str] = set()
    if not name.startswith(COMPOSITION_ROOTS):
        banned |= PACKAGES - {name.partition("/")[0], "transport"} | {"actors.node", "actors.ctl"}
    if not name.startswith(EVENT_LOOPS):
        banned |= {"asyncio"}
    assert not [each for each in imports(path) if any(f"{each}.".startswith(f"{wrong}.") for wrong in banned)]


def test_every_package_is_looked_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == PACKAGES
