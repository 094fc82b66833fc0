"""What comes out of the gateway, and small typed views of what Discord sends; all else stays in `raw`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import attrs

EPOCH_MS = 1_420_070_400_000
"""Discord's epoch, the first second of 2015, in milliseconds since 1970."""

Raw = Mapping[str, Any]


def snowflake_time(snowflake: str | int) -> float:
    """When an id was made, in seconds since 1970.

    Raises:
        ValueError: it is no id.
    """
    return ((int(snowflake) >> 22) + EPOCH_MS) / 1000


def snowflake_at(seconds: float) -> str:
    """The smallest id of a time in seconds since 1970: `GET messages?after=` takes it."""
    return str(max(int(seconds * 1000) - EPOCH_MS, 0) << 22)


# -- out of the gateway ----------------------------------------------------------------------------


@final
@attrs.frozen(eq=False, slots=True)
class Event:
    """Something happened.

    Attributes:
        type: Discord's name of it, such as `"MESSAGE_CREATE"`.
        data: what Discord sent; a dict for every event that is documented.
        seq: its number in its session; None when there was none.
        shard: the shard it came through.
        session: counts the sessions of the shard in this process; belongs to `seq`.
    """

    type: str
    data: Any
    seq: int | None = None
    shard: int = 0
    session: int = 0


@final
@attrs.frozen(slots=True)
class Ready:
    """A session has begun.

    Attributes:
        new_session: it takes the place of one that was lost, so what happened in between will not come:
            backfill. False for the very first session, which continues nothing.
        user: the bot itself.
        guilds: ids of its guilds.
        shard: the shard.
        session: counts the sessions of the shard in this process.
    """

    new_session: bool
    user: User
    guilds: tuple[str, ...] = ()
    shard: int = 0
    session: int = attrs.field(default=0, eq=False, repr=False)


@final
@attrs.frozen(slots=True)
class Resumed:
    """The session goes on after a cut.

    Attributes:
        replayed: events that came late because of it.
        shard: the shard.
    """

    replayed: int
    shard: int = 0


@final
@attrs.frozen(slots=True)
class Gap:
    """Events are missing and will not come: backfill.

    Attributes:
        reason: `"shed"`: the inbox was full; `"hole"`: Discord left numbers out, live or when the session
            went on; `"undecodable"`: they could not be read.
        count: how many.
        messages: how many of them may have been messages; without any there is nothing to backfill.
        shard: the shard.
        seq, session: the first number that may be missing, and its session, as those of an `Event`; None:
            they had none.
    """

    reason: str
    count: int
    messages: int = 0
    shard: int = 0
    seq: int | None = attrs.field(default=None, eq=False, repr=False)
    session: int = attrs.field(default=0, eq=False, repr=False)


# -- views -----------------------------------------------------------------------------------------


def _text(raw: Raw, key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""


def _id(raw: Any, key: str = "id") -> str:
    """An id that must be there.

    Raises:
        ValueError: it is not, or `raw` is no object.
    """
    value = raw.get(key) if isinstance(raw, Mapping) else None
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"{key} must be an id, a text that is not empty, got {value!r} in {raw!r:.200}")


@final
@attrs.frozen(slots=True)
class User:
    """A person or a bot."""

    id: str
    name: str = ""
    bot: bool = False
    raw: Raw = attrs.field(factory=dict, eq=False, repr=False)

    @classmethod
    def of(cls, raw: Any) -> User:
        """View `raw`.

        Raises:
            ValueError: it has no id.
        """
        key = _id(raw)
        return cls(key, _text(raw, "global_name") or _text(raw, "username"), raw.get("bot") is True, raw)


@final
@attrs.frozen(slots=True)
class ChatMessage:
    """A message in a channel.

    Attributes:
        guild_id: empty in a private chat.
        mentions: ids of the users it mentions.
        reply_to: id of the message it answers, empty when it answers none.
        reply_author: id of that message's author, empty when unknown.
        webhook: it was sent by a webhook, not by a person.
        kind: 0 is a plain message, 19 a reply; all other kinds are made by Discord or by commands.
    """

    id: str
    channel_id: str
    author: User
    content: str = ""
    guild_id: str = ""
    mentions: tuple[str, ...] = ()
    reply_to: str = ""
    reply_author: str = ""
    webhook: bool = False
    kind: int = 0
    raw: Raw = attrs.field(factory=dict, eq=False, repr=False)

    @classmethod
    def of(cls, raw: Any) -> ChatMessage:
        """View `raw`.

        Raises:
            ValueError: the id, the channel or the author is missing, as in some MESSAGE_UPDATEs.
        """
        key, channel, author = _id(raw), _id(raw, "channel_id"), User.of(raw.get("author"))
        reference, answered = raw.get("message_reference"), raw.get("referenced_message")
        mentions = raw.get("mentions")
        kind = raw.get("type")
        of = answered.get("author") if isinstance(answered, Mapping) else None
        return cls(
            id=key,
            channel_id=channel,
            author=author,
            content=_text(raw, "content"),
            guild_id=_text(raw, "guild_id"),
            mentions=tuple(
                _text(user, "id")
                for user in (mentions if isinstance(mentions, list) else ())
                if isinstance(user, Mapping)
            ),
            reply_to=_text(reference, "message_id") if isinstance(reference, Mapping) else "",
            reply_author=_text(of, "id") if isinstance(of, Mapping) else "",
            webhook=bool(raw.get("webhook_id")),
            kind=kind if isinstance(kind, int) else 0,
            raw=raw,
        )


@final
@attrs.frozen(slots=True)
class Interaction:
    """A slash command, a button, a menu: answer within 3 s; the token serves for 15 minutes.

    Attributes:
        kind: 2 is a slash command.
        name: of the command, empty for other kinds.
        options: the command's arguments by name.
        user: who did it.
    """

    id: str
    application_id: str
    token: str = attrs.field(repr=False)
    kind: int
    user: User
    name: str = ""
    options: Mapping[str, Any] = attrs.field(factory=dict)
    channel_id: str = ""
    guild_id: str = ""
    raw: Raw = attrs.field(factory=dict, eq=False, repr=False)

    @classmethod
    def of(cls, raw: Any) -> Interaction:
        """View `raw`.

        Raises:
            ValueError: an id, the token or the user is missing.
        """
        key, application, token = _id(raw), _id(raw, "application_id"), _id(raw, "token")
        member, data, kind = raw.get("member"), raw.get("data"), raw.get("type")
        data = data if isinstance(data, Mapping) else {}
        options = data.get("options")
        return cls(
            id=key,
            application_id=application,
            token=token,
            kind=kind if isinstance(kind, int) else 0,
            user=User.of(member.get("user") if isinstance(member, Mapping) else raw.get("user")),
            name=_text(data, "name"),
            options={
                _text(option, "name"): option.get("value")
                for option in (options if isinstance(options, list) else ())
                if isinstance(option, Mapping)
            },
            channel_id=_text(raw, "channel_id"),
            guild_id=_text(raw, "guild_id"),
            raw=raw,
        )


@final
@attrs.frozen(slots=True)
class GatewayInfo:
    """What `GET /gateway/bot` says.

    Attributes:
        total, remaining: sessions that may be begun in a day, and those left.
        reset_after: seconds until `remaining` is `total` again.
        max_concurrency: sessions that may be begun within 5 s.
    """

    url: str
    shards: int = 1
    total: int = 1000
    remaining: int = 1000
    reset_after: float = 0.0
    max_concurrency: int = 1

    @classmethod
    def of(cls, raw: Any) -> GatewayInfo:
        """View `raw`; what is missing or makes no sense is as for a small bot.

        Raises:
            ValueError: it names no URL.
        """
        url = raw.get("url") if isinstance(raw, Mapping) else None
        if not isinstance(url, str) or not url.startswith(("ws://", "wss://")):
            raise ValueError(f"url must begin with ws:// or wss://, got {raw!r:.200}")
        limit = raw.get("session_start_limit")
        limit = limit if isinstance(limit, Mapping) else {}
        return cls(
            url=url,
            shards=_whole(raw.get("shards"), 1, 1),
            total=_whole(limit.get("total"), 1000, 1),
            remaining=_whole(limit.get("remaining"), 1000, 0),
            reset_after=_whole(limit.get("reset_after"), 0, 0) / 1000,
            max_concurrency=_whole(limit.get("max_concurrency"), 1, 1),
        )


def _whole(value: Any, without: int, low: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= low else without
