"""Limits that adapt, in a manager: outages, a provider that takes less, steady time-outs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import attrs
import pytest
import trio

import ccm
from ccm import AdaptiveLimit, Config, Message, ProviderLimit, RetryPolicy, Turn, events
from ccm.testing import simulate, traffic

ROOMY = {
    "queue_limit": 100_000, "max_sessions": 100_000, "rate_limit": None, "ageing": float("inf"), "drain": 600,
    "shedding": None,
}  # fmt: skip
KEY = "provider"


@attrs.define
class Provider:
    """Answers after a second; refuses at once beyond `capacity` calls at a time, and while it is `down`."""

    capacity: float = float("inf")
    down: tuple[float, float] = (-1.0, -1.0)
    retry_after: float = 2.0
    seconds: float = 1.0
    busy: int = 0
    calls: int = 0
    answered: int = 0
    refused_again: int = 0
    refused: set[str] = attrs.field(factory=set)
    answers: list[float] = attrs.field(factory=list)

    async def call(self, message: Message) -> str:
        self.calls += 1
        self.refused_again += message.id in self.refused
        now = trio.current_time()
        if self.down[0] <= now < self.down[1] or self.busy >= self.capacity:
            self.refused.add(message.id)
            raise ccm.Busy(self.retry_after)
        self.busy += 1
        try:
            await trio.sleep(self.seconds)
        finally:
            self.busy -= 1
        self.answers.append(trio.current_time())
        return "fine"


def by_key(provider: Provider) -> Callable[[Turn], object]:
    async def handler(turn: Turn) -> str:
        async with turn.limit(KEY):
            return await provider.call(turn.message)

    return handler


def directly(provider: Provider) -> Callable[[Turn], object]:
    async def handler(turn: Turn) -> str:
        return await provider.call(turn.message)

    return handler


@attrs.frozen
class Run:
    """What a run shows: every change of the limit with its time, and the manager's last statistics."""

    changes: list[tuple[float, int]]
    statistics: ccm.Statistics

    def at(self, time: float) -> int:
        """The limit at a time."""
        return [limit for at, limit in self.changes if at <= time][-1]

    def between(self, begin: float, end: float) -> list[int]:
        """All values of the limit in a stretch of time."""
        return [self.at(begin), *(limit for at, limit in self.changes if begin < at < end)]


def run(handler: Callable[[Turn], object], config: Config, rate: float, seconds: float) -> Run:
    changes = [(0.0, 50)]

    async def program() -> ccm.Statistics:
        async def listen() -> None:
            async with manager.events(1_000_000) as stream:
                async for event in stream:
                    if isinstance(event, events.LimitChanged):
                        changes.append((event.at, event.limit))

        opened = ccm.open_manager(handler, config=config)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery, opened as manager:
            nursery.start_soon(listen)
            for arrival in traffic(rate=rate, duration=seconds, seed=1, conversations=10**6):
                await trio.sleep_until(arrival.at)
                manager.submit_nowait(arrival.message)
            await manager.drain()
            statistics = manager.statistics()
        return statistics

    return Run(changes, simulate(program, limit=None))


ADAPTS = {KEY: ProviderLimit(50, adaptive=AdaptiveLimit())}


def test_an_outage_of_the_provider() -> None:
    """A minute of 429s: at the floor within 3 windows, back within 30 s, no retry storm, all are answered.

    A window is a second, and so is the pause that the provider asks for: in a window without a call nothing
    can be learned.
    """
    provider = Provider(down=(30.0, 90.0), retry_after=1.0)
    config = Config(limit=50, headroom={}, provider_limits=ADAPTS, **ROOMY)  # type: ignore[arg-type]
    seen = run(by_key(provider), config, rate=30, seconds=150)
    seen.statistics.check()
    assert seen.statistics.outcomes["replied"] == seen.statistics.received > 4000
    assert seen.at(29.9) == 50
    first = next(at for at, _ in seen.changes[1:])
    assert 30.0 <= first < 30.1
    assert seen.at(first + 3.0) == 5
    assert max(seen.between(first + 3.0, 90.0)) == 5
    assert seen.at(120.0) == 50
    assert provider.refused_again <= 0.1 * provider.calls
    assert provider.calls <= 1.1 * seen.statistics.received


def test_an_outage_without_limits_of_the_provider() -> None:
    """The slots themselves adapt. Each turn asks by itself, so that more calls are made; nobody is lost."""
    provider = Provider(down=(30.0, 90.0))
    retry = RetryPolicy(attempts=3, base=1.0, cap=10.0)
    config = Config(limit=50, headroom={}, adaptive=AdaptiveLimit(), retry=retry, **ROOMY)  # type: ignore[arg-type]
    seen = run(directly(provider), config, rate=30, seconds=150)
    assert seen.statistics.outcomes["replied"] == seen.statistics.received
    assert seen.at(33.0) == 5
    assert seen.at(90.0) == 5
    assert seen.at(150.0) == 50


@pytest.mark.parametrize("capacity", [12, 20, 35])
def test_a_provider_that_takes_less(capacity: int) -> None:
    """Under constant overload the limit stays near what the provider takes, and most of that is used."""
    provider = Provider(capacity=capacity, retry_after=0.5)
    config = Config(limit=50, headroom={}, provider_limits=ADAPTS, **ROOMY)  # type: ignore[arg-type]
    seen = run(by_key(provider), config, rate=1.5 * capacity, seconds=120)
    values = seen.between(40.0, 120.0)
    mean = sum(values) / len(values)
    assert (max(values) - min(values)) / mean < 0.2, values
    answers = sum(40.0 <= at < 120.0 for at in provider.answers)
    assert answers >= 0.9 * capacity * 80
    assert seen.statistics.outcomes["replied"] == seen.statistics.received


def test_steady_time_outs_are_never_taken_for_health() -> None:
    """Trap 15: every attempt runs into its time-out, for minutes; the limit falls and stays down."""
    provider = Provider(seconds=60.0)
    config = Config(
        limit=50, headroom={}, provider_limits=ADAPTS, timeout=2.0, retry=RetryPolicy(attempts=1), **ROOMY  # type: ignore[arg-type]
    )  # fmt: skip
    seen = run(by_key(provider), config, rate=2, seconds=120)
    limits = [limit for _, limit in seen.changes]
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] == 5
    assert seen.statistics.outcomes["failed"] == seen.statistics.received


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    """Trap 15: after an outage a few messages now and then do not prove that fifty at a time are fine."""
    provider = Provider(down=(10.0, 20.0), retry_after=1.0)
    config = Config(limit=50, headroom={}, provider_limits=ADAPTS, **ROOMY)  # type: ignore[arg-type]

    async def program() -> int:
        async with ccm.open_manager(by_key(provider), config=config) as manager:  # type: ignore[arg-type]
            numbers = count()

            async def say(many: int) -> None:
                async with trio.open_nursery() as nursery:
                    for number, _ in zip(numbers, range(many), strict=False):
                        nursery.start_soon(manager.ask, Message(f"c{number}", "ann", "hello"))

            await trio.sleep_until(10.5)
            await say(40)
            low = manager.statistics().providers[KEY].limit
            for _ in range(100):
                await trio.sleep(10)
                await say(2)
            assert manager.statistics().providers[KEY].limit == low
            return low

    assert simulate(program, limit=None) < 40
