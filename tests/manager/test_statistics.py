"""`statistics()`: one frozen, consistent picture that law G1 can be read off."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from ccm import (
    NORMAL,
    Busy,
    ConversationManager,
    Priority,
    RateLimit,
    Rejected,
    RetryPolicy,
    Router,
    Statistics,
    Turn,
)
from ccm.testing import simulate

from .kit import Gate, echo, opened, say, simulated, takes


@simulated
async def test_before_the_first_message_everything_is_zero() -> None:
    async with opened(echo, limit=7) as manager:
        statistics = manager.statistics()
        statistics.check()
        assert (statistics.received, statistics.waiting, statistics.running, statistics.retrying) == (0,) * 4
        assert (statistics.limit, statistics.peak_running, statistics.workers) == (7, 0, 0)
        assert statistics.success_rate == 1.0
        assert statistics.conservation() == "0 received = 0"
        assert set(statistics.outcomes) == {
            "replied", "rejected", "merged", "superseded", "shed", "expired", "cancelled", "failed",
        }  # fmt: skip
        assert statistics.debug_checks is True


@simulated
async def test_a_picture_is_frozen() -> None:
    gate = Gate()
    async with opened(gate) as manager:
        manager.submit_nowait(say("runs", channel="general"))
        statistics = manager.statistics()
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            statistics.received = 5  # type: ignore[misc]
        maps: list[Any] = [
            statistics.outcomes, statistics.rejected, statistics.queues, statistics.wait,
            statistics.service, statistics.routes, statistics.side_outcomes, statistics.storage,
        ]  # fmt: skip
        for mapping in maps:
            with pytest.raises(TypeError):
                mapping["replied"] = 5
        before = attrs.asdict(statistics, recurse=False)
        gate.open()
        await manager.wait_idle()
        assert attrs.asdict(statistics, recurse=False) == before
        assert manager.statistics() != statistics


@simulated
async def test_every_place_and_outcome_adds_up_to_what_was_received() -> None:
    async def handler(turn: Turn) -> str:
        if turn.text == "fails":
            raise ValueError
        if turn.text == "busy":
            raise Busy(60)
        await trio.sleep(5)
        return ""

    settings: dict[str, Any] = {
        "limit": 2,
        "headroom": {},
        "queue_limit": 2,
        "retry": RetryPolicy(attempts=1),
    }
    async with opened(handler, **settings) as manager:
        await (await manager.submit(say("fails", "f"))).outcome()
        await manager.submit(say("busy", "b"))
        await trio.sleep(1)
        for key in "rs":
            await manager.submit(say("runs", key))
        with trio.move_on_after(1):
            await manager.ask(say("is cancelled", "c"))
        await manager.submit(say("waits", "w"))
        receipt = await manager.submit(say("expires", "e", deadline=3))
        await receipt.outcome()
        await manager.submit(say("waits", "v"))
        with pytest.raises(Rejected):
            await manager.submit(say("is refused", "x"))
        statistics = manager.statistics()
        statistics.check()
        assert statistics.at == 3
        assert statistics.conservation() == (
            "9 received = 1 rejected + 1 expired + 1 cancelled + 1 failed"
            " + 2 waiting + 2 running + 1 retrying"
        )
        assert statistics.rejected == {"overloaded": 1}


@simulated
async def test_queues_tell_what_waits_per_class_and_how_long() -> None:
    gate = Gate()
    async with opened(gate, limit=1) as manager:
        manager.submit_nowait(say("runs"))
        await trio.sleep(1)
        manager.submit_nowait(say("normal", "a"))
        await trio.sleep(2)
        manager.submit_nowait(say("normal", "b"))
        manager.submit_nowait(say("high", "d", priority=1))
        await trio.sleep(1)
        queues = manager.statistics().queues
        assert {p: (q.waiting, q.oldest) for p, q in queues.items()} == {
            Priority.CRITICAL: (0, 0), Priority.HIGH: (1, 1), Priority.NORMAL: (2, 3), Priority.LOW: (0, 0),
        }  # fmt: skip
        gate.open()


@simulated
async def test_wait_and_service_are_kept_per_class() -> None:
    async with opened(takes(2), limit=1) as manager:
        for key, priority in [("a", 2), ("b", 1), ("c", 1)]:
            manager.submit_nowait(say("hi", key, priority=priority))
        await manager.wait_idle()
        statistics = manager.statistics()
        assert {p.name: s.count for p, s in statistics.wait.items()} == {
            "CRITICAL": 0, "HIGH": 2, "NORMAL": 1, "LOW": 0,
        }  # fmt: skip
        assert statistics.wait[Priority.HIGH].max == 4
        assert statistics.wait[Priority.NORMAL].max == 0
        assert statistics.service[Priority.HIGH].max == 2
        assert statistics.service[Priority.HIGH].mean == 2


@simulated
async def test_routes_are_counted_apart() -> None:
    router = Router()

    @router.route("sums", when=lambda message: "+" in message.text, retry=RetryPolicy(attempts=2, base=0))
    async def sums(turn: Turn) -> str:
        raise ValueError

    router.route("chat")(takes(3))
    async with opened(router) as manager:
        for text in ("1+1", "hello", "2+2"):
            await manager.submit(say(text, text))
        await manager.wait_idle()
        routes = manager.statistics().routes
        assert routes["sums"].outcomes["failed"] == sum(routes["sums"].outcomes.values()) == 2
        assert (routes["sums"].failed_attempts, routes["sums"].retries) == (4, 2)
        assert routes["chat"].outcomes["replied"] == sum(routes["chat"].outcomes.values()) == 1
        assert routes["chat"].service.max == 3


@simulated
async def test_rates_cover_the_last_seconds() -> None:
    async with opened(echo) as manager:
        for n in range(120):
            for m in range(4):
                await manager.submit(say("hi", f"{n} {m}"))
            await trio.sleep(1)
        statistics = manager.statistics()
        for rates in (statistics.arrivals, statistics.rates):
            assert (rates.last_1s, rates.last_10s, rates.last_60s) == (4, 4, 4)
        await trio.sleep(30)
        rates = manager.statistics().rates
        assert (rates.last_1s, rates.last_10s, rates.last_60s) == (0, 0, 2)


@simulated
async def test_channels_are_ranked() -> None:
    async with opened(echo) as manager:
        for n in range(12):
            for _ in range(n + 1):
                await manager.submit(say("hi", f"{n}", channel=f"channel {n}"))
        await manager.submit(say("in no channel", "dm"))
        channels = manager.statistics().channels
        assert channels.active == 12
        assert channels.top == tuple((f"channel {n}", n + 1) for n in range(11, 1, -1))


@simulated
async def test_channels_are_bounded() -> None:
    async with opened(echo, max_sessions=10) as manager:
        for n in range(1500):
            await manager.ask(say("hi", f"{n}", channel=f"channel {n}"))
        channels = manager.statistics().channels
        assert channels.active <= 1001
        assert channels.top[0] == ("(other)", 500)


@simulated
async def test_the_success_rate_leaves_out_what_was_never_accepted() -> None:
    async def handler(turn: Turn) -> str:
        if turn.text == "fails":
            raise ValueError
        return ""

    rate = RateLimit(4, per=10)
    async with opened(handler, retry=RetryPolicy(attempts=1), rate_limit=rate) as manager:
        for text in ("fails", "a", "b", "c"):
            await manager.submit(say(text))
        with pytest.raises(Rejected):
            await manager.submit(say("refused"))
        await manager.wait_idle()
        assert manager.statistics().success_rate == 0.75


@simulated
async def test_a_handler_sees_a_consistent_picture() -> None:
    seen: list[Statistics] = []

    async def handler(turn: Turn) -> str:
        seen.append(manager.statistics())
        await trio.sleep(1)
        seen.append(manager.statistics())
        return ""

    async with opened(handler, limit=2, headroom={}) as manager:
        for key in "abc":
            manager.submit_nowait(say("hi", key))
        await manager.wait_idle()
    for statistics in seen:
        statistics.check()
    assert [(s.running, s.waiting) for s in seen[:2]] == [(2, 1), (2, 1)]
    assert (seen[-1].at, seen[-1].running, seen[-1].outcomes["replied"]) == (2, 1, 2)


@simulated
async def test_taking_a_picture_changes_nothing() -> None:
    gate = Gate()
    async with opened(gate, limit=1) as manager:
        for key in "abc":
            manager.submit_nowait(say("hi", key))
        assert manager.statistics() == manager.statistics()
        gate.open()


@simulated
async def test_a_broken_law_would_be_told() -> None:
    async with opened(echo) as manager:
        await manager.ask(say())
        statistics = manager.statistics()
    for lie in (
        {"received": 2},
        {"waiting": 1},
        {"outcomes": dict(statistics.outcomes) | {"replied": 0}},
        {"rejected": {"overloaded": 1}},
        {"slots_in_use": 51},
    ):
        with pytest.raises(AssertionError, match=r"law G[13] is broken"):
            attrs.evolve(statistics, **lie).check()


@simulated
async def test_dead_letters_are_bounded_and_the_latest_kept() -> None:
    async def handler(turn: Turn) -> str:
        raise ValueError(turn.text)

    async with opened(handler, retry=RetryPolicy(attempts=1)) as manager:
        for n in range(1100):
            await (await manager.submit(say(f"{n}"))).outcome()
        letters = manager.dead_letters()
        assert (len(letters), letters[0].text, letters[-1].text) == (1000, "100", "1099")
        assert manager.statistics().outcomes["failed"] == 1100
        assert manager.statistics().queues[NORMAL].waiting == 0


def test_statistics_can_be_read_after_the_run() -> None:
    """A program that has ended can still be asked how it went."""

    async def program() -> ConversationManager:
        async with opened(echo, provider_limits={"p": 3}) as manager:
            await manager.ask(say())
        return manager

    statistics = simulate(program).statistics()
    assert statistics.conservation() == "1 received = 1 replied"
    assert statistics.providers["p"].limit == 3
