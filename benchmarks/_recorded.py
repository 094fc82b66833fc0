"""A stream of Discord's gateway as a busy bot receives it: full-size payloads, one zlib context,
from a seed."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from typing import Any

ME = "1000"
GUILD = "2000"
CHANNELS = 40
PEOPLE = 400
SHARES = {
    "MESSAGE_CREATE": 50, "TYPING_START": 20, "PRESENCE_UPDATE": 20, "MESSAGE_REACTION_ADD": 5,
    "MESSAGE_UPDATE": 4, "MESSAGE_DELETE": 1,
}  # fmt: skip
WORDS = (
    "the", "of", "and", "to", "bot", "please", "what", "is", "weather", "today", "tomorrow", "deploy",
    "server", "restart", "thanks", "maybe", "why", "how", "Ünïcode", "日本語", "😀", "<@1000>", "https://example.org/a/b?c=d",
    "`code`", "channel", "review", "merge", "when", "friday", "release",
)  # fmt: skip
TIME = "2026-08-01T12:%02d:%02d.%06d+00:00"


class Writer:
    """Draws payloads; the same seed writes the same stream."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._number = 0
        self._said: list[dict[str, Any]] = []

    def _id(self) -> str:
        self._number += 1
        return str((150_000_000_000 + self._number * 37 << 22) + self._random.randrange(4096))

    def _time(self) -> str:
        draw = self._random.randrange
        return TIME % (draw(60), draw(60), draw(1_000_000))

    def _words(self, low: int, high: int) -> str:
        return " ".join(self._random.choices(WORDS, k=self._random.randint(low, high)))

    def user(self, number: int) -> dict[str, Any]:
        return {
            "username": f"person.{number}", "public_flags": 0, "primary_guild": None,
            "id": str(3000 + number),
            "global_name": f"Person №{number}", "display_name_styles": None, "discriminator": "0",
            "collectibles": None, "clan": None, "avatar_decoration_data": None, "avatar": f"{number:032x}",
        }  # fmt: skip

    def member(self, number: int) -> dict[str, Any]:
        return {
            "roles": [str(2100 + number % 7), str(2100 + number % 3)], "premium_since": None,
            "pending": False,
            "nick": None if number % 3 else f"nick {number}", "mute": False,
            "joined_at": "2021-03-04T05:06:07.089000+00:00", "flags": 0, "deaf": False,
            "communication_disabled_until": None, "banner": None, "avatar": None,
        }  # fmt: skip

    def _channel(self) -> str:
        return str(2200 + self._random.randrange(CHANNELS))

    def _person(self) -> int:
        return self._random.randrange(PEOPLE)

    def message(self) -> dict[str, Any]:
        number, chance = self._person(), self._random.random()
        data: dict[str, Any] = {
            "type": 0, "tts": False, "timestamp": self._time(), "pinned": False, "nonce": self._id(),
            "mentions": [], "mention_roles": [], "mention_everyone": False, "member": self.member(number),
            "id": self._id(), "flags": 0, "embeds": [], "edited_timestamp": None, "content": self._words(3,
            40),
            "components": [], "channel_type": 0, "channel_id": self._channel(), "author": self.user(number),
            "attachments": [], "guild_id": GUILD,
        }  # fmt: skip
        if chance < 0.2:
            other = self._person()
            data["mentions"] = [{**self.user(other), "member": self.member(other)}]
        elif chance < 0.35 and self._said:
            before = self._random.choice(self._said)
            data["type"] = 19
            data["message_reference"] = {
                "type": 0, "message_id": before["id"], "channel_id": before["channel_id"], "guild_id": GUILD,
            }  # fmt: skip
            data["channel_id"] = before["channel_id"]
            data["referenced_message"] = {
                key: value
                for key, value in before.items()
                if key not in ("member", "referenced_message", "guild_id", "nonce")
            }
        elif chance < 0.4:
            data["attachments"] = [self._attachment()]
        elif chance < 0.45:
            data["embeds"] = [self._embed()]
        self._said[200:] = []
        self._said.insert(0, data)
        return data

    def _attachment(self) -> dict[str, Any]:
        key = self._id()
        url = f"attachments/2200/{key}/picture.png?ex=66aa&is=66ab&hm={key}&"
        return {
            "width": 1280, "url": f"https://cdn.discordapp.com/{url}", "size": 204_800, "height": 720,
            "id": key,
            "proxy_url": f"https://media.discordapp.net/{url}", "placeholder_version": 1,
            "filename": "picture.png",
            "placeholder": "3QcSDIKYd4h4d3h3eHiAgfc=", "content_type": "image/png", "content_scan_version": 1,
        }  # fmt: skip

    def _embed(self) -> dict[str, Any]:
        return {
            "type": "rich", "title": self._words(2, 5), "description": self._words(10, 40),
            "color": 5_814_783,
            "fields": [
                {"value": self._words(1, 8), "name": self._words(1, 3), "inline": True} for _ in range(3)
            ],
            "author": {"name": "a service", "url": "https://example.org"},
        }  # fmt: skip

    def typing(self) -> dict[str, Any]:
        number = self._person()
        return {
            "user_id": str(3000 + number), "timestamp": 1_785_000_000 + self._number, "guild_id": GUILD,
            "channel_id": self._channel(), "member": {**self.member(number), "user": self.user(number)},
        }  # fmt: skip

    def presence(self) -> dict[str, Any]:
        game = {
            "type": 0, "timestamps": {"start": 1_785_000_000_000}, "state": self._words(2, 4),
            "name": "A Game", "id": f"{self._person():016x}", "details": self._words(3, 6), "flags": 1,
            "created_at": 1_785_000_000_123, "assets": {"large_text": "map", "large_image": "9001"},
            "application_id": "9000",
        }  # fmt: skip
        status = self._random.choice(("online", "idle", "dnd", "offline"))
        return {
            "user": {"id": str(3000 + self._person())}, "status": status, "processed_at_timestamp": 0,
            "guild_id": GUILD, "client_status": {"desktop": status},
            "activities": [game] if self._random.random() < 0.6 else [],
        }  # fmt: skip

    def _old(self) -> dict[str, Any]:
        return self._random.choice(self._said) if self._said else self.message()

    def reaction(self) -> dict[str, Any]:
        number, old = self._person(), self._old()
        return {
            "user_id": str(3000 + number), "type": 0, "message_id": old["id"], "guild_id": GUILD,
            "message_author_id": old["author"]["id"], "member": {**self.member(number),
            "user": self.user(number)},
            "emoji": {"name": "👍", "id": None}, "channel_id": old["channel_id"], "burst": False,
        }  # fmt: skip

    def update(self) -> dict[str, Any]:
        return {**self._old(), "content": self._words(3, 40), "edited_timestamp": self._time()}

    def delete(self) -> dict[str, Any]:
        old = self._old()
        return {"id": old["id"], "channel_id": old["channel_id"], "guild_id": GUILD}

    def events(self, n: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Names and data of `n` events in the shares of `SHARES`."""
        draw = {
            "MESSAGE_CREATE": self.message, "TYPING_START": self.typing, "PRESENCE_UPDATE": self.presence,
            "MESSAGE_REACTION_ADD": self.reaction, "MESSAGE_UPDATE": self.update,
            "MESSAGE_DELETE": self.delete,
        }  # fmt: skip
        for kind in self._random.choices(list(SHARES), list(SHARES.values()), k=n):
            yield kind, draw[kind]()

    def greeting(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What comes before: the session and its one guild, with its channels and members."""
        me = {
            "verified": True, "username": "bot", "mfa_enabled": True, "id": ME, "global_name": None,
            "flags": 0,
            "email": None, "discriminator": "0001", "clan": None, "bot": True, "avatar": None,
        }  # fmt: skip
        yield "READY", {
            "v": 10, "user": me, "shard": [0, 1], "session_type": "normal", "session_id": "0" * 32,
            "resume_gateway_url": "wss://gateway.example", "guilds": [{"unavailable": True, "id": GUILD}],
            "application": {"id": ME, "flags": 0}, "private_channels": [], "relationships": [],
        }  # fmt: skip
        yield "GUILD_CREATE", {
            "id": GUILD, "name": "a guild", "owner_id": "3000", "unavailable": False, "large": False,
            "member_count": PEOPLE + 1, "roles": [self._role(GUILD),
            *(self._role(str(2100 + i)) for i in range(7))],
            "emojis": [], "stickers": [], "features": [], "channels": [
                {
                    "id": str(2200 + i), "type": 0, "name": f"channel-{i}", "position": i, "topic": None,
                    "permission_overwrites": [], "nsfw": False, "parent_id": None, "rate_limit_per_user": 0,
                }
                for i in range(CHANNELS)
            ],
            "members": [
                {**self.member(0), "user": me},
                *({**self.member(i), "user": self.user(i)} for i in range(PEOPLE)),
            ],
            "threads": [], "presences": [], "voice_states": [], "stage_instances": [],
            "soundboard_sounds": [],
            "guild_scheduled_events": [], "system_channel_flags": 0, "preferred_locale": "en-US",
            "verification_level": 1, "default_message_notifications": 1, "explicit_content_filter": 0,
            "mfa_level": 0, "nsfw_level": 0, "premium_tier": 0, "premium_progress_bar_enabled": False,
        }  # fmt: skip

    @staticmethod
    def _role(key: str) -> dict[str, Any]:
        return {
            "id": key, "name": f"role {key}", "permissions": "104324673", "position": 1, "color": 0,
            "hoist": False,
            "managed": False, "mentionable": False, "flags": 0,
        }  # fmt: skip


class Recorded:
    """What a connection brings, packed frame by frame with one context, as `compress=zlib-stream` does.

    Args:
        n: events after the greeting.
        seed: which stream.

    Attributes:
        greeting: the frames of HELLO, READY and GUILD_CREATE.
        frames: one per event.
        counts: events by name.
    """

    def __init__(self, n: int, seed: int = 1) -> None:
        self._packer = zlib.compressobj()
        writer = Writer(seed)
        self.counts: dict[str, int] = {}
        self._seq = 0
        hello = {"t": None, "s": None, "op": 10, "d": {"heartbeat_interval": 41_250, "_trace": ["gateway"]}}
        self.greeting = [self._pack(hello)]
        self.greeting += [self._dispatch(kind, data) for kind, data in writer.greeting()]
        self.frames = []
        for kind, data in writer.events(n):
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.frames.append(self._dispatch(kind, data))

    def _dispatch(self, kind: str, data: dict[str, Any]) -> bytes:
        self._seq += 1
        return self._pack({"t": kind, "s": self._seq, "op": 0, "d": data})

    def _pack(self, payload: dict[str, Any]) -> bytes:
        text = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
        return self._packer.compress(text) + self._packer.flush(zlib.Z_SYNC_FLUSH)
