"""`turn.limit`: permits, pauses, nesting, and what is said about them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

import ccm
from ccm import AdaptiveLimit, Busy, HandlerFailed, Permanent, ProviderLimit, RetryPolicy, Turn
from ccm import _events as events

from ..manager.kit import opened, say, simulated

ONE = {"p": ProviderLimit(1)}
ONCE = RetryPolicy(attempts=1)


def figures(manager: ccm.ConversationManager, key: str = "p") -> ccm.ProviderStatistics:
    return manager.statistics().providers[key]


class Provider:
    """Takes `seconds` for an answer; says `Busy(retry_after)` while it is down."""

    def __init__(self, seconds: float = 1.0, *, retry_after: float = 4.0, down: float = 0.0) -> None:
        self.seconds, self.retry_after, self.down = seconds, retry_after, down
        self.calls: list[tuple[float, str]] = []
        self.inside = self.peak = 0

    async def ask(self, text: str) -> str:
        self.calls.append((trio.current_time(), text))
        await trio.lowlevel.checkpoint()
        if trio.current_time() < self.down:
            raise Busy(self.retry_after)
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.inside -= 1
        return f"re: {text}"

    async def handler(self, turn: Turn) -> str:
        async with turn.limit("p"):
            return await self.ask(turn.text)


async def all_at_once(manager: ccm.ConversationManager, *texts: str, **fields: Any) -> None:
    """Ask each in a conversation of its own, in this order."""
    async with trio.open_nursery() as nursery:
        for text in texts:
            receipt = await manager.submit(say(text, text, text, **fields))
            nursery.start_soon(receipt.outcome)


# -- who gets a permit -----------------------------------------------------------------------------


@simulated
async def test_never_more_than_the_limit_are_inside() -> None:
    provider = Provider()
    async with opened(provider.handler, provider_limits={"p": ProviderLimit(2)}) as manager:
        await all_at_once(manager, *"abcde")
        assert provider.peak == 2
        assert [at for at, _ in provider.calls] == [0.0, 0.0, 1.0, 1.0, 2.0]
        assert trio.current_time() == 3.0
        assert (figures(manager).granted, figures(manager).used, figures(manager).waiting) == (5, 0, 0)


@simulated
async def test_the_most_urgent_is_next_and_in_a_class_who_arrived_first() -> None:
    """Also when the less urgent one has waited longer, and when a task of an older turn asks later."""
    provider = Provider()

    async def handler(turn: Turn) -> str:
        await trio.sleep({"a": 0.0, "late": 0.75}.get(turn.text, 0.25))
        return await provider.handler(turn)

    async with opened(handler, provider_limits=ONE, headroom={}) as manager:
        for text, priority in (
            ("a", ccm.NORMAL), ("low", ccm.LOW), ("late", ccm.NORMAL), ("b", ccm.NORMAL),
            ("urgent", ccm.CRITICAL), ("c", ccm.NORMAL), ("high", ccm.HIGH),
        ):  # fmt: skip
            await manager.submit(say(text, text, text, priority=priority))
        await manager.wait_idle()
    assert [text for _, text in provider.calls] == ["a", "urgent", "high", "late", "b", "c", "low"]


@simulated
async def test_permits_are_kept_for_urgent_classes_in_proportion() -> None:
    provider = Provider(10)
    limits = {"p": ProviderLimit(10)}
    async with opened(provider.handler, provider_limits=limits, limit=40, headroom={ccm.CRITICAL: 5}) as m:
        for number in range(12):
            await m.submit(say(f"{number}", f"{number}", f"{number}"))
        await trio.sleep(1)
        assert provider.inside == 8, "5 of 40 are 2 of 10, rounded up"
        for number in range(3):
            await m.submit(say(f"u{number}", f"u{number}", "ada", priority=ccm.CRITICAL))
        await trio.sleep(1)
        assert provider.inside == 10
        assert figures(m).waiting == 5


@simulated
async def test_who_waits_for_a_permit_keeps_its_slot_and_others_run_on() -> None:
    provider = Provider()

    async def handler(turn: Turn) -> str:
        return turn.text if turn.text == "free" else await provider.handler(turn)

    async with opened(handler, provider_limits=ONE, limit=3, headroom={}) as manager:
        for text in "ab":
            await manager.submit(say(text, text, text))
        await trio.sleep(0.5)
        assert manager.statistics().slots_in_use == 2
        assert str(await manager.ask(say("free", "f", "f"))) == "free"
        assert trio.current_time() == 0.5
        await manager.wait_idle()


@simulated
async def test_waiting_for_a_permit_is_not_counted_by_the_time_out() -> None:
    """Were it, a limit that falls would make turns time out, and those would lower it further."""
    provider = Provider(1.0)
    async with opened(provider.handler, provider_limits=ONE, timeout=1.5, retry=ONCE) as manager:
        await all_at_once(manager, *"abcde")
        assert trio.current_time() == 5.0
        assert manager.statistics().outcomes["replied"] == 5
        assert figures(manager).timeouts == 0


@simulated
async def test_after_waiting_the_rest_of_the_time_out_is_left() -> None:
    provider = Provider(5.0)

    async def handler(turn: Turn) -> str:
        await trio.sleep(1.0 if turn.text == "b" else 0.0)
        return await provider.handler(turn)

    async with opened(handler, provider_limits=ONE, timeout=5.5, retry=ONCE) as manager:
        await manager.submit(say("a", "a", "a"))
        await manager.submit(say("b", "b", "b"))
        await trio.sleep(9.25)
        assert manager.statistics().routes["chat"].timeouts == 0
        await trio.sleep(0.5)
        assert manager.statistics().routes["chat"].timeouts == 1, "1 s worked, 4 s waited, 4.5 s left"
        assert (figures(manager).timeouts, figures(manager).used) == (1, 0)


@simulated
async def test_the_deadline_of_the_message_counts_while_it_waits() -> None:
    provider = Provider(4.0)
    async with opened(provider.handler, provider_limits=ONE) as manager:
        await manager.submit(say("a", "a", "a"))
        with pytest.raises(ccm.Expired):
            await manager.ask(say("b", "b", "b", deadline=2.0))
        assert trio.current_time() == 2.0
        assert figures(manager).waiting == 0


# -- pauses ----------------------------------------------------------------------------------------


@simulated
async def test_busy_pauses_the_provider_for_all() -> None:
    """Those that wait and those that come are sent away at once, without a call and without an attempt."""
    provider = Provider(down=1.0)
    async with AsyncExitStack() as streams:
        async with opened(provider.handler, provider_limits=ONE, retry=ONCE) as manager:
            told = await streams.enter_async_context(manager.events())
            for text in "abc":
                await manager.submit(say(text, text, text))
            await trio.sleep(2.5)
            await manager.submit(say("d", "d", "d"))
            await trio.sleep(0.5)
            now = manager.statistics()
            assert (now.retrying, now.slots_in_use) == (4, 0), "no slot is held by who only waits"
            assert (figures(manager).paused, figures(manager).held_back) == (1.0, 3)
            await manager.wait_idle()
            assert [at for at, _ in provider.calls] == [0.0, 4.0, 5.0, 6.0, 7.0]
            assert sorted(text for _, text in provider.calls[1:]) == [*"abcd"]
            assert manager.statistics().outcomes["replied"] == 4
            assert (figures(manager).busy, figures(manager).paused) == (1, 0.0)
        retries = [e.delay async for e in told if isinstance(e, events.Retrying)]
        assert sorted(retries) == [1.5, 4.0, 4.0, 4.0]


@simulated
async def test_a_late_answer_does_not_reopen_a_pause_nor_does_a_shorter_busy() -> None:
    """Trap 20."""
    calls: list[float] = []

    async def handler(turn: Turn) -> str:
        async with turn.limit("p"):
            calls.append(trio.current_time())
            if len(calls) <= 3:
                await trio.sleep({"long": 0.25, "fine": 0.5, "short": 0.75}[turn.text])
                if turn.text != "fine":
                    raise Busy(2.0 if turn.text == "long" else 0.25)
            return "ok"

    async with opened(handler, provider_limits={"p": ProviderLimit(5)}) as manager:
        await all_at_once(manager, "long", "fine", "short")
    assert sorted(calls) == [0.0, 0.0, 0.0, 2.25, 2.25]


@simulated
async def test_a_long_outage_does_not_fail_who_was_held_back() -> None:
    """150 times `Busy(1)`: more than one turn may be told to come back by itself."""
    provider = Provider(down=150.0, retry_after=1.0)
    async with opened(provider.handler, provider_limits={"p": ProviderLimit(3)}, retry=ONCE) as manager:
        await all_at_once(manager, *"abcdefgh")
        assert manager.statistics().outcomes["replied"] == 8
        assert 150.0 < trio.current_time() < 160.0
        assert len(provider.calls) < 3 + 8 + 155, "after the first ones, one at a time asks"


@simulated
async def test_a_message_that_alone_is_always_busy_does_fail() -> None:
    """Trap 9: what others can have and one cannot is not the provider's trouble."""
    provider = Provider(0.1)

    async def handler(turn: Turn) -> str:
        async with turn.limit("p"):
            if turn.text == "poison":
                await trio.lowlevel.checkpoint()
                raise Busy(0.1)
            return await provider.ask(turn.text)

    async with opened(handler, provider_limits=ONE, retry=RetryPolicy(cap=0.2)) as manager:
        poison = await manager.submit(say("poison", "p", "p"))
        for number in range(300):
            await manager.ask(say(f"{number}", "c", "c"))
        outcome = await poison.outcome()
        assert isinstance(outcome, ccm.Failed)
        assert isinstance(outcome.exception, Busy)


@simulated
async def test_a_handler_may_go_to_another_provider() -> None:
    first, second = Provider(down=9.0), Provider()

    async def handler(turn: Turn) -> str:
        try:
            async with turn.limit("first"):
                return await first.ask(turn.text)
        except Busy:
            async with turn.limit("second"):
                return await second.ask(turn.text)

    limits = {"first": ProviderLimit(1), "second": ProviderLimit(4)}
    async with opened(handler, provider_limits=limits) as manager:
        await all_at_once(manager, *"abc")
        assert trio.current_time() == 1.0
    assert (len(first.calls), len(second.calls)) == (1, 3)


@simulated
async def test_busy_outside_a_block_is_a_matter_of_that_turn() -> None:
    async def handler(turn: Turn) -> str:
        async with turn.limit("p"):
            await trio.lowlevel.checkpoint()
        if turn.text == "a" and turn.attempt == 1:
            raise Busy(5.0)
        return "ok"

    async with opened(handler, provider_limits=ONE) as manager:
        await all_at_once(manager, *"ab")
        assert (figures(manager).busy, figures(manager).paused) == (0, 0.0)
        assert trio.current_time() == 5.0


@simulated
async def test_busy_in_a_branch_pauses_and_so_does_one_in_a_group() -> None:
    async def branch(turn: Turn) -> str:
        async with turn.limit("p"):
            await trio.lowlevel.checkpoint()
            raise Busy(3.0)

    async def branches(turn: Turn) -> None:
        async with turn.limit("q"):
            inner = ExceptionGroup("of a nursery", [ValueError(), Busy(7.0)])
            raise ExceptionGroup("of another one", [Busy(2.0), inner])

    async def handler(turn: Turn) -> str:
        found = await turn.gather(mood=branch)
        with pytest.RaisesGroup(Busy, pytest.RaisesGroup(ValueError, Busy)):
            await branches(turn)
        return repr(found.errors["mood"])

    async with opened(handler, provider_limits=ONE | {"q": ProviderLimit(1)}) as manager:
        assert str(await manager.ask(say())) == "Busy(3.0)"
        assert (figures(manager).paused, figures(manager, "q").paused) == (3.0, 7.0)


@simulated
async def test_a_fallback_may_ask_a_provider_too() -> None:
    cheap = Provider(1.0)

    async def handler(turn: Turn) -> str:
        await trio.lowlevel.checkpoint()
        raise Permanent("no")

    async def fallback(turn: Turn) -> str:
        return await cheap.handler(turn)

    async with opened(handler, fallback=fallback, provider_limits=ONE) as manager:
        await all_at_once(manager, "a", "b")
        assert trio.current_time() == 2.0
        assert manager.statistics().outcomes["replied"] == 2


# -- what the end of a block says ------------------------------------------------------------------

ADAPTS = {"p": ProviderLimit(10, adaptive=AdaptiveLimit(floor=2))}


async def hangs(turn: Turn) -> str:
    async with turn.limit("p"):
        await trio.sleep_forever()
    return ""


@simulated
async def test_a_time_out_in_the_block_is_an_overload() -> None:
    async with opened(hangs, provider_limits=ADAPTS, headroom={}, timeout=2.0, retry=ONCE) as manager:
        await all_at_once(manager, *"abcdefghij")
        assert (figures(manager).timeouts, figures(manager).limit, figures(manager).used) == (10, 3, 0)


@simulated
async def test_a_handler_that_answers_in_spite_of_its_time_out_has_timed_out() -> None:
    async def handler(turn: Turn) -> str:
        async with turn.limit("p"):
            with trio.move_on_after(60, shield=True):
                await trio.sleep(3.0)
            return "late"

    async with opened(handler, provider_limits=ADAPTS, timeout=2.0) as manager:
        await manager.ask(say())
        assert (figures(manager).timeouts, figures(manager).limit) == (1, 3)


@simulated
async def test_other_ends_say_nothing() -> None:
    async def handler(turn: Turn) -> str:
        async with turn.limit("p"):
            if turn.text == "error":
                raise ValueError(turn.text)
            with trio.fail_after(1.0 if turn.text == "own" else 9.0):
                await trio.sleep_forever()
        return ""

    async with opened(handler, provider_limits=ADAPTS, retry=ONCE) as manager:
        for text in ("error", "own"):
            with pytest.raises(HandlerFailed):
                await manager.ask(say(text))
        with trio.move_on_after(1.0):
            await manager.ask(say("the caller leaves"))
        with pytest.raises(ccm.Expired):
            await manager.ask(say("deadline", deadline=trio.current_time() + 1.0))
        await manager.submit(say("stopped"))
        await trio.sleep(1.0)
        await manager.stop("c")
        now = figures(manager)
        assert (now.granted, now.busy, now.timeouts, now.limit, now.used) == (5, 0, 0, 10, 0)


@simulated
@pytest.mark.parametrize("adapts", [True, False])
async def test_one_refusal_is_told_to_one_limit(adapts: bool) -> None:
    """Else the outage of one provider would take the slots from those who ask another."""
    limits = ADAPTS if adapts else {"p": ProviderLimit(10)}

    async def handler(turn: Turn) -> str:
        async with turn.limit("p"):
            if turn.text == "busy" and turn.attempt == 1:
                raise Busy(1.0)
            if turn.text == "hang" and turn.attempt == 1:
                await trio.sleep_forever()
        return "ok"

    async with opened(handler, provider_limits=limits, adaptive=True, timeout=2.0) as manager:
        await manager.ask(say("busy"))
        assert (manager.statistics().limit, figures(manager).limit) == ((50, 3) if adapts else (15, 10))
        await trio.sleep(5.0)
        await manager.ask(say("hang"))
        assert (manager.statistics().limit, figures(manager).limit) == ((50, 2) if adapts else (5, 10))


@simulated
async def test_of_nested_blocks_the_innermost_one_has_to_do_with_it() -> None:
    async def handler(turn: Turn) -> str:
        async with turn.limit("a"), turn.limit("p"):
            if turn.attempt == 1:
                raise Busy(1.0)
            if turn.attempt == 2:
                await trio.sleep_forever()
            return "ok"

    limits = {"a": ProviderLimit(9, adaptive=AdaptiveLimit()), "p": ProviderLimit(9)}
    async with opened(handler, provider_limits=limits, timeout=2.0) as manager:
        await manager.ask(say())
        assert (figures(manager, "a").busy, figures(manager).busy) == (0, 1)
        assert (figures(manager, "a").timeouts, figures(manager).timeouts) == (0, 1)
        assert (figures(manager, "a").limit, figures(manager, "a").granted) == (9, 3)


@simulated
async def test_held_back_inside_another_block_the_outer_one_is_not_paused() -> None:
    async def handler(turn: Turn) -> str:
        async with turn.limit("a"), turn.limit("p"):
            await trio.lowlevel.checkpoint()
            if turn.text == "first" and turn.attempt == 1:
                raise Busy(1.0)
            return "ok"

    async with opened(handler, provider_limits=ONE | {"a": ProviderLimit(9)}) as manager:
        await manager.submit(say("first", "1", "1"))
        await trio.sleep(0.5)
        await manager.ask(say("second", "2", "2"))
        assert trio.current_time() == 1.0
        assert (figures(manager, "a").busy, figures(manager).busy) == (0, 1)


@simulated
async def test_pauses_and_new_limits_are_told() -> None:
    provider = Provider(down=0.5, retry_after=1.0)
    async with AsyncExitStack() as streams:
        async with opened(provider.handler, provider_limits=ADAPTS) as manager:
            stream = await streams.enter_async_context(manager.events())
            await manager.ask(say())
        told = [e async for e in stream if isinstance(e, (events.LimitChanged, events.ProviderPaused))]
    assert told == [events.LimitChanged(0.0, "p", 3, 10, 1.0), events.ProviderPaused(0.0, "p", 1.0)]
