"""Carries requests to an `Api`: over HTTP/1.1 on a stream, or straight from an httpx2 client."""

from __future__ import annotations

from typing import Final, final

import h11
import httpx2
import trio

from .rest import Api, Reply, Request
from .rules import Faults

RECEIVE: Final = 65_536


async def _hold(faults: Faults, method: str, target: str) -> None:
    await trio.sleep(faults.rest_latency)
    while any(part in f"{method} {target}" for part in faults.held):  # noqa: ASYNC110  # a plain switch
        await trio.sleep(1 / 64)


async def serve_http(api: Api, faults: Faults, stream: trio.abc.Stream) -> None:
    """Answer the requests of one connection."""
    async with stream:
        connection = h11.Connection(h11.SERVER)
        try:
            while True:
                request = await _request(connection, stream)
                if request is None:
                    return
                await _hold(faults, request.method, request.target)
                reply = api.answer(request, trio.current_time())
                await trio.sleep(reply.delay)
                if reply.lost:
                    return
                if reply.cut:
                    await stream.send_all(_half(reply))
                    return
                await stream.send_all(_written(connection, reply))
                if connection.our_state is h11.MUST_CLOSE:
                    return
                connection.start_next_cycle()
        except (h11.RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            return


async def _request(connection: h11.Connection, stream: trio.abc.Stream) -> Request | None:
    """The next one; None when there is no other."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                told = h11.InformationalResponse(status_code=100, headers=[])
                await stream.send_all(connection.send(told) or b"")
            connection.receive_data(bytes(await stream.receive_some(RECEIVE)))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            headers = {name.decode().lower(): value.decode("latin-1") for name, value in head.headers}
            return Request(head.method.decode(), head.target.decode(), headers, bytes(body))
        else:
            return None


def _written(connection: h11.Connection, reply: Reply) -> bytes:
    headers = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
    if reply.status != 204:
        headers.append((b"Content-Length", str(len(reply.body)).encode()))
    head = h11.Response(status_code=reply.status, headers=headers)
    parts = [
        connection.send(head),
        connection.send(h11.Data(reply.body)),
        connection.send(h11.EndOfMessage()),
    ]
    return b"".join(part or b"" for part in parts)


def _half(reply: Reply) -> bytes:
    """An answer that ends in the middle; without an announced length, that looks like its end."""
    headers = {**reply.headers, "Connection": "close"}
    if reply.cut == "told":
        headers["Content-Length"] = str(len(reply.body) or 1)
    lines = [f"HTTP/1.1 {reply.status} OK", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + reply.body[: len(reply.body) // 2]


@final
class InMemory(httpx2.AsyncBaseTransport):
    """Lets a client ask without a network."""

    def __init__(self, api: Api, faults: Faults) -> None:
        self._api = api
        self._faults = faults

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        headers = {name.lower(): value for name, value in request.headers.items()}
        told = Request(request.method, request.url.raw_path.decode(), headers, body)
        try:
            with trio.fail_after(request.extensions["timeout"]["read"]):
                await _hold(self._faults, told.method, told.target)
        except trio.TooSlowError:
            raise httpx2.ReadTimeout("no answer", request=request) from None
        reply = self._api.answer(told, trio.current_time())
        assert not reply.delay, "only connections can be late, or cut; see `wire`"
        assert not reply.cut, "only connections can be late, or cut; see `wire`"
        if reply.lost:
            raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")
        return httpx2.Response(reply.status, headers=dict(reply.headers), content=reply.body)
