"""The Python for Redis in the guide and the README runs as it stands, on a real server."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from actors import Actor, ActorSystem
from transport.redis import RedisTransport

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parent.parent.parent


class Till(Actor):
    pass


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md"])
async def test_a_page_runs_on_a_server(page: str, redis_url: str) -> None:
    (block,) = re.findall(r"^```py\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    code = compile(block.replace("redis://localhost", redis_url), page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    module: dict[str, Any] = {"ActorSystem": ActorSystem, "RedisTransport": RedisTransport, "Till": Till}
    await eval(code, module)
    assert module["system"].name in ("demo", "shop")
