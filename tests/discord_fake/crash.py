"""Kills a bot with SIGKILL at random moments between a message and its answer, and starts it again:
`python -m tests.discord_fake.crash --kills 50`.

The bot is a child process with a SQLite file, a gateway state and the bridge; the fake Discord lives in this
one. Every message must be answered in the end, and nobody may see an answer twice.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

import ccm
from ccm import discord
from tests.discord_fake.fake import FakeDiscord, open_fake


async def bot(folder: Path, token: str, api_url: str) -> None:
    """What the child does, until it is killed."""

    async def answer(turn: ccm.Turn) -> str:
        await trio.sleep(random.choice((0.0, 0.01, 0.05)))
        return f"re {turn.message.text}"

    settings = discord.DiscordSettings(
        token=token, api_url=api_url, state=folder / "state.json", acknowledge=True
    )
    async with discord.open_gateway(settings) as gateway:
        bridge = discord.Bridge(gateway)
        config = ccm.Config(rate_limit=None, max_attempts=1000, conversation_limit=1000)
        async with ccm.open_manager(
            answer, config=config, storage=folder / "bot.db", deliver=bridge.deliver
        ) as manager:
            await bridge.run(manager)


class Result:
    """What came of it: how often each message was answered; `kills`, and those with answers outstanding."""

    def __init__(self) -> None:
        self.said = 0
        self.kills = 0
        self.between = 0
        self.answers: Counter[str] = Counter()

    @property
    def wrong(self) -> list[str]:
        """Messages that were not answered exactly once."""
        return [f"{n}: {self.answers[f're {n}']} answers" for n in range(self.said)
                if self.answers[f"re {n}"] != 1]  # fmt: skip


async def crash(kills: int, seed: int, folder: Path) -> Result:
    """Lives until so many were ended by SIGKILL, and one that may finish."""
    draw, result = random.Random(seed), Result()
    async with open_fake(identify_spacing=0.0, global_rate=10_000, session_total=100_000) as fake:
        channel = fake.world.private(fake.world.person)

        def count() -> int:
            me = fake.world.bot["id"]
            known = fake.world.messages.get(channel, {}).values()
            result.answers = Counter(m["content"] for m in known if m["author"]["id"] == me)
            return result.answers.total()

        def say() -> None:
            fake.world.say(str(result.said), channel=channel)
            result.said += 1

        await _life(fake, folder, lambda: (folder / "state.json").exists())
        while result.kills < kills:
            seconds = draw.uniform(0.0, 0.4)
            spoken = draw.randint(1, 5)

            async def live(seconds: float = seconds, spoken: int = spoken) -> None:
                for _ in range(spoken):
                    say()
                    await trio.sleep(seconds / spoken)

            await _life(fake, folder, None, live)
            result.kills += 1
            result.between += count() < result.said
        await _life(fake, folder, lambda: count() >= result.said and not result.wrong)
    return result


async def _life(
    fake: FakeDiscord, folder: Path, until: Callable[[], object] | None = None,
    live: Callable[[], Awaitable[None]] | None = None,
) -> None:  # fmt: skip
    """One process: killed when `until` is so, or when `live`, which begins as it connects, is over."""
    command = [sys.executable, "-m", "tests.discord_fake.crash", "--bot", str(folder)]
    process = await trio.lowlevel.open_process([*command, fake.rules.token, fake.api_url])
    try:
        await fake.until(lambda: any(link.session for link in fake.links), 30)
        if live is not None:
            await live()
        if until is not None:
            await fake.until(until, 60)
    finally:
        process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await process.wait()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await fake.until(lambda: not fake.links)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bot", nargs=3, metavar=("FOLDER", "TOKEN", "URL"), help=argparse.SUPPRESS)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    if options.bot:
        trio.run(bot, Path(options.bot[0]), *options.bot[1:])
        return 0
    with tempfile.TemporaryDirectory() as folder:
        result = trio.run(crash, options.kills, options.seed, Path(folder))
    print(
        f"{result.kills} kills (seed {options.seed}), {result.between} with answers outstanding, "
        f"{result.said} messages: {result.wrong or 'each answered once'}"
    )
    return bool(result.wrong)


if __name__ == "__main__":
    raise SystemExit(main())
