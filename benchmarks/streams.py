"""Many streams at a time: memory of idle WebSockets, and what waits among a thousand streamed replies.

The server is a process of its own, so that only its memory is measured; the client reads plain sockets.
"""

from __future__ import annotations

import json
import random
import secrets
import sys
from math import ceil
from typing import Any, final

import attrs
import trio

import ccm

from ._measure import Void
from ._served import served, until_done
from .fresh import resident

PATIENCE = 60.0
"""Seconds after which what has not come is lost."""
IDLE = 1.0
"""Seconds a client may be idle between requests: less than what the WebSockets are idle here."""
BATCH = 50
"""WebSockets that are opened at a time."""
WORDS = ("and ", "then ", "it ", "was ", "said")
PAUSE = 0.05
"""Seconds between two pieces of a reply, and that a CRITICAL answer takes."""
GAP = 0.02
"""Seconds between two CRITICAL messages, on average."""
URGENT = 5
"""One CRITICAL message for so many chats."""


@final
class _Reader:
    """What a server sends, in the units of the protocol."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._bytes = bytearray()
        self._text = ""

    async def _more(self) -> None:
        try:
            more = await self.stream.receive_some()
        except trio.BrokenResourceError:
            more = b""
        if not more:
            raise Void("the server closed a stream that was not done")
        self._bytes += more

    async def until(self, mark: bytes) -> bytes:
        """Everything before the next `mark`, which is taken too."""
        while (end := self._bytes.find(mark)) < 0:
            await self._more()
        found = bytes(self._bytes[:end])
        del self._bytes[: end + len(mark)]
        return found

    async def exactly(self, count: int) -> bytes:
        while len(self._bytes) < count:
            await self._more()
        found = bytes(self._bytes[:count])
        del self._bytes[:count]
        return found

    async def head(self, status: int) -> None:
        """The head of the response, which must have this status."""
        head = await self.until(b"\r\n\r\n")
        if head.split(b" ", 2)[1] != str(status).encode():
            raise Void(f"the server answered {head.splitlines()[0].decode()!r}")

    async def event(self) -> tuple[str, dict[str, Any]]:
        """The next server-sent event, from the chunks of the response."""
        while True:
            while "\n\n" not in self._text:
                size = int(await self.until(b"\r\n"), 16)
                if not size:
                    raise Void("a stream ended without an outcome")
                self._text += (await self.exactly(size + 2))[:-2].decode()
            event, _, self._text = self._text.partition("\n\n")
            if event.startswith("event: "):  # not a comment that keeps the connection alive
                name, _, data = event.removeprefix("event: ").partition("\ndata: ")
                return name, json.loads(data)

    async def frame(self) -> dict[str, Any]:
        """The next text message of a WebSocket."""
        first, size = await self.exactly(2)
        if size == 126:
            size = int.from_bytes(await self.exactly(2), "big")
        if first != 0x81 or size > 125 + 65536:
            raise Void(f"the server sent a frame that begins with {first:#x}")
        found: dict[str, Any] = json.loads(await self.exactly(size))
        return found


# -- idle WebSockets ---------------------------------------------------------------------------------


def _upgrade() -> bytes:
    return (
        b"GET /api/v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )


def _frame(data: dict[str, Any]) -> bytes:
    """A short text frame as clients send them: masked."""
    text, mask = json.dumps(data).encode(), secrets.token_bytes(4)
    masked = bytes(byte ^ mask[place & 3] for place, byte in enumerate(text))
    return bytes((0x81, 0x80 | len(text))) + mask + masked


async def _open(port: int, found: list[_Reader]) -> None:
    reader = _Reader(await trio.open_tcp_stream("127.0.0.1", port))
    found.append(reader)
    await reader.stream.send_all(_upgrade())
    await reader.head(101)
    await _talk(reader, {"type": "hello"}, "welcome")


async def _talk(reader: _Reader, frame: dict[str, Any], wanted: str) -> None:
    await reader.stream.send_all(_frame(frame))
    if (kind := (await reader.frame())["type"]) != wanted:
        raise Void(f"the server answered {frame['type']} with {kind}, not with {wanted}")


async def _sockets(port: int, n: int, pid: int) -> float:
    """KiB of the server for each of `n` sockets that said hello and nothing else, and are alive."""
    early: list[_Reader] = []
    sockets: list[_Reader] = []
    try:
        with trio.fail_after(PATIENCE):
            await _open_all(port, early, min(n, 10))  # what the first ones load is not the others' memory
            before = resident(pid)
            await _open_all(port, sockets, n)
            await trio.sleep(1.5 * IDLE)
            grown = resident(pid) - before
            async with trio.open_nursery() as nursery:
                for reader in sockets:
                    nursery.start_soon(_talk, reader, {"type": "ping"}, "pong")
    except trio.TooSlowError:
        raise Void(f"{len(sockets)} of {n} WebSockets after {PATIENCE:g} s") from None
    finally:
        for reader in early + sockets:
            reader.stream.socket.close()
    return grown / n / 1024


async def _open_all(port: int, found: list[_Reader], n: int) -> None:
    for begun in range(0, n, BATCH):
        async with trio.open_nursery() as nursery:
            for _ in range(min(BATCH, n - begun)):
                nursery.start_soon(_open, port, found)


def idle_websocket_kib(n: int) -> float:
    """KiB of the server's resident memory for each of `n` idle WebSockets."""
    with served("benchmarks.streams", "echo", str(n)) as (port, pid):
        return until_done(_sockets, port, n, pid)


# -- streamed replies --------------------------------------------------------------------------------


@attrs.define
class _Chats:
    """What became of the chats of one run; times in seconds."""

    port: int
    expected: int
    begun: int = 0
    all_begun: trio.Event = attrs.field(factory=trio.Event)
    done: int = 0
    waits: list[float] = attrs.field(factory=list)
    answers: list[float] = attrs.field(factory=list)

    async def chat(self, number: int, priority: str) -> None:
        """One message on a connection of its own, until its outcome; its pieces must make up the reply."""
        start, name = trio.current_time(), f"{priority}-{number}"
        body = json.dumps({"user": name, "conversation": name, "text": "hello", "priority": priority})
        head = (
            "POST /api/v1/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all((head + body).encode())
            reader, text = _Reader(stream), ""
            await reader.head(200)
            while True:
                event, data = await reader.event()
                if event == "receipt":
                    self._begin()
                elif event == "piece":
                    text += data["text"]
                elif event == "outcome":
                    break
        if data.get("reply") != text or data["outcome"] != "replied":
            raise Void(f"a {priority} chat ended with {data} after the pieces {text!r}")
        if priority == "critical":
            self.waits.append(data["timings"]["waited"])
            self.answers.append(trio.current_time() - start)
        else:
            self.done += 1

    def _begin(self) -> None:
        self.begun += 1
        if self.begun == self.expected:
            self.all_begun.set()

    async def run(self) -> None:
        """All the others first; the first CRITICAL message lets their replies go on."""
        draw = random.Random(1)
        async with trio.open_nursery() as nursery:
            for number in range(self.expected):
                nursery.start_soon(self.chat, number, "normal")
            await self.all_begun.wait()
            for number in range(max(1, self.expected // URGENT)):
                nursery.start_soon(self.chat, number, "critical")
                await trio.sleep(draw.expovariate(1 / GAP))
            if self.done == self.expected:
                raise Void("the last CRITICAL messages came when the others had been answered")


async def _chats(port: int, n: int, times: str) -> float:
    chats = _Chats(port, n)
    with trio.move_on_after(PATIENCE) as patience:
        await chats.run()
    if patience.cancelled_caught:
        raise Void(f"{chats.done} of {n} chats were answered after {PATIENCE:g} s")
    figures = sorted(getattr(chats, times))
    return float(figures[ceil(0.99 * len(figures)) - 1] * 1000)


def _measure_chats(n: int, times: str) -> float:
    with served("benchmarks.streams", "words", str(n)) as (port, _):
        return until_done(_chats, port, n, times)


def critical_wait_ms(n: int) -> float:
    """Milliseconds 99 in 100 CRITICAL messages wait at most, while `n` other replies are streamed."""
    return _measure_chats(n, "waits")


def critical_answer_ms(n: int) -> float:
    """The same from before the connection to the outcome, as the client sees it."""
    return _measure_chats(n, "answers")


# -- the server --------------------------------------------------------------------------------------


async def _serve(kind: str, n: int) -> None:
    from ccm.http import Settings, serve

    released = trio.Event()

    async def words(turn: ccm.Turn) -> str:
        """Nobody's reply ends before all have begun: the first CRITICAL message comes when they have."""
        urgent = turn.message.priority is ccm.CRITICAL
        if urgent:
            released.set()
        await released.wait()
        for word in WORDS[:1] if urgent else WORDS:
            await turn.send(word)
            await trio.sleep(PAUSE)
        return "".join(WORDS[:1] if urgent else WORDS)

    async def echo(turn: ccm.Turn) -> str:
        return turn.text

    most = 2 * n + 100
    config = ccm.Config(rate_limit=None, queue_limit=most, max_sessions=most)
    settings = Settings(port=0, rate=None, max_connections=most, max_streams=most)
    if kind == "echo":
        settings = attrs.evolve(settings, header_timeout=IDLE)
    handler = words if kind == "words" else echo
    async with ccm.open_manager(handler, config=config) as manager, trio.open_nursery() as nursery:
        url: str = await nursery.start(serve, manager, settings)
        print(url.rpartition(":")[2], flush=True)


if __name__ == "__main__":
    trio.run(_serve, sys.argv[1], int(sys.argv[2]))
