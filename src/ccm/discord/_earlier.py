"""Replies of earlier processes, and of long ago: only the storage and Discord know of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, final

import trio

from ccm._changes import Change
from ccm._errors import StorageError
from ccm._manager import ConversationManager
from ccm._message import Message

from ._draft import sendable
from ._hearing import CHANNEL
from ._replies import Aside, Replies
from ._rest import Rest
from ._split import split

__all__ = ["Earlier"]

LINES: Final = 200
"""Lines of a conversation in which a message that was deleted is looked for."""
BEHIND: Final = 100
"""Messages behind it among which its reply is looked for: what one request brings."""
log = logging.getLogger("ccm.discord")


@final
class Earlier:
    """Takes back replies whose place on Discord no process remembers.

    The storage says that a message was answered, and what the answer was. Discord says which message of the
    bot refers to it; the parts behind the first refer to nothing, and are known by their text.

    Args:
        rest, aside: for requests.
        replies: those that are remembered.
    """

    def __init__(self, rest: Rest, aside: Aside, replies: Replies) -> None:
        self._rest = rest
        self._aside = aside
        self._replies = replies

    async def withdraw(
        self, manager: ConversationManager, me: str, channel: str, tenant: str, ids: Sequence[str]
    ) -> None:
        """Take back the replies to messages of a channel that were deleted, best effort.

        A reply that answers several messages stays. Without a storage nothing is known, so nothing happens.
        """
        try:
            lines = (await manager.conversations.history(channel, limit=LINES)).items
        except (StorageError, KeyError) as error:  # there is none, it fails; it does not know the channel
            log.debug("replies in %s cannot be looked up: %s", channel, error)
            await trio.lowlevel.checkpoint()
            return
        for line in lines:
            if line.role != "user" or line.message_id not in ids:
                continue
            try:
                change = await manager.retract(line.message_id, tenant=tenant, conversation=channel)
            except StorageError as error:
                log.warning("the retraction of %s is not kept: %s", line.message_id, error)
                continue
            if change is not Change.RETRACTED:
                continue
            texts = [one.text for one in lines if one.turn_id == line.turn_id and one.role == "assistant"]
            message = Message(
                channel, line.user or "?", line.text, id=line.message_id, tenant=tenant,
                channel=channel, metadata={CHANNEL: channel},
            )  # fmt: skip
            # One that is not delivered yet is not sent any more.
            if not self._replies.withdraw(line.turn_id, message):
                parts = [part for text in texts for part in split(sendable(text))]
                self._aside.start(self._erase, channel, line.message_id, me, parts)

    async def _erase(self, channel: str, id: str, me: str, parts: Sequence[str]) -> None:
        left: list[str] | None = None
        for said in await self._rest.messages_after(channel, id, limit=BEHIND):
            if said.author.id != me:
                continue
            if left is None and said.reply_to == id:
                left = [part.strip() for part in parts[1:]]
            elif left and not said.reply_to and said.content.strip() == left[0]:
                del left[0]
            else:
                continue
            await self._rest.delete_message(channel, said.id)
