"""A bot on discord.py that answers `ping N` with `pong N`, until somebody says `quit`."""

from __future__ import annotations

import sys

import discord
import discord.http
import yarl
from discord.gateway import DiscordWebSocket

token, api_url, gateway_url = sys.argv[1:]
discord.http.Route.BASE = api_url
DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(gateway_url)


class Bot(discord.Client):
    async def on_message(self, message: discord.Message) -> None:
        if message.content.startswith("ping "):
            async with message.channel.typing():
                sent = await message.channel.send(message.content.replace("ping", "pang"))
            await sent.edit(content=message.content.replace("ping", "pong"))
            await message.add_reaction("👍")
        elif message.content == "quit":
            await self.close()


intents = discord.Intents(guilds=True, guild_messages=True, message_content=True)
Bot(intents=intents).run(token, log_handler=None)
