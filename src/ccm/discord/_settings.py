"""`DiscordSettings`: everything that can be set, checked when it is made."""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import attrs

from ccm._checks import number, optional, refuse, whole

__all__ = ["DiscordSettings", "Intents"]

MAX_INTENTS = 1 << 53
MAX_PRESENCE = 3_500
"""Bytes: it is a part of IDENTIFY, which has 4096."""


class Intents(enum.IntFlag):
    """Which events Discord sends. MESSAGE_CONTENT is privileged: switch it on in the developer portal."""

    GUILDS = 1 << 0
    GUILD_MODERATION = 1 << 2
    GUILD_MESSAGES = 1 << 9
    GUILD_MESSAGE_REACTIONS = 1 << 10
    DIRECT_MESSAGES = 1 << 12
    MESSAGE_CONTENT = 1 << 15


DEFAULT_INTENTS = Intents.GUILDS | Intents.GUILD_MESSAGES | Intents.DIRECT_MESSAGES


def _token(instance: Any, field: Any, value: Any) -> None:
    ok = isinstance(value, str) and value and value.isascii() and value.isprintable() and " " not in value
    if not ok:  # the value is a secret: it is not shown
        raise refuse(field.name, type(value), "the bot's token, a text without spaces (DISCORD_TOKEN)")


def _url(instance: Any, field: Any, value: Any) -> None:
    schemes = ("http://", "https://") if field.name == "api_url" else ("ws://", "wss://")
    if value is None and field.name == "gateway_url":
        return
    if not isinstance(value, str) or not value.startswith(schemes):
        raise refuse(field.name, value, f"a URL that begins with {' or '.join(schemes)}")


def _user_agent(instance: Any, field: Any, value: Any) -> None:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
        raise refuse(
            field.name, value, "printable ASCII text such as 'DiscordBot (https://example.org, 1.0)'"
        )


def _presence(instance: Any, field: Any, value: Any) -> None:
    if value is None:
        return
    wanted = f"an object as Discord describes it, which makes at most {MAX_PRESENCE} bytes of JSON"
    try:
        fits = isinstance(value, Mapping) and len(json.dumps(dict(value), allow_nan=False)) <= MAX_PRESENCE
    except (ValueError, TypeError, RecursionError):
        fits = False
    if not fits:
        raise refuse(field.name, value, wanted)


def _compress(instance: Any, field: Any, value: Any) -> None:
    if value not in (None, "zlib-stream", "zstd-stream"):
        raise refuse(field.name, value, "'zlib-stream', 'zstd-stream' or None")


def _stripped(url: Any) -> Any:
    return url.rstrip("/") if isinstance(url, str) else url


def _shard_ids(instance: DiscordSettings, field: Any, value: Any) -> None:
    if value is None:
        return
    shards = instance.shards
    if shards is None or not value or any(not isinstance(n, int) or not 0 <= n < shards for n in value):
        raise refuse(field.name, value, "numbers from 0 to below shards, which must be given, too")
    if len(set(value)) != len(value):
        raise refuse(field.name, value, "numbers that differ")


def _default_agent() -> str:
    return f"DiscordBot (https://pypi.org/project/ccm, {version('ccm')})"


@final
@attrs.frozen(kw_only=True, slots=True)
class DiscordSettings:
    """How to talk to Discord. Times are seconds.

    Attributes:
        token: the bot's token; never shown.
        intents: which events are wanted, see `Intents`.
        shards: number of shards; None asks Discord.
        shard_ids: those that run in this process; None: all.
        presence: what the bot shows of itself, as Discord's `presence` object.
        compress: how the gateway's events are packed.
        events: names of the events that are handed out, None: all. Leaving out those that nobody reads
            saves room in the inbox.
        acknowledge: whether an item counts as handled only when `gateway.handled(item)` says so. Without,
            it does when the next one is asked for.
        max_unhandled: with `acknowledge`, events that may be on their way before the next one is given out.
        inbox: events that may wait to be read.
        state: a file for what must outlive the process: sessions to resume, and how many were begun. None
            keeps it in memory, and Discord sees the bot go as soon as the process ends.
        identify_reserve: sessions of the day that are never begun: past the last one Discord resets the
            token.
        connect_timeout, disconnect_timeout, send_timeout: of the gateway's connections.
        max_message_size: bytes of one event, packed and unpacked.
        api_url, gateway_url: where Discord is; None asks the former for the latter.
        user_agent: who is asking, in the form Discord wants.
        request_timeout: one attempt of a request; `deadline`: a request with all its attempts and waits.
        attempts: of one request, when Discord fails or cannot be reached.
        concurrency: requests on their way at a time. Answers to commands are counted apart, and so are the
            first answers among them.
        max_invalid: answers 401, 403 and 429 within 10 minutes after which no more is asked; 10,000 is
            where Discord bans the address.
    """

    token: str = attrs.field(validator=_token, repr=False)
    intents: int = attrs.field(default=DEFAULT_INTENTS, converter=int, validator=whole(0, MAX_INTENTS))
    shards: int | None = attrs.field(default=None, validator=optional(whole(1, 100_000)))
    shard_ids: tuple[int, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(tuple), validator=_shard_ids
    )
    presence: Mapping[str, Any] | None = attrs.field(default=None, validator=_presence)
    compress: str | None = attrs.field(default="zlib-stream", validator=_compress)
    events: frozenset[str] | None = attrs.field(default=None, converter=attrs.converters.optional(frozenset))
    acknowledge: bool = False
    max_unhandled: int = attrs.field(default=10_000, validator=whole(1, 1_000_000))
    inbox: int = attrs.field(default=2_000, validator=whole(1, 1_000_000))
    state: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    identify_reserve: int = attrs.field(default=50, validator=whole(0, 900))
    connect_timeout: float = attrs.field(default=10.0, validator=number(0, above=True))
    disconnect_timeout: float = attrs.field(default=2.0, validator=number(0, above=True))
    send_timeout: float = attrs.field(default=5.0, validator=number(0, above=True))
    max_message_size: int = attrs.field(default=16 << 20, validator=whole(4096, 1 << 30))
    api_url: str = attrs.field(default="https://discord.com/api/v10", validator=_url, converter=_stripped)
    gateway_url: str | None = attrs.field(default=None, validator=_url)
    user_agent: str = attrs.field(factory=_default_agent, validator=_user_agent)
    request_timeout: float = attrs.field(default=10.0, validator=number(0, above=True))
    deadline: float = attrs.field(default=60.0, validator=number(0, above=True))
    attempts: int = attrs.field(default=5, validator=whole(1, 100))
    concurrency: int = attrs.field(default=20, validator=whole(1, 1000))
    max_invalid: int = attrs.field(default=500, validator=whole(1, 9_000))

    @classmethod
    def from_env(cls, **settings: Any) -> DiscordSettings:
        """Settings from the environment: the token from DISCORD_TOKEN, and, if they are there, `state` and
        `api_url` from DISCORD_STATE and DISCORD_API_URL.

        Args:
            settings: the rest; what is given here goes before the environment.

        Raises:
            ConfigError: DISCORD_TOKEN is not set, or a setting is not what it must be.
        """
        settings.setdefault("token", os.environ.get("DISCORD_TOKEN", ""))
        for field in ("state", "api_url"):
            if (name := f"DISCORD_{field.upper()}") in os.environ:
                settings.setdefault(field, os.environ[name])
        return cls(**settings)
