"""A whole bot in a storm: `python -m tests.discord_fake.storm --seeds 300 --first 0`.

Each seed draws what people say, edit and delete in some channels, and what goes wrong meanwhile: with the
gateway, with the answers of the REST API, and with the connections of both. The bot has a gateway, a bridge
and a manager with a SQLite file; the fake Discord is in memory, with real WebSockets and HTTP. Time is
virtual, and the same seed gives the same storm. When it is over, each message that was not deleted must have
exactly one reply that anybody can see, the replies of a channel must be in the order of its messages, and
the bot must not have come near a ban and must end in time.

Not asked for, because it is not promised (docs/discord.md):

- The text of a reply is that of the message as it was said or as it was edited: an edit whose event was
  lost is not fetched, and one that comes after the reply changes nothing.
- A message that was deleted has one reply at most, or a part of it: the event may be lost, and a reply is
  taken back once, without another try when Discord fails.
- Discord knows a nonce for ever here: a reply that is sent again after minutes is there twice.
- Deliveries are tried for as long as the storm lasts: after a number of tries that is a setting, a reply
  becomes a dead letter.
- The order of replies in a channel whose backfill Discord did not let through: what it brings later is
  answered later.
- People write only in channels that the bot has answered in: others, if private, are not backfilled.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

import ccm
from ccm import discord
from ccm.discord import split
from ccm.storage import SqliteStorage
from ccm.testing import Deadlock, Livelock, Overrun, simulate
from tests.discord_fake.chaos import Chaos, open_chaos
from tests.discord_fake.fake import CHANNEL, GUILD, FakeDiscord, open_fake
from tests.discord_fake.harm import CONNECTION_FAULTS, GATEWAY_FAULTS, harm, harm_connections, heal
from tests.discord_fake.wire import dialler, open_wired

INTENTS = discord.Intents.GUILDS | discord.Intents.GUILD_MESSAGES | discord.Intents.DIRECT_MESSAGES
INTENTS |= discord.Intents.MESSAGE_CONTENT
CALM: Final = 1800.0
"""Seconds within which everything must be answered once nothing goes wrong any more."""
LEAVING: Final = 20.0
STYLES: Final = ("quick", "slow", "shown", "shown", "long")
HEAD: Final = re.compile(r"(re|and) (\d+)\.(\d+) ")
ROUTES: Final = ("", "POST /channels/{channel}/messages", "PATCH", "GET /channels", "typing", "DELETE")
AIMED: Final = ("corrupt", "holed replay", "short replay", "refuse")
INVALID: Final = (401, 403, 429)

Act = tuple[Any, ...]


# -- what is drawn ---------------------------------------------------------------------------------


def draw_trouble(draw: random.Random) -> Act:
    """One fault of the REST API, as the name and the arguments of a method of `Api`."""
    kind = draw.choice(("turn_away", "turn_away", "fail", "lose", "delay", "cut", "cut"))
    more: dict[str, Any] = {"times": draw.randint(1, 8), "route": draw.choice(ROUTES)}
    first: tuple[Any, ...] = ()
    if kind == "turn_away":
        scope = draw.choice(("user", "global", "shared", "proxied", "cloudflare"))
        first = (scope, round(draw.uniform(0.1, 30.0), 1))
    elif kind == "cut":
        first = (draw.choice(("told", "untold")),)
    else:
        more["carried_out"] = draw.random() < 0.5
        if kind == "fail":
            first = (draw.choice((500, 502, 503, 504)),)
        elif kind == "delay":
            first = (draw.choice((0.5, 5.0, 15.0, math.inf)),)
    return (kind, first, more)


def draw_storm(seed: int) -> list[tuple[float, Act]]:
    """What happens when, in order."""
    draw = random.Random(seed)
    length = draw.uniform(20.0, 180.0)
    acts: list[tuple[float, Act]] = []

    def add(most: int, act: Callable[[], Act]) -> None:
        acts.extend((draw.uniform(0.0, length), act()) for _ in range(draw.randint(0, most)))

    def say() -> Act:
        return ("say", draw.randrange(4), draw.choice(STYLES))

    add(30, say)
    # Some faults do something only when a connection is cut next, and only to what is said then.
    for _ in range(draw.randint(0, 4)):
        at = draw.uniform(0.0, length)
        acts.append((at, ("gateway", draw.choice(AIMED))))
        acts.append((at + draw.uniform(0.0, 1.0), ("gateway", "reset")))
        acts.extend((at + draw.uniform(0.0, 2.0), say()) for _ in range(draw.randint(1, 4)))
    add(6, lambda: ("edit", draw.randrange(4)))
    add(4, lambda: ("delete", draw.randrange(4)))
    add(12, lambda: ("gateway", draw.choice(GATEWAY_FAULTS)))
    add(6, lambda: ("connections", draw.choice(CONNECTION_FAULTS)))
    add(12, lambda: ("api", *draw_trouble(draw)))
    return sorted(acts, key=lambda entry: entry[0])


# -- what is said ----------------------------------------------------------------------------------


def reply_of(text: str) -> str:
    """What the bot answers; `long` takes two messages."""
    if "long" not in text:
        return f"re {text}"
    return f"re {text} {'a' * 1500}\n\nand {text} {'b' * 1500}"


async def echo(turn: ccm.Turn) -> str:
    """Answers at once, or slowly, or for all to see while it writes."""
    text = turn.text
    if "slow" in text:
        await trio.sleep(3.0)
    elif "shown" in text:
        await turn.send(f"re {text}"[:-2])
        await trio.sleep(4.0)
        await turn.send(f"re {text}"[-2:])
    return reply_of(text)


@dataclass
class Said:
    """A message: what it said at first and later, and whether it is still there."""

    number: int
    channel: str
    id: str
    texts: list[str] = field(default_factory=list)
    deleted: bool = False


class Storm:
    """One bot, its Discord, and what is said there.

    Args:
        fake: Discord.
        proxies: in front of its gateway, and of its API.

    Attributes:
        late: channels whose backfill could not be done at once.
    """

    def __init__(self, fake: FakeDiscord, *proxies: Chaos) -> None:
        self.fake = fake
        self.proxies = proxies
        self.said: list[Said] = []
        self.late: set[str] = set()
        world = fake.world
        guild = world.guilds[GUILD]
        more = [world.channel(guild, f"more {number}", silently=True) for number in range(2)]
        self.channels = [CHANNEL, *more, world.private(world.person)]

    # -- what happens ----------------------------------------------------------------------------

    def say(self, channel: str, style: str = "quick") -> None:
        number = len(self.said)
        text = f"{number}.0 {style}"
        made = self.fake.world.say(text, channel=channel)
        self.said.append(Said(number, channel, made["id"], [text]))

    def _last(self, channel: str) -> Said | None:
        found = (said for said in reversed(self.said) if said.channel == channel and not said.deleted)
        return next(found, None)

    async def act(self, act: Act) -> None:
        kind, *rest = act
        if kind == "say":
            self.say(self.channels[rest[0]], rest[1])
        elif kind == "gateway":
            await harm(self.fake, self.proxies[0], rest[0])
        elif kind == "connections":
            await harm_connections(self.proxies[1], rest[0])
        elif kind == "api":
            method, first, more = rest
            getattr(self.fake.api, method)(*first, **more)
        elif (said := self._last(self.channels[rest[0]])) is not None:
            if kind == "delete":
                said.deleted = True
                self.fake.world.delete(said.channel, said.id)
            else:
                style = said.texts[0].partition(" ")[2]
                said.texts.append(f"{said.number}.{len(said.texts)} {style}")
                self.fake.world.edit(said.channel, said.id, content=said.texts[-1])

    # -- what came of it -------------------------------------------------------------------------

    def wrong(self) -> list[str]:
        """What is not as it must be."""
        found: list[str] = []
        for channel in self.channels:
            shown: dict[int, list[str]] = {}
            order: list[int] = []
            for message in self.fake.world.messages.get(channel, {}).values():
                if message["author"]["id"] != self.fake.world.bot["id"]:
                    continue
                head = HEAD.match(message["content"] + " ")
                if head is None:
                    found.append(f"somebody sees {message['content'][:60]!r}")
                    continue
                number = int(head[2])
                shown.setdefault(number, []).append(message["content"])
                if head[1] == "re" and not self.said[number].deleted:
                    order.append(number)
            if order != sorted(order) and channel not in self.late:
                found.append(f"out of order in {channel}: {order}")
            for said in self.said:
                if said.channel == channel:
                    found.extend(self._wrong_with(said, shown.get(said.number, [])))
        return found

    def _wrong_with(self, said: Said, shown: list[str]) -> list[str]:
        wanted = [split(reply_of(text)) for text in said.texts]
        told = [text[:40] for text in shown]
        if said.deleted:
            heads = Counter(text.partition(" ")[0] for text in shown)
            return [f"{said.number} is deleted, and has {told}"] if max(heads.values(), default=0) > 1 else []
        return [] if shown in wanted else [f"{said.number} has {told or 'no reply'}"]


@dataclass
class Verdict:
    """What came of one seed.

    Attributes:
        late: channels whose order was not judged.
        wrong: empty if all is well.
    """

    seed: int
    said: int
    faults: int
    requests: int
    turned_away: int
    late: int
    wrong: list[str]


async def watch(storm: Storm, bridge: discord.Bridge) -> None:
    """Note where a backfill has failed: it is tried again after some seconds, so that none is overlooked."""
    while True:
        storm.late.update(bridge._missed._left)
        await trio.sleep(1.0)


async def weather(storm: Storm, gateway: discord.Gateway, acts: list[tuple[float, Act]]) -> None:
    """The storm itself, the calm behind it, and a while in which nothing more may come."""
    fake = storm.fake
    await fake.until(lambda: gateway.statistics().live == 1)
    for channel in storm.channels:
        storm.say(channel)
    await fake.until(lambda: not storm.wrong(), 60)
    began = trio.current_time()
    for at, act in acts:
        await trio.sleep_until(began + at)
        await storm.act(act)
    heal(fake, *storm.proxies)
    await fake.until(lambda: gateway.statistics().live == 1, CALM)
    for channel in storm.channels:
        storm.say(channel)  # a loss at the very end is noticed by what comes behind
    with trio.move_on_after(CALM):
        while storm.wrong():  # noqa: ASYNC110  # there is nothing to be told by
            await trio.sleep(1.0)
    await trio.sleep(120.0)


async def live(seed: int, folder: Path) -> Verdict:
    """One bot from its start to its end."""
    rules = {"session_total": 100_000, "nonce_memory": math.inf}
    compress = (None, "zlib-stream", "zstd-stream")[seed % 3]
    config = ccm.Config(
        rate_limit=None, conversation_limit=1000, debug=True,
        delivery_retry=ccm.RetryPolicy(attempts=100, base=0.5, cap=30.0),
    )  # fmt: skip
    acts = draw_storm(seed)
    storage = SqliteStorage(folder / f"{seed}.db")
    storage.blocking = storage.shared = False  # a clock that jumps does not wait for threads
    async with open_fake(memory=True, **rules) as fake, open_chaos() as first, open_chaos() as second:
        storm = Storm(fake, first, second)
        fake.faults.rest_latency = 0.02
        settings = fake.settings(intents=INTENTS, events=discord.HEARD, acknowledge=True, compress=compress)
        async with (
            trio.open_nursery() as nursery,
            open_wired(settings, second.through(dialler(fake, nursery))) as rest,
        ):
            ended = math.inf
            async with discord.open_gateway(settings, rest=rest, dial=first.through(fake.dial)) as gateway:
                bridge = discord.Bridge(gateway)
                async with ccm.open_manager(
                    echo, config=config, storage=storage, deliver=bridge.deliver
                ) as manager:
                    async with trio.open_nursery() as bot:
                        bot.start_soon(bridge.run, manager)
                        bot.start_soon(watch, storm, bridge)
                        await weather(storm, gateway, acts)
                        ended = trio.current_time()
                        bot.cancel_scope.cancel()
                    manager.statistics().check()
            wrong = storm.wrong()
            if trio.current_time() - ended > LEAVING:
                wrong.append(f"it took {trio.current_time() - ended:g} s to end")
            await fake.until(lambda: not fake.links, 5)
            wrong += judge_requests(fake, acts)
            nursery.cancel_scope.cancel()
        faults = sum(act[0] in ("gateway", "connections", "api") for _, act in acts)
        away = sum(seen.status == 429 for seen in fake.api.seen)
        return Verdict(seed, len(storm.said), faults, len(fake.api.seen), away, len(storm.late), wrong)


def judge_requests(fake: FakeDiscord, acts: list[tuple[float, Act]]) -> list[str]:
    """Whether the bot asked more often than it may: then Discord would ban it."""
    drawn = sum(act[3]["times"] for _, act in acts if act[:2] == ("api", "turn_away"))
    invalid = sum(seen.status in INVALID for seen in fake.api.seen)
    # A few more are the storm's doing: whoever gets only a part of an answer does not know its limit.
    if fake.api.limits.ban > -math.inf or invalid > drawn + 20:
        return [f"{invalid} requests that were not valid, at most {drawn} of them drawn"]
    return []


def run(seed: int, folder: Path) -> Verdict:
    """One seed; the same one gives the same verdict."""
    random.seed(seed)  # the pauses of the clients
    try:
        return simulate(partial(live, seed, folder), seed=seed, limit=10 * CALM)
    except (ExceptionGroup, Deadlock, Livelock, Overrun) as error:
        return Verdict(seed, 0, 0, 0, 0, 0, [*map(repr, innermost(error))])


def innermost(error: BaseException) -> list[BaseException]:
    """What is inside of groups."""
    if isinstance(error, BaseExceptionGroup):
        return [found for each in error.exceptions for found in innermost(each)]
    return [error]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    begun, bad, said, faults, late = time.monotonic(), [], 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.first, options.first + options.seeds):
            verdict = run(seed, Path(folder))
            said, faults, late = said + verdict.said, faults + verdict.faults, late + verdict.late
            if verdict.wrong:
                bad.append(seed)
            mark = "; ".join(verdict.wrong[:4]) if verdict.wrong else "well"
            print(
                f"[{time.monotonic() - begun:5.0f} s] seed {seed}: {verdict.said} messages, {verdict.faults} "
                f"faults, {verdict.requests} requests ({verdict.turned_away} x 429): {mark}",
                flush=True,
            )
    print(
        f"{options.seeds} storms, {said} messages, {faults} faults, {late} of {4 * options.seeds} channels "
        f"not judged by their order: {bad or 'all well'}"
    )
    return bool(bad)


if __name__ == "__main__":
    raise SystemExit(main())
