"""What Discord's objects look like on the wire: every key that its documentation does not call optional.

Clients read more than they need: hikari wants all keys of a guild, discord.py those of a member. A key that
may be absent is absent, never null.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

EPOCH_MS: Final = 1_420_070_400_000
ALL_PERMISSIONS: Final = str((1 << 50) - 1)

Raw = dict[str, Any]


def stamp(seconds: float) -> str:
    """A time as Discord writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def time_of(snowflake: str) -> float:
    """When an id was made, in seconds since 1970."""
    return ((int(snowflake) >> 22) + EPOCH_MS) / 1000


def user(key: str, name: str, *, bot: bool = False) -> Raw:
    return {
        "id": key, "username": name, "discriminator": "0", "global_name": None, "avatar": None, "bot": bot,
        "public_flags": 0,
    }  # fmt: skip


def member(of: Raw, joined: float) -> Raw:
    return {
        "user": of, "nick": None, "avatar": None, "roles": [], "joined_at": stamp(joined),
        "premium_since": None, "deaf": False, "mute": False, "flags": 0, "pending": False,
        "communication_disabled_until": None,
    }  # fmt: skip


def role(key: str, name: str) -> Raw:
    return {
        "id": key, "name": name, "color": 0, "hoist": False, "icon": None, "unicode_emoji": None,
        "position": 0, "permissions": ALL_PERMISSIONS, "managed": False, "mentionable": False, "flags": 0,
        "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
    }  # fmt: skip


def text_channel(key: str, guild: str, name: str, position: int) -> Raw:
    return {
        "id": key, "type": 0, "guild_id": guild, "name": name, "position": position, "topic": None,
        "nsfw": False, "parent_id": None, "last_message_id": None, "rate_limit_per_user": 0,
        "permission_overwrites": [], "flags": 0,
    }  # fmt: skip


def private_channel(key: str, with_: Raw) -> Raw:
    return {"id": key, "type": 1, "recipients": [with_], "last_message_id": None, "flags": 0}


def guild(key: str, name: str, owner: str, joined: float) -> Raw:
    """Without members and channels, which GUILD_CREATE adds."""
    return {
        "id": key, "name": name, "icon": None, "splash": None, "discovery_splash": None, "owner_id": owner,
        "afk_channel_id": None, "afk_timeout": 300, "verification_level": 0,
        "default_message_notifications": 0, "explicit_content_filter": 0, "roles": [role(key, "@everyone")],
        "emojis": [], "features": [], "mfa_level": 0, "application_id": None, "system_channel_id": None,
        "system_channel_flags": 0, "rules_channel_id": None, "max_members": 500_000,
        "vanity_url_code": None, "description": None, "banner": None, "premium_tier": 0,
        "preferred_locale": "en-US", "public_updates_channel_id": None, "nsfw_level": 0, "stickers": [],
        "premium_progress_bar_enabled": False, "safety_alerts_channel_id": None, "incidents_data": None,
        "joined_at": stamp(joined),
    }  # fmt: skip


def message(key: str, channel: str, author: Raw, content: str, *, kind: int = 0, **more: Any) -> Raw:
    """As GET returns it; MESSAGE_CREATE adds `guild_id` and `member`."""
    return {
        "id": key, "type": kind, "channel_id": channel, "author": author, "content": content,
        "timestamp": stamp(time_of(key)), "edited_timestamp": None, "tts": False, "mention_everyone": False,
        "mentions": [], "mention_roles": [], "attachments": [], "embeds": [], "components": [],
        "pinned": False, "flags": 0, **more,
    }  # fmt: skip


def application(key: str, bot: Raw) -> Raw:
    return {
        "id": key, "name": "fake", "icon": None, "description": "", "bot_public": True,
        "bot_require_code_grant": False, "verify_key": "0" * 64, "team": None, "flags": 1 << 18, "bot": bot,
        "owner": user("2", "owner"), "summary": "",
    }  # fmt: skip
