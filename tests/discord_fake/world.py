"""What there is: users, guilds, channels, messages. What happens in it is told to `tell`, in order.

Without I/O and without a clock: `wall` is a function that says the time in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, final

from . import objects
from .objects import Raw
from .rules import Bits

GUILD, CHANNEL, BOT, APPLICATION, PERSON = "4194304000", "100", "1", "3", "10"
NOBODY: Final[frozenset[str]] = frozenset()


@final
@dataclass(frozen=True)
class Happening:
    """One event, before it has a number.

    Attributes:
        type: Discord's name.
        data: its `d`.
        guild: in which guild; empty in a private chat.
        intent: who did not ask for it does not get it; 0: everybody does.
        everywhere: goes to every shard, not only to that of the guild.
    """

    type: str
    data: Raw
    guild: str = ""
    intent: int = 0
    everywhere: bool = False


@final
@dataclass
class Guild:
    """`raw` is as `objects.guild` makes it."""

    raw: Raw
    members: dict[str, Raw] = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)
    bans: dict[str, Raw] = field(default_factory=dict)


@final
@dataclass
class Asked:
    """An interaction.

    Attributes:
        at: when it was made, on the clock of `World.wall`.
        answered: a callback came.
        original: id of the message that answers it, empty before there is one.
        application, channel: where it belongs.
    """

    id: str
    token: str
    application: str
    channel: str
    at: float
    answered: bool = False
    original: str = ""


@final
class World:
    """The bot, one guild with one channel and one person in it, and what tests add.

    Attributes:
        users, guilds, channels: by id.
        messages: channel -> id -> message, ascending.
        commands: `""` or a guild's id -> its slash commands.
        interactions: token -> what was asked.
        audit: method, path and reason of requests that gave one.
        typing: channels in which the bot was seen typing.
    """

    def __init__(self, wall: Callable[[], float], tell: Callable[[Happening], None]) -> None:
        self.wall = wall
        self._tell = tell
        self._last_id = 0
        self.users: dict[str, Raw] = {}
        self.guilds: dict[str, Guild] = {}
        self.channels: dict[str, Raw] = {}
        self.messages: dict[str, dict[str, Raw]] = {}
        self.commands: dict[str, list[Raw]] = {}
        self.interactions: dict[str, Asked] = {}
        self.audit: list[tuple[str, str, str]] = []
        self.typing: list[str] = []
        self.bot = self.user("bot", key=BOT, bot=True)
        self.person = self.user("person", key=PERSON)
        self.guild("guild", key=GUILD, channel=CHANNEL)

    def new_id(self) -> str:
        """Larger than all before, and of this time."""
        now = (int(self.wall() * 1000) - objects.EPOCH_MS) << 22
        self._last_id = max(now, self._last_id + 1)
        return str(self._last_id)

    # -- what there is ---------------------------------------------------------------------------

    def user(self, name: str, *, key: str | None = None, bot: bool = False) -> Raw:
        """A new user, in no guild."""
        made = objects.user(key or self.new_id(), name, bot=bot)
        self.users[made["id"]] = made
        return made

    def guild(self, name: str, *, key: str | None = None, channel: str | None = None) -> Guild:
        """A new guild with a channel, the bot and the person in it."""
        now = self.wall()
        guild = Guild(objects.guild(key or self.new_id(), name, self.person["id"], now))
        self.guilds[guild.raw["id"]] = guild
        for who in (self.bot, self.person):
            guild.members[who["id"]] = objects.member(who, now)
        self.channel(guild, "general", key=channel, silently=True)
        self._tell(Happening("GUILD_CREATE", self.guild_create(guild), guild.raw["id"], Bits.GUILDS))
        return guild

    def channel(self, guild: Guild, name: str, *, key: str | None = None, silently: bool = False) -> str:
        """A new channel; returns its id."""
        where = guild.raw["id"]
        made = objects.text_channel(key or self.new_id(), where, name, len(guild.channels))
        self.channels[made["id"]] = made
        guild.channels.append(made["id"])
        if not silently:
            self._tell(Happening("CHANNEL_CREATE", dict(made), where, Bits.GUILDS))
        return str(made["id"])

    def private(self, user: Raw) -> str:
        """The private channel with a user; returns its id."""
        for key, known in self.channels.items():
            if known["type"] == 1 and known["recipients"][0]["id"] == user["id"]:
                return key
        made = objects.private_channel(self.new_id(), user)
        self.channels[made["id"]] = made
        return str(made["id"])

    def guild_of(self, channel: str) -> str:
        """The id of a channel's guild; empty for a private one."""
        return str(self.channels[channel].get("guild_id", ""))

    def guild_create(self, guild: Guild) -> Raw:
        return {
            **guild.raw, "unavailable": False, "large": False, "member_count": len(guild.members),
            "members": list(guild.members.values()), "threads": [], "presences": [], "voice_states": [],
            "channels": [self.channels[key] for key in guild.channels], "stage_instances": [],
            "guild_scheduled_events": [], "soundboard_sounds": [],
        }  # fmt: skip

    # -- what happens ----------------------------------------------------------------------------

    def happen(self, kind: str, channel: str, data: Raw, intent: int) -> None:
        """Tell of something in a channel."""
        guild = self.guild_of(channel)
        if guild:
            data = {**data, "guild_id": guild}
        self._tell(Happening(kind, data, guild, intent))

    def tell(
        self, kind: str, data: Raw, *, guild: str = "", intent: int = 0, everywhere: bool = False
    ) -> None:
        """Tell of anything else."""
        self._tell(Happening(kind, data, guild, intent, everywhere))

    def say(
        self,
        text: str,
        *,
        channel: str = CHANNEL,
        author: Raw | None = None,
        mentions: Iterable[Raw] = (),
        reply_to: str | None = None,
        **more: Any,
    ) -> Raw:
        """Somebody, the person if nobody is named, writes a message; returns it."""
        author = self.person if author is None else author
        answered = self.messages.get(channel, {}).get(reply_to or "")
        if reply_to is not None:
            more["message_reference"] = {"type": 0, "message_id": reply_to, "channel_id": channel}
            more["referenced_message"] = answered
            if self.guild_of(channel):
                more["message_reference"]["guild_id"] = self.guild_of(channel)
            more.setdefault("kind", 19)
        more["mentions"] = list(mentions)
        made = objects.message(self.new_id(), channel, author, text, **more)
        self.messages.setdefault(channel, {})[made["id"]] = made
        self.channels[channel]["last_message_id"] = made["id"]
        self._tell_message("MESSAGE_CREATE", made)
        return made

    def edit(self, channel: str, message: str, **changes: Any) -> Raw:
        """Change a message; returns it."""
        made = self.messages[channel][message]
        made.update(changes, edited_timestamp=objects.stamp(self.wall()))
        self._tell_message("MESSAGE_UPDATE", made)
        return made

    def _tell_message(self, kind: str, made: Raw) -> None:
        guild = self.guilds.get(self.guild_of(made["channel_id"]))
        data = dict(made)
        if guild is not None and made["author"]["id"] in guild.members:
            data["member"] = {k: v for k, v in guild.members[made["author"]["id"]].items() if k != "user"}
        self.happen(kind, made["channel_id"], data, Bits.GUILD_MESSAGES)

    def delete(self, channel: str, *messages: str) -> None:
        """Delete messages of a channel; those that do not exist are no matter."""
        known = self.messages.get(channel, {})
        gone = [key for key in messages if known.pop(key, None) is not None]
        if len(gone) == 1:
            data: Raw = {"id": gone[0], "channel_id": channel}
            self.happen("MESSAGE_DELETE", channel, data, Bits.GUILD_MESSAGES)
        elif gone:
            self.happen(
                "MESSAGE_DELETE_BULK", channel, {"ids": gone, "channel_id": channel}, Bits.GUILD_MESSAGES
            )

    def ask(
        self, command: str, options: Raw | None = None, *, channel: str = CHANNEL, user: Raw | None = None
    ) -> Asked:
        """Somebody uses a slash command; returns what will become of it."""
        user = self.person if user is None else user
        key = self.new_id()
        asked = Asked(key, f"interaction-{key}", APPLICATION, channel, self.wall())
        self.interactions[asked.token] = asked
        guild = self.guild_of(channel)
        given = [{"name": n, "type": 4 if isinstance(v, int) else 3, "value": v}
                 for n, v in (options or {}).items()]  # fmt: skip
        data: Raw = {
            "id": key, "application_id": APPLICATION, "type": 2, "token": asked.token, "version": 1,
            "channel_id": channel, "channel": self.channels[channel], "locale": "en-US", "entitlements": [],
            "app_permissions": objects.ALL_PERMISSIONS, "authorizing_integration_owners": {"0": guild or "0"},
            "attachment_size_limit": 10_485_760, "context": 0 if guild else 1,
            "data": {"id": "900", "name": command, "type": 1, "options": given},
        }  # fmt: skip
        if guild:
            member = self.guilds[guild].members[user["id"]]
            data |= {"guild_id": guild, "guild": {"id": guild, "locale": "en-US", "features": []},
                     "guild_locale": "en-US",
                     "member": {**member, "permissions": objects.ALL_PERMISSIONS}}  # fmt: skip
        else:
            data["user"] = user
        self._tell(Happening("INTERACTION_CREATE", data, guild))
        return asked
