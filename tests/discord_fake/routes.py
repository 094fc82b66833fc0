"""What each request does in the world, without I/O; limits and tokens are `rest`'s matter."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from . import checks, objects
from .checks import ApiError, invalid
from .objects import Raw
from .rules import Bits, Rules
from .world import APPLICATION, Asked, Guild, World

FORTNIGHT: Final = 14 * 86_400
CALLBACK_WITHIN: Final = 3.0
TOKEN_LASTS: Final = 900.0
LOADING, EPHEMERAL = 1 << 7, 1 << 6

Answer = tuple[int, Any]


@final
@dataclass(frozen=True)
class Call:
    """A request that may be carried out; `ids` are those in its path."""

    ids: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    reason: str


@final
class Routes:
    """The handlers; `table` maps `"GET /users/@me"` to each."""

    def __init__(self, world: World, rules: Rules) -> None:
        self._world = world
        self._rules = rules
        self._nonces: dict[tuple[str, str], tuple[float, str]] = {}
        messages, one = "/channels/{channel}/messages", "/channels/{channel}/messages/{message}"
        reaction = one + "/reactions/{emoji}"
        hook, sent = "/webhooks/{application}/{token}", "/webhooks/{application}/{token}/messages/{message}"
        commands = "/applications/{application}/commands"
        guild_commands = "/applications/{application}/guilds/{guild}/commands"
        self.table: dict[str, Callable[[Call], Answer]] = {
            "GET /users/@me": self.me,
            "GET /users/{user}": self.user,
            "POST /users/@me/channels": self.open_private,
            "GET /oauth2/applications/@me": self.application,
            "GET /applications/@me": self.application,
            "GET /channels/{channel}": self.channel,
            "GET /guilds/{guild}": self.guild,
            f"GET {messages}": self.list_messages,
            f"POST {messages}": self.create,
            f"POST {messages}/bulk-delete": self.bulk_delete,
            f"GET {one}": self.get_message,
            f"PATCH {one}": self.edit,
            f"DELETE {one}": self.delete,
            f"PUT {reaction}/@me": self.react,
            f"DELETE {reaction}/@me": self.unreact,
            "POST /channels/{channel}/typing": self.typing,
            "GET /guilds/{guild}/members/{user}": self.get_member,
            "PATCH /guilds/{guild}/members/{user}": self.change_member,
            "PUT /guilds/{guild}/bans/{user}": self.ban,
            f"GET {commands}": self.get_commands,
            f"PUT {commands}": self.set_commands,
            f"GET {guild_commands}": self.get_commands,
            f"PUT {guild_commands}": self.set_commands,
            "POST /interactions/{interaction}/{token}/callback": self.callback,
            f"POST {hook}": self.follow_up,
            f"GET {sent}": self.get_sent,
            f"PATCH {sent}": self.edit_sent,
            f"DELETE {sent}": self.delete_sent,
        }

    # -- finding things --------------------------------------------------------------------------

    def _channel(self, call: Call) -> str:
        key = checks.snowflake(call.ids["channel"], "channel_id")
        if key not in self._world.channels:
            raise ApiError(10003)
        return key

    def _message(self, call: Call) -> tuple[str, Raw]:
        channel = self._channel(call)
        key = checks.snowflake(call.ids["message"], "message_id")
        if key not in self._world.messages.get(channel, {}):
            raise ApiError(10008)
        return channel, self._world.messages[channel][key]

    def _guild(self, call: Call) -> Guild:
        key = checks.snowflake(call.ids["guild"], "guild_id")
        if key not in self._world.guilds:
            raise ApiError(10004)
        return self._world.guilds[key]

    # -- the bot and what it sees ----------------------------------------------------------------

    def me(self, call: Call) -> Answer:
        return 200, {**self._world.bot, "mfa_enabled": False, "verified": True, "email": None,
                     "locale": "en-US", "flags": 0}  # fmt: skip

    def user(self, call: Call) -> Answer:
        if call.ids["user"] not in self._world.users:
            raise ApiError(10013)
        return 200, self._world.users[call.ids["user"]]

    def application(self, call: Call) -> Answer:
        return 200, objects.application(APPLICATION, self._world.bot)

    def open_private(self, call: Call) -> Answer:
        key = checks.snowflake(checks.an_object(call.body).get("recipient_id"), "recipient_id")
        if key not in self._world.users:
            raise ApiError(10013)
        return 200, self._world.channels[self._world.private(self._world.users[key])]

    def channel(self, call: Call) -> Answer:
        return 200, self._world.channels[self._channel(call)]

    def guild(self, call: Call) -> Answer:
        return 200, self._guild(call).raw

    # -- messages --------------------------------------------------------------------------------

    def list_messages(self, call: Call) -> Answer:
        known = list(self._world.messages.get(self._channel(call), {}).values())
        how, key, limit = checks.page(call.query)
        if how == "after":
            found = [each for each in known if int(each["id"]) > key][:limit]
        elif how == "before":
            found = [each for each in known if int(each["id"]) < key][-limit:]
        elif how == "around":
            nearest = sorted(known, key=lambda each: abs(int(each["id"]) - key))[:limit]
            found = sorted(nearest, key=lambda each: int(each["id"]))
        else:
            found = known[-limit:]
        return 200, found[::-1]

    def get_message(self, call: Call) -> Answer:
        return 200, self._message(call)[1]

    def create(self, call: Call) -> Answer:
        channel = self._channel(call)
        told = checks.message(call.body)
        again = self._sent_before(channel, told)
        if again is not None:
            return 200, again
        made = self._send(channel, told)
        if told.get("nonce") is not None:
            self._nonces[channel, str(told["nonce"])] = (self._world.wall(), made["id"])
            made = {**made, "nonce": told["nonce"]}
        return 200, made

    def _sent_before(self, channel: str, told: Raw) -> Raw | None:
        """The message that an enforced nonce names already."""
        if told.get("enforce_nonce") is not True or told.get("nonce") is None:
            return None
        at, key = self._nonces.get((channel, str(told["nonce"])), (0.0, ""))
        if self._world.wall() - at >= self._rules.nonce_memory:
            return None
        made = self._world.messages[channel].get(key)
        return None if made is None else {**made, "nonce": told["nonce"]}

    def _send(self, channel: str, told: Raw, **more: Any) -> Raw:
        """The bot says something."""
        reply = told.get("message_reference")
        reply_to = None if reply is None else str(reply["message_id"])
        if reply_to is not None and reply_to not in self._world.messages.get(channel, {}):
            if told["message_reference"].get("fail_if_not_exists", True):
                raise invalid("message_reference", "REPLIES_UNKNOWN_MESSAGE", "Unknown message")
            reply_to = None
        text = str(told.get("content") or "")
        extra = {name: told[name] for name in ("embeds", "components", "tts") if told.get(name)}
        return self._world.say(
            text, channel=channel, author=self._world.bot, reply_to=reply_to,
            mentions=self._mentioned(text, told), **extra, **more,
        )  # fmt: skip

    def _mentioned(self, text: str, told: Raw) -> list[Raw]:
        """Who is mentioned for all to see, as `allowed_mentions` says."""
        allowed = told.get("allowed_mentions")
        named = [
            self._world.users[key] for key in re.findall(r"<@!?(\d+)>", text) if key in self._world.users
        ]
        if allowed is None or "users" in allowed.get("parse", []):
            return named
        listed = [str(key) for key in allowed.get("users") or []]
        return [user for user in named if user["id"] in listed]

    def edit(self, call: Call) -> Answer:
        channel, message = self._message(call)
        told = checks.message(call.body, edit=True)
        if message["author"]["id"] != self._world.bot["id"]:
            raise ApiError(50005)
        return 200, self._world.edit(channel, message["id"], **self._changes(told))

    def _changes(self, told: Raw) -> Raw:
        changes = {name: told[name] for name in ("content", "embeds", "components") if name in told}
        return {name: ("" if name == "content" else []) if value is None else value
                for name, value in changes.items()}  # fmt: skip

    def delete(self, call: Call) -> Answer:
        channel, message = self._message(call)
        if message["author"]["id"] != self._world.bot["id"] and not self._world.guild_of(channel):
            raise ApiError(50003)
        self._world.delete(channel, message["id"])
        return 204, None

    def bulk_delete(self, call: Call) -> Answer:
        channel = self._channel(call)
        if not self._world.guild_of(channel):
            raise ApiError(50003)
        listed = checks.an_object(call.body).get("messages")
        if not isinstance(listed, list):
            raise invalid("messages", "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType")
        keys = [checks.snowflake(key, "messages") for key in listed]
        if not 2 <= len(keys) <= 100:
            raise ApiError(50016)
        if len(set(keys)) != len(keys):
            raise invalid("messages", "SET_TYPE_CONTAINS_DUPLICATES", "Must not contain duplicates.")
        oldest = min(objects.time_of(key) for key in keys)
        if oldest < self._world.wall() - FORTNIGHT:
            raise ApiError(50034)
        self._world.delete(channel, *keys)
        return 204, None

    def react(self, call: Call) -> Answer:
        return self._reaction(call, "MESSAGE_REACTION_ADD")

    def unreact(self, call: Call) -> Answer:
        return self._reaction(call, "MESSAGE_REACTION_REMOVE")

    def _reaction(self, call: Call, kind: str) -> Answer:
        channel, message = self._message(call)
        name, _, key = checks.emoji(call.ids["emoji"]).partition(":")
        mine = message.setdefault("reactions", [])
        emoji = {"id": key or None, "name": name}
        there = [each for each in mine if each["emoji"] == emoji]
        if bool(there) == (kind == "MESSAGE_REACTION_REMOVE"):
            if there:
                mine.remove(there[0])
            else:
                mine.append({"emoji": emoji, "count": 1, "me": True, "me_burst": False, "burst_colors": [],
                             "count_details": {"burst": 0, "normal": 1}})  # fmt: skip
            data = {"user_id": self._world.bot["id"], "channel_id": channel, "message_id": message["id"],
                    "emoji": emoji, "burst": False, "type": 0}  # fmt: skip
            self._world.happen(kind, channel, data, Bits.GUILD_MESSAGE_REACTIONS)
        return 204, None

    def typing(self, call: Call) -> Answer:
        channel = self._channel(call)
        self._world.typing.append(channel)
        data = {"channel_id": channel, "user_id": self._world.bot["id"], "timestamp": int(self._world.wall())}
        self._world.happen("TYPING_START", channel, data, Bits.GUILD_MESSAGE_TYPING)
        return 204, None

    # -- moderation ------------------------------------------------------------------------------

    def get_member(self, call: Call) -> Answer:
        return 200, self._member(call)[1]

    def _member(self, call: Call) -> tuple[Guild, Raw]:
        guild = self._guild(call)
        key = checks.snowflake(call.ids["user"], "user_id")
        if key not in guild.members:
            raise ApiError(10007)
        return guild, guild.members[key]

    def change_member(self, call: Call) -> Answer:
        guild, member = self._member(call)
        told = checks.an_object(call.body)
        if "communication_disabled_until" in told:
            until = checks.time_out(told["communication_disabled_until"], self._world.wall())
            if member["user"]["id"] in (guild.raw["owner_id"], self._world.bot["id"]):
                raise ApiError(50013)
            member["communication_disabled_until"] = until
        if "nick" in told:
            member["nick"] = told["nick"]
        key = guild.raw["id"]
        self._world.tell(
            "GUILD_MEMBER_UPDATE", {**member, "guild_id": key}, guild=key, intent=Bits.GUILD_MEMBERS
        )
        return 200, member

    def ban(self, call: Call) -> Answer:
        guild = self._guild(call)
        key = checks.snowflake(call.ids["user"], "user_id")
        seconds = checks.number(
            (call.body or {}).get("delete_message_seconds") or 0,
            "delete_message_seconds",
            0,
            checks.MAX_DELETE,
        )
        if key not in self._world.users:
            raise ApiError(10013)
        if key in (guild.raw["owner_id"], self._world.bot["id"]):
            raise ApiError(50013)
        user, where = self._world.users[key], guild.raw["id"]
        guild.bans[key] = {"user": user, "reason": call.reason or None}
        data = {"guild_id": where, "user": user}
        if guild.members.pop(key, None) is not None:
            self._world.tell("GUILD_MEMBER_REMOVE", data, guild=where, intent=Bits.GUILD_MEMBERS)
        self._world.tell("GUILD_BAN_ADD", data, guild=where, intent=Bits.GUILD_MODERATION)
        since = self._world.wall() - seconds
        for channel in guild.channels if seconds else ():
            theirs = [each["id"] for each in self._world.messages.get(channel, {}).values()
                      if each["author"]["id"] == key and objects.time_of(each["id"]) >= since]  # fmt: skip
            self._world.delete(channel, *theirs)
        return 204, None

    # -- commands and interactions ---------------------------------------------------------------

    def get_commands(self, call: Call) -> Answer:
        return 200, self._world.commands.get(call.ids.get("guild", ""), [])

    def set_commands(self, call: Call) -> Answer:
        guild = call.ids.get("guild", "")
        if guild:
            self._guild(call)
        if not isinstance(call.body, list):
            raise invalid("_body", "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType")
        told = [checks.command(each, number) for number, each in enumerate(call.body)]
        names = [(each["name"], each.get("type", 1)) for each in told]
        if len(set(names)) != len(names):
            text = "Application command names must be unique"
            raise invalid("_body", "APPLICATION_COMMANDS_DUPLICATE_NAME", text)
        made = [
            {"options": [], "type": 1, "default_member_permissions": None, "nsfw": False, "contexts": None,
             "description": "", "integration_types": [0], **each, "id": self._world.new_id(),
             "application_id": APPLICATION, "version": self._world.new_id(),
             **({"guild_id": guild} if guild else {})}
            for each in told
        ]  # fmt: skip
        self._world.commands[guild] = made
        return 200, made

    def _asked(self, call: Call) -> Asked:
        asked = self._world.interactions.get(call.ids["token"])
        if asked is None or asked.application != call.ids["application"]:
            raise ApiError(10015)
        if self._world.wall() - asked.at >= TOKEN_LASTS:
            raise ApiError(50027)
        if not asked.answered:
            raise ApiError(10015)
        return asked

    def callback(self, call: Call) -> Answer:
        asked = self._world.interactions.get(call.ids["token"])
        if asked is None or asked.id != call.ids["interaction"]:
            raise ApiError(10062)
        if asked.answered:
            raise ApiError(40060)
        if self._world.wall() - asked.at >= CALLBACK_WITHIN:
            raise ApiError(10062)
        told = checks.an_object(call.body)
        kind = checks.number(told.get("type"), "type", 1, 12)
        data = told.get("data") or {}
        if kind == 4:
            data = checks.message(data, field="data.")
        asked.answered = True
        made = None
        if kind in (4, 5):
            flags = int(data.get("flags") or 0) | (LOADING if kind == 5 else 0)
            made = self._send(asked.channel, data if kind == 4 else {}, flags=flags, kind=20,
                              application_id=APPLICATION, webhook_id=APPLICATION)  # fmt: skip
            asked.original = made["id"]
        if call.query.get("with_response", "").lower() != "true":
            return 204, None
        interaction = {
            "id": asked.id, "type": 2, "response_message_id": asked.original or None,
            "response_message_loading": kind == 5, "response_message_ephemeral": False,
        }  # fmt: skip
        resource = {"type": kind, **({} if made is None else {"message": made})}
        return 200, {"interaction": interaction, "resource": resource}

    def follow_up(self, call: Call) -> Answer:
        asked = self._asked(call)
        told = checks.message(call.body)
        flags = int(told.get("flags") or 0)
        made = self._send(
            asked.channel, told, flags=flags, application_id=APPLICATION, webhook_id=APPLICATION
        )
        return 200, made

    def _sent(self, call: Call) -> tuple[str, Raw]:
        asked = self._asked(call)
        key = asked.original if call.ids["message"] == "@original" else call.ids["message"]
        if key not in self._world.messages.get(asked.channel, {}):
            raise ApiError(10008)
        return asked.channel, self._world.messages[asked.channel][key]

    def get_sent(self, call: Call) -> Answer:
        return 200, self._sent(call)[1]

    def edit_sent(self, call: Call) -> Answer:
        channel, message = self._sent(call)
        told = checks.message(call.body, edit=True)
        flags = message["flags"] & ~LOADING
        return 200, self._world.edit(channel, message["id"], flags=flags, **self._changes(told))

    def delete_sent(self, call: Call) -> Answer:
        channel, message = self._sent(call)
        self._world.delete(channel, message["id"])
        return 204, None
