"""What was said while nobody heard it: after a lost session, a gap, and a restart."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, final

import attrs
import trio

from ccm._errors import StorageError
from ccm._manager import ConversationManager
from ccm._message import Message

from ._channels import Behind, Channels
from ._errors import RestError, for_good
from ._gateway import Gateway
from ._hearing import Guild, Said, hear, is_id
from ._inbox import Item
from ._models import Gap, Ready, Resumed, snowflake_at

__all__ = ["Missed"]

FETCHING: Final = 30.0
AGAIN: Final = (5.0, 60.0)
"""Seconds before what could not be fetched is tried again: at first, and at most."""
KNOWN: Final = 10_000
"""Messages that are known to have been heard while something is left to be fetched."""
RECALLED: Final = 500
"""Conversations of earlier processes that are known again, those changed last."""
RECALL_AGE: Final = 86_400.0
"""Seconds; conversations that have not changed for longer are not."""
LINES: Final = 50
"""Lines of a conversation in which the last message is looked for."""
log = logging.getLogger("ccm.discord")


@final
class Missed:
    """Fetches what was missed and hands it in, oldest first, while what comes through the gateway waits.

    What Discord does not give in time, `catch_up` asks for again while newer events are taken up. What has
    not been done when the process is killed is done by the next one: a `Ready`, a `Gap` or a `GUILD_CREATE`
    is handled only afterwards, and what a storage knows of conversations outlives a process.

    Args:
        gateway: whose.
        max_age: seconds; what is older is let go.
        hand_in: takes a message; returns whether it is done with. Those it had before it recognizes.
    """

    # _met       shards of which an item has come
    # _live      shards whose `Ready` or `Resumed` has come
    # _recalled  how many channels an earlier process left; None: nothing outlives a process
    # _left      channel -> where to begin: those that could not be fetched yet
    # _items     what is handled once nothing is left
    # _known     ids that were heard since something is left: they are not handed in again

    def __init__(self, gateway: Gateway, max_age: float, hand_in: Callable[[Said], Awaitable[bool]]) -> None:
        self._gateway = gateway
        self._rest = gateway.rest
        self._max_age = max_age
        self._hand_in = hand_in
        self._channels = Channels(snowflake_at(time.time()))
        self._me = ""
        self._met: set[int] = set()
        self._live: set[int] = set()
        self._recalled: int | None = None
        self._left: dict[str, Behind] = {}
        self._items: list[Item] = []
        self._known: OrderedDict[str, None] = OrderedDict()
        self._work = trio.Event()
        self._stopped = False

    def stop(self) -> None:
        """The manager takes no more: what is not handled yet is left to the next process. O(1)."""
        self._stopped = True

    def heard(self, message: Message) -> None:
        """A message was handed in. O(1)."""
        if self._left:
            self._known[message.id] = None
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
        self._channels.heard(message.channel, message.tenant, message.id)

    async def recall(self, manager: ConversationManager, me: str) -> None:
        """Take up what the storage of a manager knows; `me` is the bot's own id.

        Raises:
            StorageError: it cannot be read.
        """
        self._me = me
        try:
            conversations = manager.conversations
        except StorageError:  # it has none
            await trio.lowlevel.checkpoint()
            return
        found: dict[str, tuple[str, str]] = {}
        now = time.time()
        for one in (await conversations.list(limit=RECALLED)).items:
            if not is_id(one.key) or one.channel != one.key or one.updated < now - RECALL_AGE:
                continue
            last = "0"
            if one.updated >= now - self._max_age:  # else what is too old is all that is known of it
                lines = (await conversations.history(one.key, limit=LINES)).items
                ids = [line.message_id for line in lines if line.role == "user" and is_id(line.message_id)]
                last = max(ids, key=int, default="0")
            found[one.key] = one.tenant, last
        for session in manager.sessions():  # of messages that are not answered yet the history knows nothing
            if is_id(session.conversation) and session.channel == session.conversation:
                found.setdefault(session.conversation, (session.tenant, "0"))
        for channel, (guild, last) in reversed(found.items()):
            self._channels.recall(channel, guild, last)
        self._recalled = len(found)

    async def before(self, item: Item) -> bool:
        """Hand in what was missed before an item; returns whether that is all."""
        first = item.shard not in self._met and self._recalled is not None
        self._met.add(item.shard)
        lost = isinstance(item, Ready) and item.new_session
        if first and (self._recalled or lost or not isinstance(item, Ready)):
            self._channels.unheard(self._oldest())
        if isinstance(item, (Ready, Resumed)):
            self._live.add(item.shard)
        if isinstance(item, Ready) and (lost or first):
            for guild in item.guilds:
                self._channels.lost(guild)
        if lost or first or (isinstance(item, Gap) and item.messages):
            shard_of = self._gateway.shard_of
            places = self._channels.behind(lambda guild: shard_of(guild) == item.shard, self._oldest())
            return await self._fetch_before(item, places)
        return True  # noqa: ASYNC910 - the bridge lets others run at each item

    async def guild(self, guild: Guild, item: Item) -> bool:
        """A guild can be heard; in channels that were not known something may have been said. As `before`."""
        if item.shard not in self._live and self._recalled is not None:
            self._channels.lost(guild.id)  # told again: the process that it was told to has ended
        places = self._channels.compare(guild.id, guild.channels, self._oldest())
        done = await self._fetch_before(item, places)
        for channel, last in guild.channels:
            self._channels.heard(channel, guild.id, last)
        return done

    async def _fetch_before(self, item: Item, places: list[Behind]) -> bool:
        left, done = await self._fetch(places)
        for place in left:
            known = self._left.setdefault(place.channel, place)
            if int(place.after) < int(known.after):
                self._left[place.channel] = place
        if left:
            self._items.append(item)
            self._work.set()
        return done and not left

    async def catch_up(self) -> None:
        """Fetch what could not be fetched, as soon as it can be, until cancelled."""
        pause = AGAIN[0]
        while not self._stopped:
            await self._work.wait()
            await trio.sleep(pause)
            oldest, tried = self._oldest(), [*self._left.values()]
            places = [attrs.evolve(one, after=max(one.after, oldest, key=int)) for one in tried]
            left, done = await self._fetch(places)
            missing = {place.channel for place in left}
            for place in tried:
                if place.channel not in missing and self._left[place.channel] is place:
                    del self._left[place.channel]
            pause = min(2 * pause, AGAIN[1]) if missing else AGAIN[0]
            if self._left or not done or self._stopped:
                continue
            self._known.clear()
            self._work = trio.Event()
            for item in self._items:
                self._gateway.handled(item)
            self._items.clear()
        await trio.sleep_forever()

    def _oldest(self) -> str:
        return snowflake_at(time.time() - self._max_age)

    async def _fetch(self, places: list[Behind]) -> tuple[list[Behind], bool]:
        """Hand in what was said; returns the places that could not be asked, and whether all was taken."""
        found: list[Said] = []
        left = {place.channel: place for place in places}

        async def fetch(place: Behind) -> None:  # noqa: ASYNC910 - a request, whether it fails or not
            try:
                for chat in await self._rest.messages_after(place.channel, place.after):
                    heard = hear("MESSAGE_CREATE", {**chat.raw, "guild_id": place.guild}, self._me)
                    if isinstance(heard, Said):
                        found.append(heard)
            except RestError as error:
                log.info("channel %s cannot be backfilled: %s", place.channel, error)
                if not for_good(error):
                    return  # noqa: ASYNC910
            left.pop(place.channel, None)  # also where the bot may not read

        with trio.move_on_after(FETCHING):
            async with trio.open_nursery() as nursery:
                for place in places:
                    nursery.start_soon(fetch, place)
        done = True
        for said in sorted(found, key=lambda said: int(said.message.id)):
            if said.message.id not in self._known:
                done &= await self._hand_in(said)
        return [*left.values()], done
