"""A bot with discord.py (`pip install discord.py`) that answers in order, urgent questions first.

Run it with the bot's token in DISCORD_TOKEN. Kill it in the middle of an answer and start it again: what was
accepted is answered.
"""

from __future__ import annotations

import os

import discord

import ccm
import ccm.aio


async def reply(turn: ccm.aio.Turn) -> str:
    return f"{turn.message.user}, you said: {turn.text}"  # ask your model here


class Bot(discord.Client):
    """Hands messages to the manager; the manager hands replies back."""

    manager: ccm.aio.Manager

    async def on_message(self, message: discord.Message) -> None:
        if message.author.bot or not message.content:
            return
        asks = "?" in message.content or self.user in message.mentions
        try:
            await self.manager.submit(ccm.Message(
                str(message.channel.id), str(message.author.id), message.content, id=str(message.id),
                tenant=str(message.guild.id) if message.guild else "",
                priority=ccm.HIGH if asks else ccm.NORMAL,
            ))  # fmt: skip
        except ccm.Duplicate:
            return  # Discord told us twice
        except ccm.Rejected as rejected:
            await message.reply(f"Sorry: {rejected.reason.sentence}")

    async def deliver(self, reply: ccm.Reply, message: ccm.Message) -> None:
        channel = await self.fetch_channel(int(message.conversation))
        assert isinstance(channel, discord.abc.Messageable)
        for at in range(0, len(reply.text), 2000):
            part, nonce = reply.text[at : at + 2000], f"{message.id}.{at}"  # what Discord had is not doubled
            await channel.send(part, nonce=nonce, allowed_mentions=discord.AllowedMentions.none())


async def main(bot: Bot, token: str) -> None:
    async with bot:  # for longer than the manager, which may have replies to deliver at its end
        await bot.login(token)
        async with ccm.aio.open_manager(reply, storage="bot.db", deliver=bot.deliver) as bot.manager:
            await bot.connect()


if __name__ == "__main__":
    import asyncio

    intents = discord.Intents(guilds=True, messages=True, message_content=True)
    asyncio.run(main(Bot(intents=intents), os.environ["DISCORD_TOKEN"]))
