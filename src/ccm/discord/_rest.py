"""`Rest`: what a bot asks Discord to do.

Text that was generated never mentions anybody: `allowed_mentions` is empty in every message, whatever the
text says. A message is sent once: its nonce is made before the first attempt and the same in each, so that
Discord recognizes one that has arrived.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, final
from urllib.parse import quote

import httpx2
import trio

from ._buckets import Route
from ._models import ChatMessage, GatewayInfo, User, snowflake_time
from ._requests import Requests
from ._settings import DiscordSettings
from ._split import LIMIT, split

__all__ = ["Rest", "open_rest"]

NOBODY: Final[Mapping[str, Any]] = {"parse": []}
MAX_NONCE = 25
PAGE = 100
MAX_TIMEOUT = 28 * 86_400
FORTNIGHT = 14 * 86_400
EPHEMERAL = 64
MESSAGES = "/channels/{channel}/messages"
ONE_MESSAGE = "/channels/{channel}/messages/{message}"


def new_nonce() -> str:
    """A text that names one message to be sent; 24 characters, room for the number of a part."""
    return secrets.token_urlsafe(15)


def _ids(**ids: str) -> None:
    for name, value in ids.items():
        if not isinstance(value, str) or not value.isascii() or not value.isdigit():
            raise ValueError(f"{name} must be an id, a text of digits, got {value!r}")


def _content(text: str) -> str:
    if not text.strip() or len(text) > LIMIT:
        raise ValueError(
            f"text must have 1 to {LIMIT} characters that are not all blank, got {len(text)}; see split"
        )
    return text


def _commands(method: str, application: str, guild: str | None) -> tuple[Route, str]:
    """The route and path of an application's slash commands."""
    if guild is None:
        _ids(application=application)
        return Route(method, "/applications/{application}/commands"), f"/applications/{application}/commands"
    _ids(application=application, guild=guild)
    route = Route(method, "/applications/{application}/guilds/{guild}/commands", guild)
    return route, f"/applications/{application}/guilds/{guild}/commands"


@final
class Rest:
    """Requests of one bot; made by `open_rest`, shared by any number of tasks.

    Each method waits for the limits and returns when Discord has answered. It raises `RestError` when
    Discord refused or could not be asked within `settings.deadline`, and `RestStopped`, which is one, when
    nothing was sent; `ValueError` for what Discord would refuse. When cancelled, the request may have been
    carried out.

    Attributes:
        requests: the way to Discord, with counters.
    """

    def __init__(self, requests: Requests) -> None:
        self.requests = requests

    # -- the bot ---------------------------------------------------------------------------------

    async def gateway_info(self) -> GatewayInfo:
        """Where the gateway is, how many shards it wants, how many sessions are left."""
        return GatewayInfo.of(await self.requests.ask(Route("GET", "/gateway/bot"), "/gateway/bot"))

    async def me(self) -> User:
        """The bot itself."""
        return User.of(await self.requests.ask(Route("GET", "/users/@me"), "/users/@me"))

    async def application(self) -> str:
        """The id of the bot's application: what its slash commands belong to."""
        path = "/oauth2/applications/@me"
        return User.of(await self.requests.ask(Route("GET", path), path)).id

    async def commands(self, application: str, *, guild: str | None = None) -> list[Mapping[str, Any]]:
        """The slash commands that Discord knows, of one guild or everywhere, as it tells them."""
        route, path = _commands("GET", application, guild)
        found = await self.requests.ask(route, path)
        return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []

    async def set_commands(
        self, application: str, commands: Sequence[Mapping[str, Any]], *, guild: str | None = None
    ) -> None:
        """Replace the slash commands, of one guild (at once) or everywhere (within minutes)."""
        route, path = _commands("PUT", application, guild)
        await self.requests.ask(route, path, body=list(commands))

    # -- messages --------------------------------------------------------------------------------

    async def create_message(
        self, channel: str, text: str, *, reply_to: str | None = None, nonce: str | None = None
    ) -> ChatMessage:
        """Send a message.

        Args:
            channel: where.
            text: 1 to 2000 characters.
            reply_to: id of the message it answers; that may be gone.
            nonce: 1 to 25 characters; the same one again within some minutes returns the message that was
                sent, in another process, too. None makes one.
        """
        _ids(channel=channel)
        nonce = new_nonce() if nonce is None else nonce
        if not 1 <= len(nonce) <= MAX_NONCE:
            raise ValueError(f"nonce must have 1 to {MAX_NONCE} characters, got {nonce!r}")
        body: dict[str, Any] = {
            "content": _content(text), "nonce": nonce, "enforce_nonce": True, "allowed_mentions": NOBODY,
        }  # fmt: skip
        if reply_to is not None:
            _ids(reply_to=reply_to)
            body["message_reference"] = {"message_id": reply_to, "fail_if_not_exists": False}
        path = f"/channels/{channel}/messages"
        return ChatMessage.of(await self.requests.ask(Route("POST", MESSAGES, channel), path, body=body))

    async def send_text(
        self, channel: str, text: str, *, reply_to: str | None = None, nonce: str | None = None
    ) -> list[ChatMessage]:
        """Send a text of any length, in as many messages as it needs; see `split`.

        Args:
            channel: where.
            text: anything; nothing is sent when it is blank.
            reply_to: id of the message that the first part answers.
            nonce: 1 to 21 characters, as in `create_message`; each part gets one that is made of it.
        """
        base = new_nonce() if nonce is None else nonce
        parts = split(text)
        sent = []
        for number, part in enumerate(parts):
            name = base if len(parts) == 1 else f"{base}.{number}"
            sent.append(
                await self.create_message(channel, part, reply_to=None if number else reply_to, nonce=name)
            )
        if not sent:
            await trio.lowlevel.checkpoint()
        return sent  # noqa: ASYNC910

    async def edit_message(self, channel: str, message: str, text: str) -> ChatMessage:
        """Replace the text of an own message."""
        _ids(channel=channel, message=message)
        body = {"content": _content(text), "allowed_mentions": NOBODY}
        path = f"/channels/{channel}/messages/{message}"
        return ChatMessage.of(await self.requests.ask(Route("PATCH", ONE_MESSAGE, channel), path, body=body))

    async def delete_message(self, channel: str, message: str, *, reason: str | None = None) -> None:
        """Delete a message."""
        _ids(channel=channel, message=message)
        path = f"/channels/{channel}/messages/{message}"
        await self.requests.ask(Route("DELETE", ONE_MESSAGE, channel), path, reason=reason)

    async def delete_messages(
        self, channel: str, messages: Sequence[str], *, reason: str | None = None
    ) -> None:
        """Delete 2 to 100 messages of a guild's channel, none older than two weeks."""
        for message in messages:
            _ids(message=message)
        _ids(channel=channel)
        if not 2 <= len(set(messages)) == len(messages) <= PAGE:
            raise ValueError(f"messages must be 2 to {PAGE} different ids, got {len(messages)}")
        oldest = min(messages, key=int)
        if snowflake_time(oldest) < time.time() - FORTNIGHT:
            raise ValueError(f"messages must not be older than two weeks, got {oldest}; delete it by itself")
        path = f"/channels/{channel}/messages/bulk-delete"
        route = Route("POST", "/channels/{channel}/messages/bulk-delete", channel)
        await self.requests.ask(route, path, body={"messages": list(messages)}, reason=reason)

    async def messages_after(self, channel: str, after: str, *, limit: int = 1000) -> list[ChatMessage]:
        """What was said in a channel after a message, or after `snowflake_at(time)`: to backfill.

        Args:
            channel: where.
            after: an id; it need not be that of a message.
            limit: how many at most, the oldest ones.

        Returns:
            The messages, oldest first, each once. What Discord sends that is no message is left out.
        """
        _ids(channel=channel, after=after)
        found: dict[int, ChatMessage] = {}
        path, route = f"/channels/{channel}/messages", Route("GET", MESSAGES, channel)
        while len(found) < limit:
            page = await self.requests.ask(route, path, query={"after": after, "limit": PAGE})
            newest = int(after)
            for raw in page if isinstance(page, list) else ():
                try:
                    message = ChatMessage.of(raw)
                    key = int(message.id)
                except ValueError:
                    continue
                if key > int(after):
                    found[key] = message
                    newest = max(newest, key)
            if newest == int(after) or len(page) < PAGE:
                break
            after = str(newest)
        return [found[key] for key in sorted(found)[:limit]]  # noqa: ASYNC910

    async def typing(self, channel: str) -> None:
        """Show for ten seconds that the bot is typing."""
        _ids(channel=channel)
        route = Route("POST", "/channels/{channel}/typing", channel)
        await self.requests.ask(route, f"/channels/{channel}/typing")

    async def react(self, channel: str, message: str, emoji: str) -> None:
        """Add the bot's reaction, such as `"👍"` or `"name:id"`."""
        _ids(channel=channel, message=message)
        path = f"/channels/{channel}/messages/{message}/reactions/{quote(emoji, safe='')}/@me"
        route = Route("PUT", ONE_MESSAGE + "/reactions/{emoji}/@me", channel)
        await self.requests.ask(route, path)

    # -- moderation ------------------------------------------------------------------------------

    async def time_out(self, guild: str, user: str, seconds: float, *, reason: str | None = None) -> None:
        """Let a member say nothing for `seconds`, up to 28 days; 0 ends it."""
        _ids(guild=guild, user=user)
        if not 0 <= seconds <= MAX_TIMEOUT:
            raise ValueError(f"seconds must be from 0 to {MAX_TIMEOUT} (28 days), got {seconds!r}")
        until = None
        if seconds:
            until = datetime.fromtimestamp(datetime.now(UTC).timestamp() + seconds, UTC).isoformat()
        route = Route("PATCH", "/guilds/{guild}/members/{user}", guild)
        body = {"communication_disabled_until": until}
        await self.requests.ask(route, f"/guilds/{guild}/members/{user}", body=body, reason=reason)

    async def ban(self, guild: str, user: str, *, delete_seconds: int = 0, reason: str | None = None) -> None:
        """Ban a user, and delete what they said in the last `delete_seconds`, up to 7 days."""
        _ids(guild=guild, user=user)
        if not 0 <= delete_seconds <= 7 * 86_400:
            raise ValueError(f"delete_seconds must be from 0 to {7 * 86_400}, got {delete_seconds!r}")
        route = Route("PUT", "/guilds/{guild}/bans/{user}", guild)
        body = {"delete_message_seconds": delete_seconds}
        await self.requests.ask(route, f"/guilds/{guild}/bans/{user}", body=body, reason=reason)

    # -- interactions ----------------------------------------------------------------------------

    async def respond(
        self, interaction: str, token: str, text: str | None = None, *, hidden: bool = False
    ) -> None:
        """Answer an interaction, within 3 seconds; without a text, say that one will come (`edit_response`).

        Args:
            interaction, token: as the event says.
            text: 1 to 2000 characters, or None.
            hidden: only who asked will see it.
        """
        _ids(interaction=interaction)
        data: dict[str, Any] = {"allowed_mentions": NOBODY}
        if text is not None:
            data["content"] = _content(text)
        if hidden:
            data["flags"] = EPHEMERAL
        route = Route(
            "POST", "/interactions/{id}/{token}/callback", interaction, exempt=True, bot=False, urgent=True
        )
        path = f"/interactions/{interaction}/{quote(token, safe='')}/callback"
        body = {"type": 5 if text is None else 4, "data": data}
        # Twice is an error on Discord's side, not a second answer.
        await self.requests.ask(route, path, body=body)

    async def edit_response(self, application: str, token: str, text: str) -> ChatMessage:
        """Replace the answer to an interaction, within 15 minutes."""
        _ids(application=application)
        major = f"{application}/{token}"
        route = Route("PATCH", "/webhooks/{id}/{token}/messages/@original", major, exempt=True, bot=False)
        path = f"/webhooks/{application}/{quote(token, safe='')}/messages/@original"
        body = {"content": _content(text), "allowed_mentions": NOBODY}
        return ChatMessage.of(await self.requests.ask(route, path, body=body))

    async def follow_up(
        self, application: str, token: str, text: str, *, hidden: bool = False
    ) -> ChatMessage:
        """Add a message to the answer to an interaction, within 15 minutes; not repeated on failure."""
        _ids(application=application)
        route = Route("POST", "/webhooks/{id}/{token}", f"{application}/{token}", exempt=True, bot=False)
        body: dict[str, Any] = {"content": _content(text), "allowed_mentions": NOBODY}
        if hidden:
            body["flags"] = EPHEMERAL
        path = f"/webhooks/{application}/{quote(token, safe='')}"
        return ChatMessage.of(await self.requests.ask(route, path, body=body, repeatable=False))


@asynccontextmanager
async def open_rest(settings: DiscordSettings) -> AsyncIterator[Rest]:
    """Open a client for Discord's REST API; its connections are closed when the block is left."""
    timeout = httpx2.Timeout(settings.request_timeout, pool=None)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=settings.concurrency)
    headers = {"User-Agent": settings.user_agent}
    async with httpx2.AsyncClient(timeout=timeout, limits=limits, headers=headers) as client:
        yield Rest(Requests(settings, client))
