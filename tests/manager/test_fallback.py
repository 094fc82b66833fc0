"""The fallback handler: an answer for turns that failed, expired or were shed."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ccm import Expired, Failed, HandlerFailed, Overflow, Permanent, Replied, RetryPolicy, Router, Shed, Turn

from .kit import Gate, Recorder, echo, opened, say, simulated, takes

ONCE = RetryPolicy(attempts=1)


async def broken(turn: Turn) -> str:
    raise ValueError("no model")


async def sorry(turn: Turn) -> str:
    return f"sorry, {turn.degraded}"


async def breaks_too(turn: Turn) -> str:
    raise KeyError("no canned line either")


@simulated
async def test_a_failed_turn_is_answered_by_the_fallback() -> None:
    async with opened(broken, fallback=sorry, retry=ONCE) as manager:
        receipt = await manager.submit(say())
        outcome = await receipt.outcome()
        assert isinstance(outcome, Replied)
        assert outcome.reply.text == "sorry, failed"
        assert outcome.reply.metadata == {"degraded": "failed"}
        assert outcome.reply.turn_id == receipt.turn_id
        (letter,) = manager.dead_letters()
        assert outcome.dead_letter == letter.id, "the failure is kept although there was an answer"
        statistics = manager.statistics()
        assert (statistics.fallbacks, statistics.outcomes["replied"], statistics.outcomes["failed"]) == (
            1,
            1,
            0,
        )


@simulated
async def test_the_fallback_comes_after_the_last_attempt_only() -> None:
    seen: list[str | None] = []

    async def act(turn: Turn) -> str:
        seen.append(turn.degraded)
        raise ValueError

    handler, fallback = Recorder(act), Recorder(sorry)
    async with opened(handler, fallback=fallback, retry=RetryPolicy(attempts=3, base=0)) as manager:
        assert str(await manager.ask(say())) == "sorry, failed"
    assert (len(handler.starts), len(fallback.starts)) == (3, 1)
    assert seen == [None] * 3


@simulated
async def test_when_the_fallback_fails_too_the_first_error_counts() -> None:
    handler = Recorder(breaks_too)
    async with opened(broken, fallback=handler, retry=RetryPolicy(attempts=3, base=0)) as manager:
        with pytest.raises(HandlerFailed) as caught:
            await manager.ask(say())
        assert isinstance(caught.value.__cause__, ValueError)
        assert len(handler.starts) == 1, "a fallback is not tried again"
        assert len(manager.dead_letters()) == 1
        assert manager.statistics().outcomes["failed"] == 1


@simulated
async def test_an_expired_turn_is_answered_by_the_fallback_at_its_time() -> None:
    async with opened(takes(10), fallback=sorry, max_wait={"NORMAL": 2}, drain=20) as manager:
        manager.submit_nowait(say("runs"))
        reply = await manager.ask(say("waits"))
        assert (trio.current_time(), reply.text) == (2, "sorry, expired")
        assert reply.metadata == {"degraded": "expired"}
        assert manager.dead_letters() == []


@simulated
async def test_an_expired_turn_stays_expired_when_the_fallback_fails() -> None:
    async with opened(takes(10), fallback=breaks_too, max_wait={"NORMAL": 2}, drain=20) as manager:
        manager.submit_nowait(say("runs"))
        with pytest.raises(Expired):
            await manager.ask(say("waits"))
        assert trio.current_time() == 2


@simulated
async def test_no_fallback_after_the_messages_own_deadline() -> None:
    """Its sender has said that an answer is useless by then, a canned one too."""
    fallback = Recorder(sorry)
    async with opened(takes(10), fallback=fallback, drain=20) as manager:
        manager.submit_nowait(say("runs"))
        with pytest.raises(Expired):
            await manager.ask(say("waits", deadline=3))
        assert trio.current_time() == 3
    assert fallback.starts == []


@simulated
async def test_a_shed_turn_is_answered_by_the_fallback() -> None:
    gate = Gate()
    settings: dict[str, Any] = {"limit": 1, "queue_limit": 1, "overflow": Overflow.SHED_LOWEST}
    async with opened(gate, fallback=sorry, **settings) as manager:
        manager.submit_nowait(say("runs", "a"))
        victim = manager.submit_nowait(say("is shed", "b", priority=3))
        manager.submit_nowait(say("sheds", "c", priority=1))
        outcome = await victim.outcome()
        assert isinstance(outcome, Replied)
        assert outcome.reply.text == "sorry, shed"
        assert outcome.reply.metadata == {"degraded": "shed"}
        gate.open()


@simulated
async def test_a_shed_turn_stays_shed_when_the_fallback_fails() -> None:
    gate = Gate()
    settings: dict[str, Any] = {"limit": 1, "queue_limit": 1, "overflow": Overflow.SHED_LOWEST}
    async with opened(gate, fallback=breaks_too, **settings) as manager:
        manager.submit_nowait(say("runs", "a"))
        victim = manager.submit_nowait(say("is shed", "b", priority=3))
        manager.submit_nowait(say("sheds", "c", priority=1))
        assert isinstance(await victim.outcome(), Shed)
        gate.open()


@simulated
async def test_a_fallback_that_hangs_is_given_up() -> None:
    async with opened(broken, fallback=takes(1000), retry=ONCE) as manager:
        with pytest.raises(HandlerFailed) as caught:
            await manager.ask(say())
        assert isinstance(caught.value.__cause__, ValueError)
        assert trio.current_time() == 5


@simulated
async def test_a_running_fallback_is_cancelled_with_whoever_asked() -> None:
    fallback = Recorder(takes(4))
    async with opened(broken, fallback=fallback, retry=ONCE) as manager:
        with trio.move_on_after(1):
            await manager.ask(say())
        await manager.wait_idle()
        assert manager.statistics().outcomes["cancelled"] == 1
    assert fallback.ends == [(1, "hello", "cancelled")]


@simulated
async def test_a_fallback_for_a_waiting_turn_is_cancelled_with_whoever_asked() -> None:
    fallback = Recorder(takes(4))
    async with opened(takes(20), fallback=fallback, max_wait={"NORMAL": 2}, drain=30) as manager:
        manager.submit_nowait(say("runs"))
        with trio.move_on_after(3):
            await manager.ask(say("waits"))
        statistics = manager.statistics()
        assert (statistics.at, statistics.waiting, statistics.running) == (3, 0, 1) or statistics.waiting == 1
        await manager.wait_idle()
        assert manager.statistics().outcomes["cancelled"] == 1
    assert fallback.ends == [(3, "waits", "cancelled")]


@simulated
async def test_fallbacks_of_waiting_turns_take_no_slot() -> None:
    handler = Recorder(takes(10))
    async with opened(handler, fallback=takes(4), limit=1, max_wait={"NORMAL": 2}, drain=30) as manager:
        manager.submit_nowait(say("runs", "a"))
        waits = manager.submit_nowait(say("waits", "b"))
        await trio.sleep(3)
        statistics = manager.statistics()
        assert (statistics.running, statistics.waiting, statistics.slots_in_use) == (1, 1, 1)
        assert isinstance(await waits.outcome(), Replied)
        assert trio.current_time() == 6


@simulated
async def test_a_degraded_reply_is_delivered_like_any_other() -> None:
    got: list[tuple[str, object]] = []

    async def deliver(reply: object, message: object) -> None:
        got.append((str(reply), reply.metadata["degraded"]))  # type: ignore[attr-defined]

    async with opened(broken, fallback=sorry, retry=ONCE, deliver=deliver) as manager:
        await manager.submit(say())
    assert got == [("sorry, failed", "failed")]


@simulated
async def test_each_route_has_its_own_fallback() -> None:
    router = Router()
    router.route("sums", when=lambda m: "+" in m.text, retry=ONCE, fallback=echo)(broken)
    router.route("chat", retry=ONCE)(broken)
    async with opened(router) as manager:
        assert str(await manager.ask(say("1+1"))) == "re: 1+1"
        outcome = await (await manager.submit(say("hello"))).outcome()
        assert isinstance(outcome, Failed)


@simulated
async def test_a_permanent_failure_reaches_the_fallback_at_once() -> None:
    async def never(turn: Turn) -> str:
        raise Permanent("will never work")

    async with opened(never, fallback=sorry) as manager:
        assert str(await manager.ask(say())) == "sorry, failed"
        assert trio.current_time() == 0


@simulated
async def test_a_fallback_beside_a_router_is_refused() -> None:
    router = Router()
    router.route("chat")(echo)
    with pytest.raises(TypeError, match="fallback belongs to a route"):
        async with opened(router, fallback=sorry):
            raise AssertionError
