"""What a chat over HTTP costs, beside an endpoint that does nothing on the same server.

The server is a process of its own, so that only its CPU is counted; the client keeps its connections.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

import trio

from ._measure import Void
from ._served import served, until_done

CLIENTS = 16
BODY = json.dumps({"user": "ada", "text": "hello", "conversation": "c%d"})

ANSWER = {
    "id": "01a21ce4-c1da-72e6-af43-5bfbbb341bfa", "turn": 1600, "conversation": "c7", "event": "resumed",
    "stage": None, "is_qualified": None, "reply": "hello", "outcome": "replied",
    "timings": {"waited": 0.0, "served": 0.0005612419954093639, "total": 0.0005612419954093639},
}  # fmt: skip
"""What the empty endpoint answers: as ccm does, but the same each time."""


def _request(path: str, number: int) -> bytes:
    body = (BODY % number).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
        f"{len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _answer(stream: trio.SocketStream, rest: bytes) -> tuple[int, bytes, bytes]:
    """Status, body, and what came after it."""
    while b"\r\n\r\n" not in rest:
        more = await stream.receive_some()
        if not more:
            raise Void("the server closed a connection")
        rest += more
    head, _, rest = rest.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    while len(rest) < length:
        rest += await stream.receive_some()
    return int(head.split(b" ")[1]), rest[:length], rest[length:]


def _cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _size(port: int, path: str) -> float:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(_request(path, 0))
        return len((await _answer(stream, b""))[1])


async def _load(port: int, path: str, n: int, pid: int) -> float:
    """CPU microseconds of the server for a request."""
    spent = 0.0

    async def client(number: int, requests: int) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        rest = b""
        async with stream:
            for _ in range(requests):
                await stream.send_all(_request(path, number))
                status, _, rest = await _answer(stream, rest)
                if status != 200:
                    raise Void(f"the server answered {status}")

    for measured in (max(CLIENTS, n // 10), n):
        before = _cpu(pid)
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(client, number, max(1, measured // CLIENTS))
        spent = _cpu(pid) - before
    return spent / (max(1, n // CLIENTS) * CLIENTS) * 1e6


PATHS = {"ccm": "/api/v1/chat", "empty": "/empty"}


def _measure(kind: str, n: int) -> float:
    with served("benchmarks.http", kind) as (port, pid):
        return until_done(_load, port, PATHS[kind], n, pid)


def size(kind: str) -> float:
    """Bytes of the body that one of the two answers with."""
    with served("benchmarks.http", kind) as (port, _):
        return until_done(_size, port, PATHS[kind])


def chat(n: int) -> float:
    """CPU microseconds of a chat: guard, limits, manager, answer."""
    return _measure("ccm", n)


def empty(n: int) -> float:
    """The same of an endpoint of FastAPI that checks such a body and returns a constant as long."""
    return _measure("empty", n)


def _started(url: str) -> None:
    """As `ccm.http.run` does it, for both."""
    gc.collect()
    gc.freeze()
    print(url.rpartition(":")[2], flush=True)


async def _ccm() -> None:
    import ccm
    from ccm.http import Settings, serve

    async def handler(turn: ccm.Turn) -> str:
        return "hello"

    config = ccm.Config(rate_limit=None)
    async with ccm.open_manager(handler, config=config) as manager, trio.open_nursery() as nursery:
        url: str = await nursery.start(serve, manager, Settings(port=0, rate=None))
        _started(url)


async def _empty() -> None:
    from anycorn import Config, serve
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Body(BaseModel):
        user: str
        text: str
        conversation: str

    app = FastAPI()

    async def nothing(body: Any) -> dict[str, Any]:
        return ANSWER

    nothing.__annotations__["body"] = Body  # FastAPI cannot find a local class by its name
    app.post("/empty")(nothing)
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.accesslog = config.errorlog = None
    config.keep_alive_max_requests = 10**9
    async with trio.open_nursery() as nursery:
        binds: Any = await nursery.start(serve, app, config)
        _started(binds[0])


if __name__ == "__main__":
    trio.run(_ccm if sys.argv[1] == "ccm" else _empty)
