"""Who answers in `ccm serve`: handlers, routers, and what must be opened first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import trio

from ccm import Router, Turn
from ccm.cli._answerer import Answerer, named, open_answerer
from ccm.cli._console import UsageError

MODULE = """
import contextlib
import ccm

async def reply(turn): return "one"
router = ccm.Router.default(reply)
events = []

@contextlib.asynccontextmanager
async def opening():
    events.append("open")
    yield reply
    events.append("close")

class Client:
    async def __call__(self, turn): return "two"
    async def __aenter__(self): events.append("enter"); return self
    async def __aexit__(self, *error): events.append("exit")

client = Client()
def plain(): return 5
def wants(argument): return 5
number = 7
@contextlib.asynccontextmanager
async def wrong():
    yield 5
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"bot_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def opened(answerer: Answerer) -> Any:
    async def program() -> Any:
        async with open_answerer(answerer) as handler:
            return handler

    return trio.run(program)


def test_each_kind_is_opened_and_closed(module: str) -> None:
    reply = opened(named(f"{module}:reply"))
    assert opened(named(f"{module}:opening")) is reply
    assert isinstance(opened(named(f"{module}:router")), Router)
    client = named(f"{module}:client")
    assert opened(client) is client.source
    assert opened(named(f"{module}:Client")).__class__ is client.source.__class__
    events = named(f"{module}:client").source.__aenter__.__globals__["events"]
    assert events == ["open", "close", "enter", "exit", "enter", "exit"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("number", "it must be an async function that takes a turn, a ccm.Router"),
        ("wants", "it must be an async function that takes a turn, a ccm.Router"),
        ("missing", "has no 'missing'; name something that it defines"),
    ],
)
def test_what_is_none_of_these_is_refused(module: str, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        named(f"{module}:{name}")


@pytest.mark.parametrize(("name", "said"), [("plain", "returned 5"), ("wrong", "yielded 5")])
def test_what_opens_into_nothing_is_refused(module: str, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        opened(named(f"{module}:{name}"))


def test_spelling() -> None:
    for spec in ("bot", ":reply", "bot:"):
        with pytest.raises(UsageError, match="handler must be MODULE:FUNCTION"):
            named(spec)
    with pytest.raises(UsageError, match="no module named 'no_such_bot'"):
        named("no_such_bot:reply")


async def reply(turn: Turn) -> str:
    return "fine"


class Opening:
    """A context manager that is no handler."""

    async def __aenter__(self) -> Any:
        return reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True


def test_errors_inside_come_out() -> None:
    @asynccontextmanager
    async def failing() -> AsyncIterator[Any]:
        yield reply
        raise OSError("the client could not be closed")

    with pytest.raises(OSError, match="could not be closed"):
        opened(Answerer("x", failing))
    opening = Opening()
    assert opened(Answerer("x", opening)) is reply
    assert opening.closed
