"""`open_gateway`: the events of a bot, in order, through cuts, restarts and bursts."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any, final

import attrs
import trio

from ._dial import Dialler, dial_tcp
from ._errors import TOKEN, GatewayClosed, RestError, as_closed
from ._gate import Gate
from ._identify import IdentifyBudget
from ._inbox import COMMANDS, Inbox, Item
from ._inflate import inflater
from ._models import Event, Gap, GatewayInfo, Ready, User
from ._progress import Progress, place_of
from ._rest import Rest, open_rest
from ._settings import DiscordSettings
from ._shard import Shard
from ._sharding import shard_of, start_order
from ._state import State, open_state

__all__ = ["Gateway", "GatewayStatistics", "open_gateway"]

MAX_PAYLOAD = 4096
SAVE_TIMEOUT = 1.0
KEEP_EVERY = 1.0
"""Seconds between two savings of the sessions: after a crash as much is replayed, and recognized."""
RESUMABLE, NORMAL = 4000, 1000


@final
@attrs.frozen
class GatewayStatistics:
    """A picture of this instant.

    Attributes:
        live, shards: shards that get events, and all.
        connections: opened so far.
        waiting: items in the inbox.
        unhandled: events taken in and not handled.
        shed: events given up because the inbox was full.
        holes: numbers that Discord left out; each was told by a `Gap`.
        ignored: payloads without a meaning.
        unsaved: times the sessions could not be written.
    """

    live: int
    shards: int
    connections: int
    waiting: int
    unhandled: int
    shed: int
    holes: int
    ignored: int
    unsaved: int


@final
class Gateway:
    """The events of a bot: `async for event in gateway`, by one task. Made by `open_gateway`.

    Yields `Event`, and in their places `Ready`, `Resumed` and `Gap`. The loop ends with an error when going
    on is of no use: `GatewayClosed`, `IdentifyRefused`. A request that is answered with 401 is such a reason,
    too, because Discord leaves a gateway open whose token was reset: every shard leaves, as at the end of the
    block, and the loop ends with `GatewayClosed` (4004) when it has read what had come by then.

    Attributes:
        rest: for requests.
        user: the bot itself; None before the first `Ready`.
        shards: number of shards of the bot, those of other processes included.
    """

    def __init__(self, settings: DiscordSettings, rest: Rest, state: State, shards: int) -> None:
        self.rest = rest
        self.user: User | None = None
        self.shards = shards
        self._settings = settings
        self._state = state
        self._inbox = Inbox(settings.inbox)
        self._shards: dict[int, Shard] = {}
        self._progress: dict[int, Progress] = {}
        self._unhandled = 0
        self._room = trio.lowlevel.ParkingLot()
        self._last: Item | None = None
        self._take_command: Callable[[Event], object] | None = None
        self._keeping = trio.CancelScope()
        self._watching = trio.CancelScope()
        self._dirty = False
        self._unsaved = 0

    # -- reading ---------------------------------------------------------------------------------

    def __aiter__(self) -> Gateway:
        return self

    async def __anext__(self) -> Item:
        """The next item. When cancelled, none is lost.

        Raises:
            trio.BusyResourceError: another task reads.
            DiscordError: nothing more will come.
        """
        if self._settings.acknowledge:
            while self.unhandled >= self._settings.max_unhandled:
                await self._room.park()
        elif self._last is not None:
            last, self._last = self._last, None
            self.handled(last)
        item = await self._inbox.get()
        self._last = item
        if isinstance(item, Ready):
            self.user = item.user
        elif isinstance(item, Gap) and item.reason == "shed":
            self._hold(item)  # while it was in the inbox, that knew of it
        return item

    @property
    def unhandled(self) -> int:
        """Events that were handed out and are not handled. O(shards)."""
        waiting = len(self._inbox)
        return max(sum(map(len, self._progress.values())) - waiting, 0)

    def handled(self, item: Item) -> None:
        """The item needs not come again: after a restart the session goes on behind it.

        Items may be handled in any order; the session goes on before the first that is not, and is the one
        before while a `Ready` is not. With `acknowledge` each item must be said to be handled: a `Ready` and
        a `Gap` when what was missed has been fetched, and events, or no more are handed out after
        `max_unhandled`. O(1).
        """
        place, progress = place_of(item), self._progress.get(item.shard)
        if place is None or progress is None:
            return
        if isinstance(item, Event):
            progress.done(*place)
            self._room.unpark()
        else:
            progress.release(place)

    def divert(self, take: Callable[[Event], object] | None) -> None:
        """Have interactions (`INTERACTION_CREATE`) taken at once, past the inbox; None: no more.

        Discord wants an answer within 3 s, however much is in front of it in the inbox. The loop does not see
        what was taken. It counts as handled at once: for a later process it would come too late. O(waiting).

        Args:
            take: called with each in the order in which they come, those that wait in the inbox first. It
                must neither wait nor raise: the connection is read by who calls it.
        """
        self._take_command = take
        if take is not None:
            for event in self._inbox.take_commands():
                self.handled(event)
                take(event)

    def _hold(self, item: Item) -> None:
        place = place_of(item)
        if place is not None:
            self._progress[item.shard].hold(place)

    # -- sending ---------------------------------------------------------------------------------

    async def send(self, op: int, data: Any, *, shard: int = 0) -> None:
        """Send a payload, such as a presence (op 3), when the shard is live and Discord's limit allows it.

        Args:
            op: 3 (presence), 4 (voice state) or 8 (ask for members).
            data: JSON, 4096 bytes at most with what is around it.
            shard: through which.

        When cancelled, either nothing was sent or all of it. It is lost if the connection ends meanwhile.

        Raises:
            ValueError, TypeError: it is too large, no JSON, or for no shard of this process.
        """
        size = len(json.dumps({"op": op, "d": data}, allow_nan=False))
        if size > MAX_PAYLOAD:
            raise ValueError(f"data must take {MAX_PAYLOAD} bytes or less, got {size}; send less at a time")
        if shard not in self._shards:
            raise ValueError(f"shard must be one of {sorted(self._shards)}, got {shard!r}")
        await self._shards[shard].send(op, data)

    def shard_of(self, guild_id: str | None) -> int:
        """The shard whose events are those of a guild; None: of private chats."""
        return shard_of(guild_id, self.shards)

    # -- looking at it ---------------------------------------------------------------------------

    def statistics(self) -> GatewayStatistics:
        """A frozen picture of this instant. O(shards)."""
        shards = self._shards.values()
        return GatewayStatistics(
            live=sum(shard.protocol.live for shard in shards),
            shards=len(shards),
            connections=sum(shard.connections for shard in shards),
            waiting=len(self._inbox),
            unhandled=self.unhandled,
            shed=self._inbox.shed,
            holes=sum(shard.protocol.holes for shard in shards),
            ignored=sum(shard.protocol.ignored for shard in shards),
            unsaved=self._unsaved,
        )

    # -- from the shards -------------------------------------------------------------------------

    def _deliver(self, item: Item) -> None:
        if isinstance(item, Event):
            wanted = self._settings.events
            if wanted is not None and item.type not in wanted:
                return
            if self._take_command is not None and item.type in COMMANDS:
                self._take_command(item)
                return
            if item.seq is not None:
                self._progress[item.shard].admit(item.session, item.seq)
        else:
            self._hold(item)
        shed = self._inbox.put_nowait(item)
        if shed is not None:
            self.handled(shed)

    def _add(self, number: int, url: str, gate: Gate, dial: Dialler) -> Shard:
        shard = Shard(
            number,
            self._settings,
            url=url,
            shards=self.shards,
            saved=self._state.sessions.get(f"{number}/{self.shards}"),
            gate=gate,
            dial=dial,
            deliver=self._deliver,
            fail=self._inbox.fail,
        )
        self._shards[number] = shard
        self._progress[number] = Progress()
        return shard

    # -- keeping ---------------------------------------------------------------------------------

    def _note_sessions(self) -> bool:
        """Bring the state up to date; returns whether it has changed."""
        changed = False
        for number, shard in self._shards.items():
            protocol = shard.protocol
            missing = self._inbox.missing(number)
            safe = self._progress[number].safe(protocol.sessions, protocol.seq, missing)
            session = protocol.session(safe)
            name = f"{number}/{self.shards}"
            if session is not None and session != self._state.sessions.get(name):
                self._state.sessions[name] = session
                changed = True
        return changed

    async def _keep(self) -> None:
        """Save the sessions now and then, until `_stop`; what cannot be written is tried again."""
        with self._keeping:
            while self._state.kept:
                await trio.sleep(KEEP_EVERY)
                await self._keep_once()
        await trio.lowlevel.checkpoint_if_cancelled()

    async def _keep_once(self) -> None:  # noqa: ASYNC910
        self._dirty |= self._note_sessions()
        if not self._dirty:
            await trio.lowlevel.checkpoint()
            return
        self._dirty = False
        try:
            await self._state.save()
        except OSError:
            self._dirty = True
            self._unsaved += 1

    async def _watch(self) -> None:
        """Leave when Discord does not accept the token any more, until `_stop`."""
        with self._watching:
            request = await self.rest.requests.refused()
            self._inbox.fail(GatewayClosed(TOKEN, request))
            self._leave()

    def _leave(self) -> None:
        """Say goodbye; the sessions live on if they are kept."""
        for shard in self._shards.values():
            shard.stop(RESUMABLE if self._state.kept else NORMAL)

    def _stop(self) -> None:
        """The end of the block."""
        self._keeping.cancel()
        self._watching.cancel()
        self._leave()


@asynccontextmanager
async def open_gateway(
    settings: DiscordSettings, *, rest: Rest | None = None, dial: Dialler = dial_tcp
) -> AsyncIterator[Gateway]:
    """Connect to Discord for as long as the block lasts.

    Every shard of this process connects, goes on with its saved session if there is one, and connects again
    after a cut. When the block is left, the sessions are kept for the next process if `settings.state` names
    a file, and ended otherwise; that takes `disconnect_timeout` and a second to write at most.

    Args:
        settings: see `DiscordSettings`.
        rest: an open client to share; None opens one.
        dial: opens streams, for tests and tunnels.

    Raises:
        DiscordError: Discord cannot be asked where the gateway is, or the state file is of somebody else.
        GatewayClosed: with code 4004; it was asked, and does not accept the token.
        RuntimeError: `compress` needs a package that is not installed.
    """
    inflater(settings.compress, settings.max_message_size)  # fails here rather than in each connection
    async with open_rest(settings) if rest is None else nullcontext(rest) as client:
        state = await open_state(settings.state)
        info = await _ask(settings, client)
        gateway = Gateway(settings, client, state, settings.shards or info.shards)
        budget = IdentifyBudget(info, settings.identify_reserve, state.begun, time.time())
        gate = Gate(budget, info.max_concurrency, state)
        numbers = settings.shard_ids or tuple(range(gateway.shards))
        error: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(gateway._keep)
                for number in start_order(numbers):
                    await nursery.start(gateway._add(number, info.url, gate, dial).run)
                nursery.start_soon(gateway._watch)
                try:
                    yield gateway
                finally:
                    gateway._stop()
        except BaseExceptionGroup as group:
            # The nursery wraps even a single error; whoever uses the block should see their own.
            if len(group.exceptions) > 1:
                raise
            error = group.exceptions[0]
        finally:
            with trio.CancelScope(deadline=trio.current_time() + SAVE_TIMEOUT, shield=True):
                await gateway._keep_once()
    if error is not None:
        raise error


async def _ask(settings: DiscordSettings, rest: Rest) -> GatewayInfo:
    if settings.gateway_url is not None:
        await trio.lowlevel.checkpoint()
        return GatewayInfo(settings.gateway_url)
    try:
        return await rest.gateway_info()
    except RestError as error:
        raise as_closed(error) from error
