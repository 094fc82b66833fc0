"""A bot on disnake that answers `ping N` with `pong N`, until somebody says `quit`."""

from __future__ import annotations

import sys

import disnake
import disnake.http

token, api_url, _ = sys.argv[1:]
disnake.http.Route.BASE = api_url


class Bot(disnake.Client):
    async def on_message(self, message: disnake.Message) -> None:
        if message.content.startswith("ping "):
            async with message.channel.typing():
                sent = await message.channel.send(message.content.replace("ping", "pang"))
            await sent.edit(content=message.content.replace("ping", "pong"))
            await message.add_reaction("👍")
        elif message.content == "quit":
            await self.close()


intents = disnake.Intents.none()
intents.guilds = intents.guild_messages = intents.message_content = True
Bot(intents=intents).run(token)
