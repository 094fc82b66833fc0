"""One shard: connects, and connects again, for as long as that is of use.

Each connection has a nursery of its own, with the websocket's reader in it. Whatever that library raises
or cancels, even by mistake, ends there; only `Shard.run` decides what it means. The three tasks of a
connection only say that it is over. The reader decodes and hands on, it never waits for the application:
while it does not read, heartbeats are not answered, and Discord hangs up.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, final

import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream
from wsproto.utilities import ProtocolError

from ._actions import Action, Close, Deliver, Dial, Fatal, SavedSession, Send
from ._decode import MORE, Decoder
from ._dial import Dialler, WatchedStream, parse
from ._errors import GatewayClosed, IdentifyRefused
from ._gate import Gate, Turn
from ._inbox import Item
from ._inflate import UnpackError, inflater
from ._models import Ready, Resumed
from ._protocol import RESUMABLE, Protocol
from ._settings import DiscordSettings

__all__ = ["Shard"]

RECEIVE_BYTES = 65_536
UNREAD_FRAMES = 16
UNSENT = 128
GRACE = 0.25
"""Seconds to say goodbye in when cancelled: the answer could not be read any more."""
LOST = (
    HandshakeError,
    ConnectionClosed,
    ProtocolError,
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
"""What a websocket raises when its connection is no more."""


def query(compress: str | None) -> str:
    """What each URL ends with."""
    return "v=10&encoding=json" + (f"&compress={compress}" if compress else "")


@final
class _Connection:
    """One connection, of which one thing is asked: how it ended.

    Attributes:
        decoder: what turns its frames into payloads.
        tasks: reader, heart and writer.
        outbox: payloads for the writer, in order.
        alarm: what the heart sleeps in.
        opened: the protocol knows of it.
        code: the peer's close code.
        stuck: a frame was sent in part, so no other may follow.
        error: no session may be begun.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.tasks: trio.Nursery | None = None
        self.outbox, self.unsent = trio.open_memory_channel[Send](UNSENT)
        self.alarm = trio.CancelScope()
        self.opened = False
        self.code: int | None = None
        self.stuck = False
        self.error: Exception | None = None

    def over(self) -> None:
        if self.tasks is not None:
            self.tasks.cancel_scope.cancel()


@final
class Shard:
    """One shard of a gateway.

    Args:
        number, settings, saved: which, how, and the session to go on with.
        url: where sessions are begun; `shards`: how many there are.
        gate, dial: shared by all shards.
        deliver: takes what comes, without waiting; `fail`: takes what makes going on useless.

    Attributes:
        connections: opened so far.
        protocol: its state.
    """

    def __init__(
        self,
        number: int,
        settings: DiscordSettings,
        *,
        url: str,
        shards: int,
        saved: SavedSession | None,
        gate: Gate,
        dial: Dialler,
        deliver: Callable[[Item], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.number = number
        self._settings = settings
        self._gate = gate
        self._dial = dial
        self._deliver = deliver
        self._fail = fail
        self.protocol = Protocol(
            token=settings.token,
            intents=settings.intents,
            shard=(number, shards),
            presence=settings.presence,
            url=url,
            query=query(settings.compress),
            random=random.random,
            saved=saved,
        )
        self.connections = 0
        self._connection: _Connection | None = None
        self._turn: Turn | None = None
        self._stop_code = 0
        self._started = False
        self._waiting = trio.CancelScope()
        self._live = trio.lowlevel.ParkingLot()

    # -- the supervisor --------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:  # noqa: ASYNC114
        """Keep connected until `stop`; what makes that useless is told to `fail`.

        It has started when it is next in line for its turn: shards begin in the order they were started in.
        """
        with self._waiting:
            plan = self.protocol.start(trio.current_time())
            while not self._stop_code:
                await trio.sleep_until(plan.at)
                if not self._started:
                    self._started = True
                    task_status.started()
                try:
                    if not plan.resume:
                        self._turn = await self._gate.enter(self.number)
                    step = await self._connect(plan)
                finally:
                    self._pass_on()
                if isinstance(step, Fatal):
                    step = GatewayClosed(step.code)
                if not isinstance(step, Dial):
                    self._fail(step)
                    return
                plan = step
        await trio.lowlevel.checkpoint_if_cancelled()

    def stop(self, code: int) -> None:
        """End for good, closing with `code`: 1000 ends the session, another one keeps it for minutes."""
        self._stop_code = code
        if self._connection is not None and self._connection.opened:
            self._connection.over()
        else:
            self._waiting.cancel()

    def _pass_on(self) -> None:
        """The next shard of the bucket may begin its session."""
        if self._turn is not None:
            self._turn.over()
            self._turn = None

    async def _connect(self, plan: Dial) -> Dial | Fatal | Exception:
        """One connection from beginning to end; returns what comes next."""
        settings = self._settings
        unpack = inflater(settings.compress, settings.max_message_size)
        connection = _Connection(Decoder(unpack, settings.events))
        self._connection = connection
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await self._live_on(connection, nursery, plan.url)
                finally:
                    nursery.cancel_scope.cancel()
        except* LOST:
            pass
        self._connection = None
        if connection.error is not None:
            return connection.error  # noqa: ASYNC910
        now = trio.current_time()
        if connection.opened:
            return self.protocol.closed(connection.code, now)  # noqa: ASYNC910
        return self.protocol.handshake_failed(now)  # noqa: ASYNC910

    async def _live_on(self, connection: _Connection, nursery: trio.Nursery, url: str) -> None:
        opened = await self._open(nursery, url)
        if opened is None:
            return
        stream, socket = opened
        try:
            self.protocol.opened(trio.current_time())
            connection.opened = True
            self.connections += 1
            try:
                async with trio.open_nursery() as tasks:
                    connection.tasks = tasks
                    if self._stop_code:
                        tasks.cancel_scope.cancel()
                    tasks.start_soon(self._read, connection, socket)
                    tasks.start_soon(self._beat, connection)
                    tasks.start_soon(self._write, connection, socket)
            finally:
                connection.outbox.close()
                connection.unsent.close()
                await self._close(connection, socket)  # noqa: ASYNC102
        finally:
            await trio.aclose_forcefully(stream)

    async def _open(
        self, nursery: trio.Nursery, url: str
    ) -> tuple[trio.abc.Stream, WebSocketConnection] | None:
        """Dial and shake hands; None when that fails or takes too long."""
        with trio.move_on_after(self._settings.connect_timeout) as scope:
            address = parse(url)
            stream = await self._dial(address)
            try:
                socket = await wrap_client_stream(
                    nursery,
                    WatchedStream(stream, scope.cancel),  # type: ignore[arg-type]  # any stream will do
                    address.header,
                    address.resource,
                    extra_headers=[(b"User-Agent", self._settings.user_agent.encode())],
                    max_message_size=self._settings.max_message_size,
                    receive_buffer_size=RECEIVE_BYTES,
                    message_queue_size=UNREAD_FRAMES,
                )
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            return stream, socket
        return None

    async def _close(self, connection: _Connection, socket: WebSocketConnection) -> None:  # noqa: ASYNC910
        """Say goodbye in a way that keeps the session, unless it is to end."""
        if connection.stuck:
            return  # the caller hangs up  # noqa: ASYNC910
        cancelled = trio.current_effective_deadline() == -float("inf")
        timeout = GRACE if cancelled else self._settings.disconnect_timeout
        deadline = trio.current_time() + timeout
        with trio.CancelScope(deadline=deadline, shield=True), suppress(*LOST):  # noqa: ASYNC912
            await socket.aclose(self._stop_code or RESUMABLE)

    # -- the tasks of a connection ---------------------------------------------------------------

    async def _read(self, connection: _Connection, socket: WebSocketConnection) -> None:
        while True:  # noqa: ASYNC913
            try:
                frame = await socket.get_message()
            except ConnectionClosed as closed:
                connection.code = None if closed.reason is None else closed.reason.code
                connection.over()
                return  # noqa: ASYNC910
            self._take(connection, frame)

    def _take(self, connection: _Connection, frame: str | bytes) -> None:
        """A frame has arrived; once the connection cannot be read any further, nothing is done."""
        protocol, now = self.protocol, trio.current_time()
        protocol.heard(now)
        try:
            payload = connection.decoder.feed(frame)
        except UnpackError as error:
            self._do(connection, protocol.broken(str(error)))
            return
        except (ValueError, RecursionError):
            self._do(connection, protocol.undecodable(now))
            return
        if payload is MORE:
            return
        self._do(connection, protocol.receive(payload, now))
        # The next beat is due at another time after HELLO: the heart must not sleep on.
        due = protocol.next_deadline()
        if due != connection.alarm.deadline:
            connection.alarm.deadline = due

    async def _beat(self, connection: _Connection) -> None:
        while True:
            with trio.CancelScope(deadline=self.protocol.next_deadline()) as connection.alarm:
                await trio.sleep_forever()
            self._do(connection, self.protocol.tick(trio.current_time()))

    async def _write(self, connection: _Connection, socket: WebSocketConnection) -> None:
        async for payload in connection.unsent:
            text = json.dumps({"op": payload.op, "d": payload.data}, separators=(",", ":"))
            # A frame must not be cut short by a cancellation: nothing that follows could be understood.
            deadline = trio.current_time() + self._settings.send_timeout
            with trio.CancelScope(deadline=deadline, shield=True) as scope:  # noqa: ASYNC912
                try:
                    await socket.send_message(text)
                except LOST:
                    return  # the reader knows more: what came before, and the close code
            if scope.cancelled_caught:
                connection.stuck = True
                self._do(connection, self.protocol.broken("the peer does not read"))
                return

    async def _begin(self, connection: _Connection) -> None:
        """Begin a session as soon as that is allowed."""
        try:
            await self._gate.spend(self.number)
        except (IdentifyRefused, OSError) as error:
            connection.error = error
            connection.over()
            return  # noqa: ASYNC910
        self._do(connection, self.protocol.identify(trio.current_time()))
        self._pass_on()

    # -- doing what the protocol says ------------------------------------------------------------

    def _do(self, connection: _Connection, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Deliver):
                self._deliver(action.event)
                if isinstance(action.event, (Ready, Resumed)):
                    self._live.unpark_all()
            elif isinstance(action, Send):
                try:
                    connection.outbox.send_nowait(action)
                except trio.WouldBlock:
                    self._do(connection, self.protocol.broken("the peer does not read"))
            elif isinstance(action, Close):
                connection.over()
            elif connection.tasks is not None:
                connection.tasks.start_soon(self._begin, connection)

    # -- for the gateway -------------------------------------------------------------------------

    async def send(self, op: int, data: Any) -> None:
        """Hand a payload to the writer, as soon as the shard is live and the limit of Discord allows it."""
        await trio.lowlevel.checkpoint()
        while True:
            answer = self.protocol.send(op, data, trio.current_time())
            connection = self._connection
            if isinstance(answer, Send):
                assert connection is not None
                self._do(connection, (answer,))
                return
            if answer == float("inf"):
                await self._live.park()
            else:
                await trio.sleep_until(answer)
