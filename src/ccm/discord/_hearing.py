"""What an event of the gateway means for a bot: a message, an edit, deletions, a command, or nothing.

Without I/O, and for any data: what cannot be understood means nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, final

import attrs

from ccm._message import Message

from ._models import ChatMessage, Interaction, snowflake_time

__all__ = ["HEARD", "addressed", "channel_of", "hear"]

HEARD: Final = frozenset(
    {
        "GUILD_CREATE", "INTERACTION_CREATE", "MESSAGE_CREATE", "MESSAGE_DELETE", "MESSAGE_DELETE_BULK",
        "MESSAGE_UPDATE",
    }
)  # fmt: skip
"""The events that mean something: all that a bot needs in `DiscordSettings.events`."""
PLAIN, REPLY, SLASH = 0, 19, 2
MENTION = re.compile(r"<@!?(\d{1,20})>")
MAX_ID: Final = 1 << 63
CHANNEL: Final = "discord"
"""The metadata that has a message's channel, and by which it is known to come from here."""
LOAD_TEST: Final = "load_test"
"""The metadata of a message that only tests the load."""


@final
@attrs.frozen
class Said:
    """Somebody said something."""

    message: Message
    chat: ChatMessage


@final
@attrs.frozen
class Edited:
    """A message has a new text, or is shown anew with the old one; `whole` if a person's could be read."""

    id: str
    tenant: str
    text: str
    whole: Message | None = None


@final
@attrs.frozen
class Deleted:
    """Messages of a channel were deleted; `channel` is "" if Discord did not say which."""

    ids: tuple[str, ...]
    tenant: str
    channel: str = ""


@final
@attrs.frozen
class Commanded:
    """Somebody used a slash command."""

    interaction: Interaction


@final
@attrs.frozen
class Guild:
    """A guild can be heard from now on; `channels` are those where something was said, with the last id."""

    id: str
    channels: tuple[tuple[str, str], ...]


Heard = Said | Edited | Deleted | Commanded | Guild


def addressed(message: Message) -> bool:
    """Whether a message is for the bot: it mentions it, answers it, or is in a private chat.

    A rule for `Router.route(when=...)`. The messages of `/test_concurrent` are for it, too.
    """
    if message.metadata.get(LOAD_TEST):
        return True
    return CHANNEL in message.metadata and bool(message.metadata.get("mention") or not message.tenant)


def channel_of(message: Message) -> str | None:
    """The channel that a message was said in; None: it does not come from Discord."""
    channel = message.metadata.get(CHANNEL)
    return channel if is_id(channel) else None


def is_id(value: Any) -> bool:
    """Whether it is an id: digits whose value fits."""
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20
    return digits and int(value) < MAX_ID


def hear(kind: str, data: Any, me: str) -> Heard | None:
    """What an event means; None: nothing. O(length).

    Args:
        kind: the event's type.
        data: what Discord sent.
        me: the bot's own id.
    """
    if not isinstance(data, Mapping):
        return None
    reader = _READERS.get(kind)
    try:
        return None if reader is None else reader(data, me)
    except ValueError:  # an id is missing: as good as no event
        return None


def _said(data: Mapping[str, Any], me: str) -> Said | None:
    chat = ChatMessage.of(data)
    if chat.author.bot or chat.author.id == me or chat.webhook or chat.kind not in (PLAIN, REPLY):
        return None
    text = _clean(chat.content, data, me)
    if not text or not is_id(chat.id) or not is_id(chat.channel_id):
        return None
    metadata: dict[str, Any] = {CHANNEL: chat.channel_id, "name": chat.author.name}
    if me in chat.mentions or chat.reply_author == me:
        metadata["mention"] = True
    if chat.reply_to:
        metadata["reply_to"] = chat.reply_to
    message = Message(
        chat.channel_id, chat.author.id, text, id=chat.id, tenant=chat.guild_id, channel=chat.channel_id,
        sent_at=datetime.fromtimestamp(snowflake_time(chat.id), UTC), metadata=metadata,
    )  # fmt: skip
    return Said(message, chat)


def _clean(content: str, data: Mapping[str, Any], me: str) -> str:
    """The text as people see it: the bot's own mention is left out, others have names."""
    names: dict[str, str] = {}
    for user in _objects(data.get("mentions")):
        name = user.get("global_name") or user.get("username")
        if isinstance(user.get("id"), str) and isinstance(name, str):
            names[user["id"]] = name

    def named(match: re.Match[str]) -> str:
        return "" if match[1] == me else f"@{names[match[1]]}" if match[1] in names else match[0]

    return MENTION.sub(named, content).strip()


def _edited(data: Mapping[str, Any], me: str) -> Edited | None:
    # Without the time of the edit it is Discord that adds a preview of a link.
    if not isinstance(data.get("content"), str) or not isinstance(data.get("edited_timestamp"), str):
        return None
    text, tenant = _clean(data["content"], data, me), data.get("guild_id")
    if not text or not is_id(data.get("id")):
        return None
    try:
        said = _said(data, me)
    except ValueError:  # some edits come without an author
        said = None
    whole = None if said is None else said.message
    return Edited(data["id"], tenant if isinstance(tenant, str) else "", text, whole)


def _deleted(data: Mapping[str, Any], me: str) -> Deleted | None:
    many, tenant = data.get("ids"), data.get("guild_id")
    ids = tuple(filter(is_id, many if isinstance(many, list) else [data.get("id")]))
    channel = data["channel_id"] if is_id(data.get("channel_id")) else ""
    return Deleted(ids, tenant if isinstance(tenant, str) else "", channel) if ids else None


def _commanded(data: Mapping[str, Any], me: str) -> Commanded | None:
    interaction = Interaction.of(data)
    usable = is_id(interaction.id) and is_id(interaction.application_id)
    return Commanded(interaction) if interaction.kind == SLASH and usable else None


def _guild(data: Mapping[str, Any], me: str) -> Guild | None:
    if not is_id(data.get("id")):
        return None
    channels = [*_objects(data.get("channels")), *_objects(data.get("threads"))]
    spoken = (channel for channel in channels if is_id(channel.get("id")))
    return Guild(
        data["id"],
        tuple((one["id"], one["last_message_id"]) for one in spoken if is_id(one.get("last_message_id"))),
    )


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    return (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else iter(())


_READERS: Final = {
    "GUILD_CREATE": _guild,
    "INTERACTION_CREATE": _commanded,
    "MESSAGE_CREATE": _said,
    "MESSAGE_DELETE": _deleted,
    "MESSAGE_DELETE_BULK": _deleted,
    "MESSAGE_UPDATE": _edited,
}
