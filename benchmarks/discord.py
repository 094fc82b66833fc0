"""One recorded stream of Discord's gateway through ccm and through discord.py, without a network.

Each side runs in a process of its own (`python -m benchmarks.discord NAME N`) and prints events per second.
Both get the same packed frames, one at a time, with a pause for everybody else after every `BURST` of them.
What is on the clock is what happens between the frame and the bot: unpacking, decoding, the protocol, and
the object that the bot's code gets. `Any` for discord.py, so that type checks do not depend on it.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import sys
from time import perf_counter
from typing import Any

import trio

from ccm.discord import DiscordSettings, Event, Gateway
from ccm.discord._decode import Decoder
from ccm.discord._hearing import Said, hear
from ccm.discord._inflate import inflater
from ccm.discord._shard import _Connection
from ccm.discord._state import State

from ._measure import Absent, Void
from ._recorded import ME, Recorded
from .fresh import child

BURST = 10
BRIDGED = frozenset({"MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE", "MESSAGE_DELETE_BULK"})


def _settle() -> None:
    """Keep the garbage collector from walking the recorded frames."""
    gc.collect()
    gc.freeze()


async def rival(recorded: Recorded) -> float:
    """discord.py: `received_message` of its websocket, its caches, and a task for each `on_message`."""
    discord: Any = importlib.import_module("discord")
    gateway: Any = importlib.import_module("discord.gateway")
    seen = 0

    class Bot(discord.Client):  # type: ignore[misc]
        async def on_message(self, message: Any) -> None:
            nonlocal seen
            seen += 1

    bot = Bot(intents=discord.Intents.all(), chunk_guilds_at_startup=False)
    await bot._async_setup_hook()
    socket = gateway.DiscordWebSocket(None, loop=bot.loop)
    socket._connection, socket._dispatch = bot._connection, bot.dispatch
    socket._discord_parsers, socket.shard_id = bot._connection.parsers, 0
    bot.ws = socket
    bot._connection.shard_count = 1
    socket._decompressor.decompress(recorded.greeting[0])  # HELLO would start its thread of heartbeats
    for frame in recorded.greeting[1:]:
        await socket.received_message(frame)
    await asyncio.sleep(0.05)
    _settle()
    start = perf_counter()
    for number, frame in enumerate(recorded.frames):
        await socket.received_message(frame)
        if number % BURST == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    elapsed = perf_counter() - start
    if bot._connection._ready_task is not None:  # it waits for more guilds, for two seconds
        bot._connection._ready_task.cancel()
    if seen != recorded.counts["MESSAGE_CREATE"]:
        raise Void(f"{seen} messages")
    return len(recorded.frames) / elapsed


async def ours(recorded: Recorded, events: frozenset[str] | None) -> float:
    """ccm: what a shard does with its frames, the inbox, and what a bridge makes of each event."""
    settings = DiscordSettings(token="x", shards=1, events=events)  # type: ignore[arg-type]  # of a converter
    gateway = Gateway(settings, None, State(None), 1)  # type: ignore[arg-type]  # nothing is requested
    shard = gateway._add(0, "wss://gateway.example", None, None)  # type: ignore[arg-type]  # nor dialled
    connection = _Connection(Decoder(inflater("zlib-stream", 1 << 24), events))
    shard.protocol.start(trio.current_time())
    shard.protocol.opened(trio.current_time())
    frames = iter(recorded.greeting)
    shard._take(connection, next(frames))
    shard._do(connection, shard.protocol.identify(trio.current_time()))
    for frame in frames:
        shard._take(connection, frame)
    seen = 0

    async def read() -> None:
        nonlocal seen
        async for event in gateway:
            if isinstance(event, Event) and isinstance(hear(event.type, event.data, ME), Said):
                seen += 1
                if seen == recorded.counts["MESSAGE_CREATE"]:
                    return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.sleep(0.05)
        _settle()
        start = perf_counter()
        for number, frame in enumerate(recorded.frames):
            shard._take(connection, frame)
            if number % BURST == 0:
                await trio.lowlevel.checkpoint()
        if shed := gateway.statistics().shed:
            raise Void(f"{shed} events were shed: the reader was too slow")
    elapsed = perf_counter() - start
    return len(recorded.frames) / elapsed


def all_events(n: int) -> float:
    """Events per second of ccm, every one of them decoded and handed out."""
    return child("-m", "benchmarks.discord", "all", str(n))


def bridged(n: int) -> float:
    """The same when only what a chat bot reads is wanted."""
    return child("-m", "benchmarks.discord", "bridged", str(n))


def discord_py(n: int) -> float:
    """Events per second of discord.py."""
    if importlib.util.find_spec("discord") is None:
        raise Absent("discord.py is not installed; pip install '.[bench]'")
    return child("-m", "benchmarks.discord", "discord.py", str(n))


def main(kind: str, n: int) -> float:
    recorded = Recorded(n)
    if kind == "discord.py":
        return asyncio.run(rival(recorded))
    return trio.run(ours, recorded, None if kind == "all" else BRIDGED)


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2])))
