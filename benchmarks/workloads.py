"""The same work given to ccm; each function returns its figure after checking that all was answered."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter

import trio
from trio.lowlevel import checkpoint

import ccm

from ._measure import Void

CONVERSATIONS = 1_000
USERS = 20_000
CALLERS = 64
BACKLOG = 100
"""Messages after which a producer lets the others run: what the reference's channel holds."""
MANY_SESSIONS = 100_000
NAP = 0.05

CONFIG = ccm.Config(rate_limit=ccm.RateLimit(50, per=10))
CLASSES = tuple(ccm.Priority)

Feed = Callable[[ccm.ConversationManager, Iterable[ccm.Message]], Awaitable[None]]


async def nothing(turn: ccm.Turn) -> None:
    """The no-op handler."""


async def nap(turn: ccm.Turn) -> None:
    await trio.sleep(NAP)


def messages(
    n: int, *, conversations: int = CONVERSATIONS, stride: int = 1, ids: bool = False
) -> list[ccm.Message]:
    """`n` messages round the conversations, four classes in turn; `ids` as a front end would give them.

    They belong to the benchmark, so the collector shall not go through them on ccm's time.
    """
    load = [
        ccm.Message(
            f"c{i % conversations * stride}", f"u{i % USERS}", "hello",
            priority=CLASSES[i & 3], id=str(i) if ids else None,
        )
        for i in range(n)
    ]  # fmt: skip
    gc.collect()
    gc.freeze()
    return load


async def feed_nowait(manager: ccm.ConversationManager, load: Iterable[ccm.Message]) -> None:
    for number, message in enumerate(load, 1):
        manager.submit_nowait(message)
        if not number % BACKLOG:
            await checkpoint()


async def feed(manager: ccm.ConversationManager, load: Iterable[ccm.Message]) -> None:
    for message in load:
        await manager.submit(message)


def check(statistics: ccm.Statistics, n: int) -> None:
    """Every one of `n` messages was answered, or the measurement is void."""
    statistics.check()
    if statistics.received != n or statistics.outcomes["replied"] != n:
        raise Void(f"{n} messages were sent, but: {statistics.conservation()}")


async def _submitted(load: Iterable[ccm.Message], n: int, how: Feed) -> float:
    start = perf_counter()
    async with ccm.open_manager(nothing, config=CONFIG) as manager:
        await how(manager, load)
        await manager.wait_idle()
        statistics = manager.statistics()
    elapsed = perf_counter() - start
    check(statistics, n)
    return n / elapsed


def submit_nowait(n: int) -> float:
    """Messages per second, from before the manager opens until it has closed."""
    return trio.run(_submitted, messages(n), n, feed_nowait)


def submit(n: int) -> float:
    return trio.run(_submitted, messages(n), n, feed)


def submit_own_ids(n: int) -> float:
    """With ids from outside, each of which is looked up and remembered."""
    return trio.run(_submitted, messages(n, ids=True), n, feed_nowait)


def submit_and_build(n: int) -> float:
    """Building the messages on the clock."""

    async def feed_built(manager: ccm.ConversationManager, load: Iterable[ccm.Message]) -> None:
        for i in range(n):
            message = ccm.Message(f"c{i % CONVERSATIONS}", f"u{i % USERS}", "hello", priority=CLASSES[i & 3])
            manager.submit_nowait(message)
            if not i % BACKLOG:
                await checkpoint()

    return trio.run(_submitted, (), n, feed_built)


async def _asked(load: list[ccm.Message], n: int) -> float:
    async def caller(number: int) -> None:
        for message in load[number::CALLERS]:
            await manager.ask(message)

    async with ccm.open_manager(nothing, config=CONFIG) as manager:
        start = perf_counter()
        async with trio.open_nursery() as nursery:
            for number in range(CALLERS):
                nursery.start_soon(caller, number)
        elapsed = perf_counter() - start
        check(manager.statistics(), n)
    return n / elapsed


def ask64(n: int) -> float:
    """Answers per second to 64 callers, each of which waits for one before it asks for the next."""
    return trio.run(_asked, messages(n), n)


async def _with_sessions(n: int, sessions: int, warm_up: int, spread: bool) -> float:
    config = CONFIG.replace(max_sessions=MANY_SESSIONS)
    used = sessions if spread else min(sessions, CONVERSATIONS)
    load = messages(n, conversations=used, stride=sessions // used)
    async with ccm.open_manager(nothing, config=config) as manager:
        # The same number of messages goes through before the clock starts, whatever the size of the table:
        # what the manager remembers of them differs in the sessions only.
        await feed_nowait(manager, messages(warm_up, conversations=sessions))
        await manager.wait_idle()
        start = perf_counter()
        await feed_nowait(manager, load)
        await manager.wait_idle()
        elapsed = perf_counter() - start
        statistics = manager.statistics()
    check(statistics, n + warm_up)
    if statistics.sessions.total != sessions:
        raise Void(f"{statistics.sessions.total} sessions in the table instead of {sessions}")
    return elapsed / n * 1e6


def few_sessions(n: int) -> float:
    """Microseconds per message with 1,000 sessions in the table."""
    return trio.run(_with_sessions, n, _many(n) // 100, _many(n), False)


def many_sessions(n: int) -> float:
    """With 100,000, to 1,000 of them spread evenly over the table."""
    return trio.run(_with_sessions, n, _many(n), _many(n), False)


def many_sessions_spread(n: int) -> float:
    """With 100,000, each message to the one that was quiet longest."""
    return trio.run(_with_sessions, n, _many(n), _many(n), True)


def _many(n: int) -> int:
    """The size of the large table; a short trial run does not fill all of it."""
    return min(MANY_SESSIONS, n * 10)


async def _napping(n: int) -> float:
    # Headroom would keep slots free for classes that do not come: with all slots for all, the work's own
    # bound is limit / 50 ms. Each message has a conversation of its own, so that none waits for another's
    # turn.
    config = CONFIG.replace(limit=50, headroom={}, queue_limit=n, max_sessions=n)
    load = messages(n, conversations=n)
    async with ccm.open_manager(nap, config=config) as manager:
        start = perf_counter()
        await feed(manager, load)
        await manager.wait_idle()
        elapsed = perf_counter() - start
        check(manager.statistics(), n)
    return n / elapsed


def napping(n: int) -> float:
    """Messages per second with handlers that take 50 ms and a limit of 50."""
    return trio.run(_napping, n)


def napping_bound(n: int) -> float:
    """What no scheduler can exceed there."""
    return 50 / NAP
