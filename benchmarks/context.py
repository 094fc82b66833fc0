"""What caching contexts saves: the time of a turn that needs three of them, and loader calls on real chat.

A turn wants three things, one after the other: a profile of the person, and two things about the
conversation (what was said, its topic). How many calls of loaders that saves depends on who speaks when: on
chat logs where there are some (see `logs`), else on generated traffic of the same kind. The counts are taken
on virtual time, so that they are the same on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter

import trio

import ccm
from ccm.testing import Arrival, irc_traffic, simulate, traffic

from ._measure import Void
from .reference import ROOT

LOAD_SECONDS = 0.02
LOGS = "CCM_CHAT_LOGS"
"""Environment variable that names a folder with logs (`[HH:MM] <nick> text`)."""
BESIDE = ROOT.parent / "shared" / "data" / "ubuntu-irc"

CONFIG = ccm.Config(rate_limit=None)
TIRELESS = CONFIG.replace(limit=1000, queue_limit=100_000, conversation_limit=10_000, timeout=3600)


class Loaders:
    """A handler that wants three contexts, and the calls of their loaders, by kind."""

    def __init__(self, ttl: float | None = None) -> None:
        self.calls = {"person": 0, "conversation": 0}
        self._ttl = ttl

    async def __call__(self, turn: ccm.Turn) -> None:
        await turn.context(f"profile:{turn.message.user}", self.profile, ttl=self._ttl)
        await turn.context("memory", self.memory, ttl=self._ttl)
        await turn.context("topic", self.memory, ttl=self._ttl)

    async def profile(self, turn: ccm.Turn) -> str:
        self.calls["person"] += 1
        await trio.sleep(LOAD_SECONDS)
        return turn.message.user

    async def memory(self, turn: ccm.Turn) -> str:
        self.calls["conversation"] += 1
        await trio.sleep(LOAD_SECONDS)
        return turn.message.conversation


# -- the time of a turn ------------------------------------------------------------------------------------


async def _active(n: int, ttl: float | None) -> float:
    async with ccm.open_manager(Loaders(ttl), config=CONFIG) as manager:
        await manager.ask(ccm.Message("c", "ada", "hello"))
        start = perf_counter()
        for _ in range(n):
            await manager.ask(ccm.Message("c", "ada", "hello"))
        elapsed = perf_counter() - start
        if manager.statistics().outcomes["replied"] != n + 1:
            raise Void(f"{n + 1} messages were sent, but: {manager.statistics().conservation()}")
    return n / elapsed


def warm(n: int) -> float:
    """Turns per second of one active person, each with three contexts that are there."""
    return trio.run(_active, n, None)


def cold(n: int) -> float:
    """The same turns when each loads all three."""
    return trio.run(_active, n, 0.0)


# -- loader calls ------------------------------------------------------------------------------------------


def logs() -> list[Path]:
    """The chat logs that there are: in the folder that the environment names, else beside the repository."""
    folder = Path(os.environ.get(LOGS) or BESIDE)
    return sorted(folder.glob("*.log")) if folder.is_dir() else []


def chat(n: int) -> list[Arrival]:
    """The first `n` messages of the logs, all of which begin at once; or generated ones."""
    if files := logs():
        return list(islice(irc_traffic(files, malformed=lambda line: None), n))
    return generated(n)


def generated(n: int, seed: int = 0) -> list[Arrival]:
    """As dense as in the logs: a dozen channels, in each a few people who write every minute and a half."""
    return list(traffic(rate=1.0, count=n, seed=seed, conversations=12, users=7))


async def _replay(arrivals: Sequence[Arrival], loaders: Loaders) -> None:
    async with ccm.open_manager(loaders, config=TIRELESS) as manager:
        for arrival in arrivals:
            await trio.sleep_until(arrival.at)
            manager.submit_nowait(arrival.message)
        await manager.wait_idle()
        statistics = manager.statistics()
    statistics.check()
    if statistics.outcomes["replied"] != len(arrivals):
        raise Void(f"{len(arrivals)} messages were sent, but: {statistics.conservation()}")


def count(arrivals: Iterable[Arrival], ttl: float | None = None) -> dict[str, int]:
    """Calls of the loaders by kind when these messages are answered."""
    load, loaders = list(arrivals), Loaders(ttl)
    simulate(_replay, load, loaders, limit=None)
    return loaders.calls


def loader_calls(n: int) -> float:
    """Calls of all three loaders."""
    return sum(count(chat(n)).values())


def person_calls(n: int) -> float:
    """Calls of the loader whose value is one person's."""
    return count(chat(n))["person"]


def wanted(n: int) -> float:
    """Contexts that the handlers ask for: calls without a cache."""
    return 3.0 * len(chat(n))


def wanted_of_persons(n: int) -> float:
    """Those of them that are one person's."""
    return float(len(chat(n)))
