"""A model server on a real socket that behaves as badly as it is told to."""

from __future__ import annotations

import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial, wraps
from typing import Any, ParamSpec

import attrs
import pytest
import trio

import ccm
from ccm import Config, ConversationManager, HandlerFailed, Message, Reply, RetryPolicy
from ccm.model import ChatModel

P = ParamSpec("P")
Behaviour = Callable[["Call"], Awaitable[None]]

KEY = "sk-secret-0123456789"
QUICK = Config(rate_limit=None, retry=RetryPolicy(attempts=3, base=0.0), drain=0.2)
ONCE = Config(rate_limit=None, retry=RetryPolicy(attempts=1), drain=0.2)


@attrs.define
class Call:
    """One request, and the connection to answer on.

    Attributes:
        hung_up: is set when the client closes the connection.
    """

    stream: trio.SocketStream
    target: str
    headers: dict[str, str]
    body: Any
    hung_up: trio.Event = attrs.field(factory=trio.Event)

    async def begin(self, status: str = "200 OK", kind: str = "text/event-stream", *more: str) -> None:
        """The head of a chunked response."""
        lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Transfer-Encoding: chunked", *more]
        await self.stream.send_all("\r\n".join([*lines, "", ""]).encode())

    async def chunk(self, data: bytes | str) -> None:
        data = data.encode() if isinstance(data, str) else data
        await self.stream.send_all(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, data: Any) -> None:
        await self.chunk(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n")

    async def say(self, *pieces: str) -> None:
        for piece in pieces:
            await self.event({"choices": [{"index": 0, "delta": {"content": piece}}]})

    async def end(self, *, done: bool = True) -> None:
        """The proper end of a stream."""
        if done:
            await self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            await self.event("[DONE]")
        await self.stream.send_all(b"0\r\n\r\n")

    async def refuse(self, status: str, body: Any, *headers: str) -> None:
        """A whole response with an error."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = [
            f"HTTP/1.1 {status}",
            "Content-Type: application/json",
            f"Content-Length: {len(data)}",
            *headers,
        ]
        await self.stream.send_all("\r\n".join([*head, "", ""]).encode() + data)

    async def until_hung_up(self) -> None:
        """Wait until the client closes."""
        with suppress(trio.BrokenResourceError):
            while await self.stream.receive_some(4096):
                pass
        self.hung_up.set()


@attrs.define
class FakeServer:
    """Answers the n-th request with the n-th behaviour, and the rest with the last one."""

    behaviours: tuple[Behaviour, ...]
    url: str = ""
    calls: list[Call] = attrs.field(factory=list)
    connections: int = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                await self._requests(stream)

    async def _requests(self, stream: trio.SocketStream) -> None:
        rest = b""
        while True:
            while b"\r\n\r\n" not in rest:
                more = await stream.receive_some(65536)
                if not more:
                    return
                rest += more
            head, _, rest = rest.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            length = int(headers.get("content-length", 0))
            while len(rest) < length:
                rest += await stream.receive_some(65536)
            body, rest = rest[:length], rest[length:]
            call = Call(stream, first.split()[1], headers, json.loads(body))
            self.calls.append(call)
            await self.behaviours[min(len(self.calls), len(self.behaviours)) - 1](call)


@asynccontextmanager
async def fake_server(*behaviours: Behaviour) -> AsyncIterator[FakeServer]:
    """A server on a free port of 127.0.0.1."""
    server = FakeServer(behaviours)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1"))
        server.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"
        try:
            yield server
        finally:
            nursery.cancel_scope.cancel()


def real(fn: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test on the real clock, for at most ten seconds."""

    @wraps(fn)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        async def limited() -> None:
            with trio.fail_after(10):
                await fn(*args, **kwargs)

        trio.run(limited)

    return test


async def good(call: Call) -> None:
    await call.begin()
    await call.say("Good ", "day.")
    await call.end()


def refusing(status: str, body: Any, *headers: str) -> Behaviour:
    async def refuse(call: Call) -> None:
        await call.refuse(status, body, *headers)

    return refuse


def sending(*chunks: bytes | str, end: bool = True, kind: str = "text/event-stream") -> Behaviour:
    async def send(call: Call) -> None:
        await call.begin("200 OK", kind)
        for chunk in chunks:
            await call.chunk(chunk)
        if end:
            await call.end(done=False)
        else:
            await call.stream.aclose()

    return send


@asynccontextmanager
async def open_bot(
    server: FakeServer, config: Config = QUICK, options: dict[str, Any] | None = None
) -> AsyncIterator[ConversationManager]:
    """A manager whose handler asks that server."""
    async with (
        ChatModel(server.url, **{"model": "m", "key": KEY} | (options or {})) as model,
        ccm.open_manager(model, config=config) as manager,
    ):
        yield manager


async def ask(server: FakeServer, config: Config = ONCE, **options: Any) -> Reply:
    """One question to a fresh bot."""
    async with open_bot(server, config, options) as manager:
        return await manager.ask(Message("c", "ada", "hello"))


async def failure(server: FakeServer, config: Config = ONCE, **options: Any) -> BaseException:
    """What went wrong with it; the key is not told."""
    with pytest.raises(HandlerFailed) as failed:
        await ask(server, config, **options)
    cause = failed.value.__cause__
    assert cause is not None
    assert KEY not in "".join(traceback.format_exception(cause))
    return cause
