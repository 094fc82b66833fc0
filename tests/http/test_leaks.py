"""Who came and went leaves nothing behind: counted in objects, not in bytes."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio._core._run import GLOBAL_RUN_CONTEXT
from trio.testing import wait_all_tasks_blocked

import ccm
from ccm.http import Settings

from . import raw
from .live import Live, here

pytestmark = pytest.mark.trio
AT_ONCE = 10
LEFT = 0.5
"""Objects of one type for each client, at most. What stays behind would be 1; pools fill up to a bound."""
CONFIG = ccm.Config(rate_limit=None, max_sessions=20, retry=ccm.RetryPolicy(attempts=1))
SETTINGS = Settings(rate=None, resume_window=0, farewell=0)
Client = Callable[[Live], Awaitable[None]]


async def handler(turn: ccm.Turn) -> str:
    """Says a word; who asks for more than that is left waiting."""
    await turn.send("word")
    if turn.text == "wait":
        await trio.sleep_forever()
    return "word"


async def until(stream: trio.SocketStream, mark: bytes) -> None:
    data = b""
    with trio.fail_after(10):
        while mark not in data:
            more = await stream.receive_some()
            assert more, data
            data += more


async def hello(stream: trio.SocketStream) -> None:
    await stream.send_all(raw.upgrade("/api/v1/ws") + raw.frame(b'{"type":"hello"}'))
    await until(stream, b'"welcome"')


def say(text: str) -> bytes:
    # One conversation for all: what the manager remembers of conversations is another matter.
    return json.dumps({"user": "ada", "text": text, "conversation": "c"}).encode()


async def socket_that_says_goodbye(live: Live) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", live.port) as stream:
        await hello(stream)
        await stream.send_all(raw.frame(b'{"type":"message","user":"ada","text":"hi","conversation":"c"}'))
        await until(stream, b'"outcome"')
        await stream.send_all(raw.frame(b"\x03\xe8", 8))
        with trio.fail_after(10):
            while await stream.receive_some():
                pass


async def socket_that_is_cut(live: Live) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", live.port)
    await hello(stream)
    await trio.aclose_forcefully(stream)


async def reader_to_the_end(live: Live) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", live.port) as stream:
        await stream.send_all(raw.post(say("hi"), "Accept: text/event-stream", path="/api/v1/chat"))
        await until(stream, b"event: outcome")
        await until(stream, b"0\r\n\r\n")


async def reader_that_leaves(live: Live) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", live.port)
    await stream.send_all(raw.post(say("wait"), "Accept: text/event-stream", path="/api/v1/chat"))
    await until(stream, b"event: receipt")
    await trio.aclose_forcefully(stream)


async def come_and_go(live: Live, client: Client, count: int) -> None:
    """So many clients, and the moment until the server is done with them."""
    for _ in range(count // AT_ONCE):
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(client, live)
    with trio.fail_after(10):
        await live.manager.wait_idle()
        while live.app.streams:
            await wait_all_tasks_blocked(0.02)
        await wait_all_tasks_blocked(0.05)  # the connections end after their streams


def objects(live: Live) -> Counter[str]:
    """How many there are of each type, without the receipts that are kept on purpose, 10,000 at most."""
    live.front.exchanges.forget()
    # Trio forgets deadlines that were given up only when there are a thousand; no public name makes it do so.
    GLOBAL_RUN_CONTEXT.runner.deadlines._prune()
    gc.collect()
    return Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())


async def growth(client: Client, count: int) -> dict[str, float]:
    """Objects by type that stay for each client, where there is one for two clients or more."""
    async with here(handler, SETTINGS, config=CONFIG) as live:
        await come_and_go(live, client, 30 * AT_ONCE)  # what is made once is made, pools are full
        before = objects(live)
        await come_and_go(live, client, count)
        after = objects(live)
    return {
        name: (after[name] - before[name]) / count
        for name in after
        if after[name] - before[name] > LEFT * count
    }


@pytest.mark.parametrize(
    "client", [socket_that_says_goodbye, socket_that_is_cut, reader_to_the_end, reader_that_leaves]
)
async def test_who_came_and_went_leaves_nothing_behind(client: Client) -> None:
    assert await growth(client, 300) == {}


async def test_what_stays_behind_is_found() -> None:
    kept: list[object] = []

    async def leaver(live: Live) -> None:
        await socket_that_is_cut(live)
        kept.append(trio.Event())

    found = await growth(leaver, 50)
    assert found.pop("trio.Event") == 1.0
    assert "trio.CancelScope" not in found
