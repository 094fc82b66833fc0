"""WS /api/v1/ws: chat both ways, in the order of the frames, resumable.

A client that is cut off may come back within `Settings.resume_window`: its turns go on meanwhile, in the
task of the socket that it came with first. That task ends when the client said goodbye, did not come back in
time, or the front end shuts down.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any, final

import trio
from fastapi import APIRouter, Depends, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from .._errors import CcmError
from .._streaming import Restarted
from ._access import needs, tenant_of
from ._exchange import Exchange, refusal
from ._frames import BadFrame, Edit, Frame, Hello, Ping, Retract, Say, Stop, Typing, parse, ref_of
from ._front import Front
from ._keys import Caller
from ._peer import Peer
from ._problems import Problem, ProblemError

PROTOCOL = "ccm.v1"
_HELLO = 10.0
"""Seconds in which the first frame must have come."""
_GOODBYE = (1000, 1001)
_SEND = 10.0
"""Seconds for one frame to be taken by the client's system."""
_INVALID = 20
"""Frames in a row that are none, after which the socket is closed."""


def router(front: Front) -> APIRouter:
    """The endpoint."""
    routes = APIRouter(prefix="/api/v1")
    peers: dict[str, Peer] = {}

    @routes.websocket("/ws")
    async def ws(socket: WebSocket, caller: Annotated[Caller, Depends(needs("chat"))]) -> None:
        await socket.accept(PROTOCOL if PROTOCOL in socket.scope.get("subprotocols", ()) else None)
        await _Talk(front, peers, socket, caller).run()

    return routes


@final
class _Talk:
    """One socket."""

    def __init__(self, front: Front, peers: dict[str, Peer], socket: WebSocket, caller: Caller) -> None:
        self._front = front
        self._peers = peers
        self._socket = socket
        self._caller = caller
        self._limited: str = socket.scope.get("ccm.limited", caller.name)
        self._peer: Peer
        self._scope = trio.CancelScope()
        self._code = 1000
        self._why = ""
        self._invalid = 0

    async def run(self) -> None:
        """From the hello to the end."""
        try:
            hello = await self._hello()
            if hello is None:
                return
            peer = self._resumed(hello)
            if peer is not None:
                self._peer = peer
                peer.put(type="welcome", resume=peer.token, resumed=True)
                await self._talk()
                peer.detach(self, trio.current_time())
                return
            self._peer = peer = Peer(self._caller)
            self._peers[peer.token] = peer
            peer.attach(self, 0)
            peer.put(type="welcome", resume=peer.token, resumed=False)
            try:
                async with trio.open_nursery() as peer.turns:
                    await self._talk()
                    if peer.detach(self, trio.current_time()) and self._code in _GOODBYE:
                        peer.end()
                    await self._close()  # now, not when the client may not come back any more
                    await self._outlast(peer)
                    peer.turns.cancel_scope.cancel()
            finally:
                peer.end()
                del self._peers[peer.token]
        finally:
            await self._close()  # noqa: ASYNC102 - has a deadline of its own

    async def _outlast(self, peer: Peer) -> None:
        """Wait until the client may not come back any more."""
        front = self._front
        while front.admits(peer.caller) and not (peer.over.is_set() or front.drained.is_set()):
            left = front.settings.resume_window
            if peer.gone is not None:
                left += peer.gone - trio.current_time()
                if left <= 0:
                    return
            with trio.move_on_after(min(left, 1.0)):
                await peer.over.wait()

    async def _hello(self) -> Hello | None:
        with trio.move_on_after(_HELLO):  # noqa: ASYNC912
            try:
                frame = self._parse(await self._receive())
            except BadFrame as error:
                await self._say_wrong(error.detail)
                return None
            except WebSocketDisconnect:
                return None
            if isinstance(frame, Hello):
                return frame
        await self._say_wrong("the first frame must be hello")
        return None

    async def _say_wrong(self, detail: str) -> None:
        self._code = 1008
        problem = Problem(status=400, detail=detail, reason="frame").body()
        await self._send({"type": "error", "problem": problem, "seq": 0})

    def _resumed(self, hello: Hello) -> Peer | None:
        """The client as which this socket goes on, if it is known and nothing is missing."""
        peer = self._peers.get(hello.resume or "")
        if peer is None or peer.over.is_set() or peer.caller != self._caller:
            return None
        return peer if peer.attach(self, hello.last_seen) else None

    # -- both ways -------------------------------------------------------------------------------

    async def _talk(self) -> None:
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            nursery.start_soon(self._write)
            nursery.start_soon(self._say_farewell)
            nursery.start_soon(self._end_revoked)
            await self._read()
            nursery.cancel_scope.cancel()

    async def _write(self) -> None:
        while (frames := await self._peer.following(self)) is not None:
            for frame in frames:
                if not await self._send_text(frame.text):
                    self._code = 1006
                    self._scope.cancel()
                    return
                self._peer.sent(self, frame)
        self._code = 1008
        self._scope.cancel()

    async def _end_revoked(self) -> None:
        await self._front.revoked(self._caller)
        self._code, self._why = 1008, "the key is not valid any more"
        self._peer.end()
        self._scope.cancel()

    async def _say_farewell(self) -> None:
        await self._front.drained.wait()
        self._code = 1001
        # No turn runs any more, but the last outcome may still be on its way to the client.
        with trio.move_on_after(self._front.settings.farewell / 2):
            await self._peer.settled()
        with trio.move_on_after(self._front.settings.farewell):
            await self._send({"type": "farewell", "seq": self._peer.seq + 1})
        self._scope.cancel()

    async def _send(self, frame: dict[str, Any]) -> bool:
        return await self._send_text(json.dumps(frame, separators=(",", ":")))

    async def _send_text(self, text: str) -> bool:
        """Send a frame; False: the client does not take it. It is not cut by a cancellation."""
        deadline = trio.current_time() + _SEND
        with trio.CancelScope(shield=True, deadline=deadline) as scope:  # noqa: ASYNC912
            try:
                await self._socket.send_text(text)
            except (WebSocketDisconnect, RuntimeError, OSError, trio.BrokenResourceError):
                return False
        return not scope.cancelled_caught

    async def _receive(self) -> str | None:
        """The text of the next frame; None: it had none."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            self._code = message.get("code") or 1006
            raise WebSocketDisconnect(self._code)
        text: str | None = message.get("text")
        return text

    def _parse(self, text: str | None) -> Frame:
        if text is None:
            raise BadFrame("frames are text, not bytes")
        return parse(text, self._front.settings.max_depth)

    async def _close(self) -> None:
        states = (self._socket.client_state, self._socket.application_state)
        if states == (WebSocketState.CONNECTED, WebSocketState.CONNECTED) and self._code != 1006:
            with trio.move_on_after(1.0, shield=True):  # noqa: ASYNC912
                try:
                    await self._socket.close(self._code, self._why)
                except (RuntimeError, OSError, trio.BrokenResourceError):
                    return

    # -- what the client says --------------------------------------------------------------------

    async def _read(self) -> None:
        """Handle frames one after the other: their order is that of the client."""
        while True:  # noqa: ASYNC913
            ref: str | int | None = None
            try:
                text = await self._receive()
                # Before anything is made of it. The hello was counted with its request.
                wait = self._front.take(self._limited)
                if wait:
                    ref = None if text is None else ref_of(text)
                    raise ProblemError(
                        429, "too many frames; please wait a moment.", reason="rate_limited", retry_after=wait
                    )
                frame = self._parse(text)
                self._invalid = 0
                ref = getattr(frame, "ref", None)
                await self._handle(frame)
            except WebSocketDisconnect:
                return
            except BadFrame as error:
                problem = Problem(status=422, detail=error.detail, reason="frame")
                self._peer.put(type="error", ref=ref, problem=problem.body())
                self._invalid += 1
                if self._invalid >= _INVALID:
                    self._code, self._why = 1008, "too many frames that are none"
                    return
            except ProblemError as error:
                self._peer.put(type="error", ref=ref, problem=error.problem.body())
            except (CcmError, ValueError, TypeError) as error:
                self._peer.put(type="error", ref=ref, problem=refusal(error))

    async def _handle(self, frame: Frame) -> None:
        peer, manager = self._peer, self._front.manager
        match frame:
            case Say():
                most = self._front.settings.max_socket_turns
                if peer.open >= most:
                    raise ProblemError(
                        429, f"{most} messages of this client are not answered yet; wait for an outcome.",
                        reason="open_turns",
                    )  # fmt: skip
                exchange = await self._front.exchanges.begin(self._caller, frame, self._socket)
                assert peer.turns is not None
                await peer.turns.start(self._converse, peer, exchange, frame.ref)
            case Edit(id=id, text=text):
                change = await manager.edit(id, text, tenant=self._tenant(frame))
                peer.put(type="edited", ref=frame.ref, id=id, change=change.value)
            case Retract(id=id):
                change = await manager.retract(id, tenant=self._tenant(frame))
                peer.put(type="edited", ref=frame.ref, id=id, change=change.value)
            case Stop(conversation=key):
                await self._front.exchanges.check(self._caller, key)
                stopped = await manager.stop(key)
                peer.put(
                    type="stopped", ref=frame.ref, conversation=key, waiting=stopped.waiting,
                    running=stopped.running,
                )  # fmt: skip
            case Typing(conversation=key, user=user):
                self._tell_others(key, user)
            case Ping():
                peer.put(type="pong", ref=frame.ref)
            case Hello():
                raise BadFrame("hello comes once, at first", None)

    def _tenant(self, frame: Edit | Retract) -> str:
        known = self._peer.ids.get(frame.id)
        return known if known is not None else tenant_of(self._caller, frame.tenant)

    def _tell_others(self, key: str, user: str) -> None:
        for other in self._peers.values():
            if other is not self._peer and key in other.spoken and other.caller.tenant == self._caller.tenant:
                other.hint(type="typing", conversation=key, user=user)

    async def _converse(  # noqa: ASYNC114
        self, peer: Peer, exchange: Exchange, ref: Any,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:  # fmt: skip
        """One message, from being taken in (`started`) to its outcome."""
        with peer.talking():
            id, taken = exchange.message.id, None
            exchanges = self._front.exchanges
            try:
                async with AsyncExitStack() as stack:
                    stream = self._front.manager.stream(exchange.message)
                    taken = await exchanges.hand_in(exchange, partial(stack.enter_async_context, stream))
                    key = taken.exchange.message.conversation
                    peer.remember(key, id, exchange.message.tenant)
                    peer.put(type="receipt", ref=ref, **taken.body())
                    if taken.pieces is not None:
                        peer.put(type="typing", conversation=key, id=id)
                    task_status.started()
                    if taken.pieces is not None:
                        async for piece in taken.pieces:
                            if isinstance(piece, Restarted):
                                peer.put(type="restarted", id=id)
                            else:
                                await peer.put_slowly(type="piece", id=id, text=piece)
                    outcome = await taken.receipt.outcome()
            except (ProblemError, CcmError, ValueError, TypeError) as error:
                if taken is None:
                    peer.put(type="error", ref=ref, problem=refusal(error))
                    task_status.started()
                    return
                outcome = await taken.receipt.outcome()
            told = await exchanges.fate(taken.exchange, taken.receipt, outcome)
            await peer.put_slowly(type="outcome", **told)
