"""A whole Discord bot: chat, moderation, slash commands, and nothing is lost when it is killed.

    pip install 'ccm[discord,model]'
    DISCORD_TOKEN=... python bot.py

It answers mentions, answers to it and private chats, so it needs no privileged intent; to moderate what
others say, switch on "Message Content" in the developer portal and set CONTENT=1. Invite it with the scopes
`bot` and `applications.commands`, and let it send and delete messages and time members out.

| variable      | means                                                                             |
|---------------|-----------------------------------------------------------------------------------|
| DISCORD_TOKEN | the bot's token                                                                   |
| DATA          | folder for the conversations and the gateway's session; without, the current one  |
| MODEL_URL     | of a server with OpenAI's chat completions, such as http://localhost:8080/v1;     |
|               | without, a small offline program answers                                          |
| MODEL         | the model's name                                                                  |
| MODEL_KEY     | the key for it                                                                    |
| CONTENT       | 1: read and moderate everything that is said                                      |
| CCM_*         | settings of the manager, see `ccm config`                                         |

SIGTERM and Ctrl-C end it within `drain` seconds. Kill it in any other way: what was accepted is answered by
the next process, and the gateway's session goes on.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

import ccm
from ccm import discord
from ccm.model import ChatModel
from ccm.responder import Responder

SYSTEM = "You are a helpful member of a Discord server. Answer briefly."
FORBIDDEN = ccm.matches(r"discord\.gg/|free nitro")
ENV = os.environ


@asynccontextmanager
async def open_chat() -> AsyncIterator[ChatModel | Responder]:
    """What answers: a model if there is one, else the offline program."""
    if "MODEL_URL" not in ENV:
        yield Responder()
        return
    model = ChatModel(ENV["MODEL_URL"], model=ENV.get("MODEL", ""), key=ENV.get("MODEL_KEY"), system=SYSTEM)
    async with model:
        yield model


async def sorry(turn: ccm.Turn) -> str:
    """Said when there is no answer: it goes through the storage, so it is said even after a crash."""
    return "I have no answer at the moment, sorry. Please ask again later."


def routes(chat: ChatModel | Responder, moderator: discord.Moderator) -> ccm.Router:
    """Moderation runs beside the answers, before them, and nobody escapes it by flooding or editing."""
    router = ccm.Router()
    moderation = router.route(
        "moderation", when=FORBIDDEN, priority=ccm.CRITICAL, ordered=False, answers=False, rate_limited=False,
        edits=True,
    )  # fmt: skip
    moderation(moderator)
    answers = router.route(
        "chat", when=discord.addressed, priority=ccm.by_content(), timeout=120, fallback=sorry
    )
    answers(chat)
    return router


async def main() -> None:
    data = Path(ENV.get("DATA", "."))
    intents = discord.Intents.GUILDS | discord.Intents.GUILD_MESSAGES | discord.Intents.DIRECT_MESSAGES
    if ENV.get("CONTENT") == "1":
        intents |= discord.Intents.MESSAGE_CONTENT
    settings = discord.DiscordSettings.from_env(
        intents=intents, events=discord.HEARD, acknowledge=True, state=data / "bot.state"
    )
    async with open_chat() as chat, discord.open_gateway(settings) as gateway:
        bridge = discord.Bridge(gateway, commands=discord.STANDARD_COMMANDS)
        router = routes(chat, discord.Moderator(gateway.rest))
        async with (
            ccm.open_manager(
                router, config=ccm.Config.load(), storage=data / "bot.db", deliver=bridge.deliver
            ) as manager,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(bridge.run, manager)
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                await anext(signals)
            nursery.cancel_scope.cancel()  # what runs may end, what waits is answered after the restart


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # what it logs has the tokens of commands in it
    trio.run(main)
