"""`examples/discord_bot/bot.py`, as a process against a fake Discord."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from tests.discord_client.commands_kit import LOADING
from tests.discord_fake.fake import CHANNEL, FakeDiscord, open_fake

BOT = Path(__file__).parents[2] / "examples" / "discord_bot" / "bot.py"
MAX_LINES = 150


@asynccontextmanager
async def running(fake: FakeDiscord, data: Path, **variables: str) -> AsyncIterator[trio.Process]:
    """The example, connected; killed when the block is left."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("CCM_", "MODEL"))}
    told = {"DISCORD_TOKEN": fake.rules.token, "DISCORD_API_URL": fake.api_url, "DATA": str(data)}
    process = await trio.lowlevel.open_process(
        [sys.executable, "-W", "error", str(BOT)], env={**environment, **told, **variables},
        stderr=subprocess.PIPE,
    )  # fmt: skip
    said = bytearray()

    async def listen() -> None:
        assert process.stderr is not None
        async for piece in process.stderr:
            said.extend(piece)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await fake.until(lambda: any(link.session for link in fake.links), 30)
            yield process
            process.kill()
    finally:
        process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await process.wait()
        print(said.decode())
        assert fake.rules.token not in said.decode()
        assert "interaction-" not in said.decode(), "a command's token is in the log"


def answers(fake: FakeDiscord, channel: str) -> list[str]:
    """What the bot has said, the answers to commands left out."""
    messages = fake.world.messages.get(channel, {}).values()
    return [
        each["content"] for each in messages
        if each["author"]["id"] == fake.world.bot["id"] and not each.get("application_id")
    ]  # fmt: skip


async def use(fake: FakeDiscord, command: str, **options: object) -> str:
    asked = fake.world.ask(command, options)
    messages = fake.world.messages
    await fake.until(lambda: asked.original and not messages[CHANNEL][asked.original]["flags"] & LOADING, 20)
    return str(messages[CHANNEL][asked.original]["content"])


def test_it_is_short() -> None:
    assert len(BOT.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_it_chats_moderates_obeys_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_fake(identify_spacing=0.0) as fake:
            world = fake.world
            private = world.private(world.person)
            async with running(fake, tmp_path, CONTENT="1") as process:
                world.say("hello", channel=private)
                await fake.until(lambda: any("Hello!" in text for text in answers(fake, private)), 20)
                stranger = world.user("stranger")
                world.guilds[next(iter(world.guilds))].members[stranger["id"]] = {"user": stranger}
                bad = world.say("come to discord.gg/abc", author=stranger)
                await fake.until(lambda: bad["id"] not in world.messages[CHANNEL], 20)
                await fake.until(lambda: "Please do not post that here." in answers(fake, CHANNEL), 20)
                assert "16/16" not in await use(fake, "performance")
                assert "4/4" in await use(fake, "test_concurrent", count=16)
                assert await use(fake, "stop") == "There was nothing to stop here."
                assert (await use(fake, "handoff")).startswith("You have taken over")
                assert await use(fake, "handoff", back=True) == "I answer here again."
                sessions = len(fake.hub.sessions)
                world.say("count to 60", channel=private)  # takes a while
                await fake.until(lambda: any(text.startswith("1, 2") for text in answers(fake, private)), 20)
                process.kill()
                await process.wait()
            await fake.until(lambda: not fake.links)
            async with running(fake, tmp_path) as process:
                await fake.until(lambda: any(text.endswith("60.") for text in answers(fake, private)), 30)
                assert sum("count" in text or text.startswith("1, 2") for text in answers(fake, private)) == 1
                assert len(fake.hub.sessions) == sessions  # the session went on
                process.send_signal(signal.SIGTERM)
                with trio.fail_after(20):
                    assert await process.wait() == 0

    trio.run(main)


def test_with_a_model_it_asks_the_model(tmp_path: Path) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await stream.receive_some()
            choice = {"delta": {"content": "from the model"}, "finish_reason": "stop", "index": 0}
            events = f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n".encode()
            status = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"
            await stream.send_all(status + f"content-length: {len(events)}\r\n\r\n".encode() + events)

    async def main() -> None:
        async with open_fake() as fake, trio.open_nursery() as nursery:
            [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1"
            private = fake.world.private(fake.world.person)
            async with running(fake, tmp_path, MODEL_URL=url, MODEL="m"):
                fake.world.say("hello", channel=private)
                await fake.until(lambda: answers(fake, private) == ["from the model"], 20)
            nursery.cancel_scope.cancel()

    trio.run(main)
