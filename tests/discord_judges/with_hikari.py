"""A bot on hikari that answers `ping N` with `pong N`, until somebody says `quit`."""

from __future__ import annotations

import sys

import hikari

token, api_url, _ = sys.argv[1:]
intents = hikari.Intents.GUILDS | hikari.Intents.GUILD_MESSAGES | hikari.Intents.MESSAGE_CONTENT
bot = hikari.GatewayBot(token, rest_url=api_url, intents=intents, banner=None, logs="WARNING")


@bot.listen()
async def on_message(event: hikari.GuildMessageCreateEvent) -> None:
    text = event.content or ""
    if text.startswith("ping "):
        async with bot.rest.trigger_typing(event.channel_id):
            sent = await event.message.respond(text.replace("ping", "pang"))
        await sent.edit(text.replace("ping", "pong"))
        await event.message.add_reaction("👍")
    elif text == "quit":
        await bot.close()


bot.run(check_for_updates=False)
