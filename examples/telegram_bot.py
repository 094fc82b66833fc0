"""A bot with python-telegram-bot that answers each chat in order. The token is in TELEGRAM_TOKEN."""

from __future__ import annotations

import asyncio
import os

from telegram import Update
from telegram.ext import Application, ContextTypes, MessageHandler, filters

import ccm
import ccm.aio


async def reply(turn: ccm.aio.Turn) -> str:
    return f"you said: {turn.text}"  # ask your model here


class Bot:
    """Hands messages to the manager; the manager hands replies back."""

    manager: ccm.aio.Manager

    def __init__(self, token: str) -> None:
        self.app = Application.builder().token(token).concurrent_updates(True).build()
        self.app.add_handler(MessageHandler(filters.TEXT, self.on_message))

    async def on_message(self, update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
        message, user = update.effective_message, update.effective_user
        if message is None or user is None or not message.text:
            return
        id = f"{message.chat_id}/{message.message_id}"
        try:
            await self.manager.submit(ccm.Message(str(message.chat_id), str(user.id), message.text, id=id))
        except ccm.Rejected as rejected:
            if not isinstance(rejected, ccm.Duplicate):
                await message.reply_text(f"Sorry: {rejected.reason.sentence}")

    async def deliver(self, reply: ccm.Reply, message: ccm.Message) -> None:
        for at in range(0, len(reply.text), 4096):  # Telegram takes no longer messages, and no blank ones
            if part := reply.text[at : at + 4096].strip():
                await self.app.bot.send_message(int(message.conversation), part)


async def main(token: str) -> None:
    bot = Bot(token)
    assert bot.app.updater is not None
    # The manager ends before the app does: it may have replies to deliver.
    async with bot.app, ccm.aio.open_manager(reply, storage="bot.db", deliver=bot.deliver) as bot.manager:
        await bot.app.start()
        try:
            await bot.app.updater.start_polling()
            await asyncio.Event().wait()  # until it is cancelled, by Ctrl-C
        finally:
            await bot.app.updater.stop()
            await bot.app.stop()


if __name__ == "__main__":
    asyncio.run(main(os.environ["TELEGRAM_TOKEN"]))
