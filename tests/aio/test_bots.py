"""The examples for discord.py and python-telegram-bot, as processes, against services that are not real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import h11
import trio

from tests.discord_fake.fake import CHANNEL, FakeDiscord, open_fake

EXAMPLES = Path(__file__).parents[2] / "examples"
# What a shell without job control starts in the background ignores Ctrl-C, and so do its children.
START = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_path(sys.argv[1], run_name='__main__')
"""
TO_DISCORD = """
import discord.http, os, yarl
from discord.gateway import DiscordWebSocket
discord.http.Route.BASE = os.environ["API"]
DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(os.environ["GATEWAY"])
"""
TO_TELEGRAM = """
import os
from telegram.ext import Application
builder = Application.builder
Application.builder = staticmethod(lambda: builder().base_url(os.environ["API"]))
"""
PERSON, CHAT = 9, 5


@asynccontextmanager
async def running(name: str, lead: str, folder: Path, **variables: str) -> AsyncIterator[trio.Process]:
    """An example whose library was led elsewhere; killed when the block is left."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", lead + START, str(EXAMPLES / name)], cwd=folder,
        env={**os.environ, **variables}, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await process.wait()


async def interrupt(process: trio.Process) -> None:
    """Ctrl-C: it ends in time, and nothing else went wrong."""
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    said = bytearray()
    with trio.fail_after(20):
        async for piece in process.stderr:
            said.extend(piece)
        await process.wait()
    text = said.decode()
    assert text.rstrip().endswith("KeyboardInterrupt"), text
    for wrong in ("RuntimeError", "never retrieved", "was destroyed", "ResourceWarning", "AttributeError"):
        assert wrong not in text, text


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110  # there is nothing to be told by
            await trio.sleep(1 / 64)


# -- discord.py ------------------------------------------------------------------------------------


def answers(fake: FakeDiscord) -> list[str]:
    messages = fake.world.messages.get(CHANNEL, {}).values()
    return [each["content"] for each in messages if each["author"]["id"] == fake.world.bot["id"]]


def test_a_bot_with_discord_py_answers_once_also_after_a_kill_and_ends_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_fake(identify_spacing=0.0) as fake:
            told = {"DISCORD_TOKEN": fake.rules.token, "API": fake.api_url, "GATEWAY": fake.gateway_url}
            bot = partial(running, "discord_py_bot.py", TO_DISCORD, tmp_path, **told)
            async with bot() as process:
                await fake.until(lambda: fake.hub.live, 30)
                fake.world.say("hello")
                await until(lambda: len(answers(fake)) == 1)
                assert answers(fake)[0].endswith("you said: hello")
                # The answer is there, and nobody tells the bot before it is killed.
                fake.api.lose(times=1000, route="POST")
                fake.world.say("x" * 1990)
                await until(lambda: len(answers(fake)) == 2)
                process.kill()
                await process.wait()
            fake.api._troubles.clear()
            links = len(fake.hub.links)
            async with bot() as process:
                await until(lambda: len(answers(fake)) == 3)
                assert [len(text) for text in answers(fake)[1:]] == [
                    2000,
                    len(f"{fake.world.person['id']}, you said: ") - 10,
                ]
                # What was left is delivered before it listens again, and it does not ask for what it missed.
                await fake.until(lambda: any(link in fake.hub.live for link in fake.hub.links[links:]), 30)
                fake.world.say("bye")
                await until(lambda: len(answers(fake)) == 4)
                await interrupt(process)
            assert len(answers(fake)) == 4

    trio.run(main)


# -- python-telegram-bot ---------------------------------------------------------------------------


class Telegram:
    """The four methods of Telegram's Bot API that a bot of this kind needs.

    Attributes:
        updates: what it is to be told, until it asks for what comes behind.
        sent: chat and text of what it said.
    """

    def __init__(self) -> None:
        self.updates: list[dict[str, Any]] = []
        self.sent: list[tuple[int, str]] = []

    def say(self, text: str) -> None:
        number = len(self.updates) + 1
        message = {
            "message_id": number, "date": 1, "text": text, "chat": {"id": CHAT, "type": "private"},
            "from": {"id": PERSON, "is_bot": False, "first_name": "Ada"},
        }  # fmt: skip
        self.updates.append({"update_id": number, "message": message})

    async def answer(self, method: str, told: dict[str, list[str]]) -> Any:
        if method == "getMe":
            return {"id": 1, "is_bot": True, "first_name": "bot", "username": "bot"}
        if method == "getUpdates":
            behind = int(told.get("offset", ["0"])[0])
            with trio.move_on_after(0.5):
                while True:
                    found = [update for update in self.updates if update["update_id"] >= behind]
                    if found:
                        return found
                    await trio.sleep(1 / 64)
            return []
        if method == "sendMessage":
            text = told.get("text", [""])[0]
            if not text.strip() or len(text) > 4096:
                raise ValueError("Bad Request: message is too long, or empty")
            self.sent.append((int(told["chat_id"][0]), text))
            return {"message_id": 1000, "date": 1, "chat": {"id": CHAT, "type": "private"}}
        return True

    async def serve(self, stream: trio.SocketStream) -> None:
        connection, path, content = h11.Connection(h11.SERVER), "", b""
        async with stream:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    try:
                        connection.receive_data(bytes(await stream.receive_some(65_536)))
                    except trio.BrokenResourceError:
                        return
                elif isinstance(event, h11.Request):
                    path, content = event.target.decode(), b""
                elif isinstance(event, h11.Data):
                    content += event.data
                elif isinstance(event, h11.EndOfMessage):
                    status, found = 200, dict[str, Any]()
                    try:
                        result = await self.answer(path.rpartition("/")[2], parse_qs(content.decode()))
                        found = {"ok": True, "result": result}
                    except ValueError as error:
                        status, found = 400, {"ok": False, "error_code": 400, "description": str(error)}
                    body = json.dumps(found).encode()
                    head = h11.Response(status_code=status, headers=[("Content-Length", str(len(body)))])
                    parts = [connection.send(part) for part in (head, h11.Data(body), h11.EndOfMessage())]
                    try:
                        await stream.send_all(b"".join(part or b"" for part in parts))
                    except trio.BrokenResourceError:
                        return
                    connection.start_next_cycle()
                else:
                    return


def test_a_bot_with_python_telegram_bot_answers_in_order_and_ends_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        telegram = Telegram()
        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(partial(trio.serve_tcp, telegram.serve, 0, host="127.0.0.1"))
            url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/bot"
            for number in range(3):
                telegram.say(str(number))
            variables = {"TELEGRAM_TOKEN": "1:x", "API": url}
            async with running("telegram_bot.py", TO_TELEGRAM, tmp_path, **variables) as process:
                await until(lambda: len(telegram.sent) == 3)
                # Three messages' worth, of which one would be blank.
                telegram.say("x" * 4086 + " " * 4096 + "the end")
                telegram.say("bye")
                await until(lambda: len(telegram.sent) == 6)
                await interrupt(process)
            answers = [f"you said: {text}" for text in ("0", "1", "2", "x" * 4086)]
            texts = [*answers, "the end", "you said: bye"]
            assert telegram.sent == [(CHAT, text) for text in texts]
            nursery.cancel_scope.cancel()

    trio.run(main)
