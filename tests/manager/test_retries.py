"""Failed attempts: how often, when, and in which place they are tried again."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import trio

from ccm import Busy, Failed, HandlerFailed, Permanent, Replied, RetryPolicy, Turn
from ccm import _events as events
from ccm.testing import simulate

from .kit import Recorder, opened, say, simulated

AT_ONCE = RetryPolicy(attempts=3, base=0)


def fails(times: int, error: type[Exception] = ValueError) -> Recorder:
    """A handler whose first attempts at a text fail."""
    left: dict[str, int] = {}

    async def act(turn: Turn) -> str:
        await trio.lowlevel.checkpoint()
        left[turn.text] = left.get(turn.text, times) - 1
        if left[turn.text] >= 0:
            raise error(f"attempt {turn.attempt}")
        return f"re: {turn.text}"

    return Recorder(act)


@simulated
async def test_a_failed_attempt_is_tried_again() -> None:
    handler = fails(2)
    async with opened(handler, retry=AT_ONCE) as manager:
        assert str(await manager.ask(say())) == "re: hello"
        route = manager.statistics().routes["chat"]
        assert (route.failed_attempts, route.retries, route.timeouts) == (2, 2, 0)
    assert manager.statistics().outcomes["replied"] == 1


@simulated
async def test_a_retry_tells_the_handler_that_it_is_one() -> None:
    """Trap 25: without it, a retry repeats the side effects of the attempt before."""
    handler = fails(2)
    async with opened(handler, retry=AT_ONCE) as manager:
        await manager.ask(say())
        await manager.ask(say("next"))
    assert [turn.attempt for turn in handler.turns] == [1, 2, 3, 1, 2, 3]
    ids = [turn.id for turn in handler.turns]
    assert ids[:3] == [ids[0]] * 3, "the turn's id is an idempotency key over its attempts"
    assert ids[3] != ids[0]


@simulated
async def test_when_the_attempts_are_used_up_the_turn_fails() -> None:
    handler = fails(100)
    async with opened(handler, retry=AT_ONCE) as manager:
        with pytest.raises(HandlerFailed, match="ValueError") as caught:
            await manager.ask(say())
        assert str(caught.value.__cause__) == "attempt 3"
        (letter,) = manager.dead_letters()
        assert caught.value.dead_letter == letter.id
        assert (letter.text, letter.route, letter.attempts) == ("hello", "chat", 3)
    assert len(handler.starts) == 3


@simulated
async def test_backoff_stays_within_its_doubling_bound() -> None:
    policy = RetryPolicy(attempts=8, base=0.5, cap=4)
    bounds = [0.5, 1, 2, 4, 4, 4, 4]
    handler = fails(7)
    async with opened(handler, retry=policy, timeout=100) as manager, manager.events() as stream:
        for n in range(5):
            await manager.ask(say(f"{n}", f"{n}"))
        delays: list[float] = []
        async for event in stream:
            if isinstance(event, events.Retrying):
                delays.append(event.delay)
                if len(delays) == 35:
                    break
    for turn in range(5):
        starts = [at for at, text in handler.starts if text == f"{turn}"]
        gaps = [after - before for before, after in pairwise(starts)]
        mine = delays[7 * turn : 7 * turn + 7]
        assert gaps == pytest.approx(mine)
        assert all(0 <= delay <= bound for delay, bound in zip(mine, bounds, strict=True))
    assert len(set(delays)) == 35, "full jitter: no two delays alike"


@simulated
async def test_a_retry_keeps_its_place_in_the_conversation() -> None:
    handler = fails(1)
    policy = RetryPolicy(attempts=2, base=8)
    async with opened(handler, retry=policy, drain=100) as manager:
        for text in "ab":
            manager.submit_nowait(say(text))
        await trio.testing.wait_all_tasks_blocked()
        assert manager.statistics().retrying == 1
        manager.submit_nowait(say("c"))
    assert handler.texts == ["a", "a", "b", "b", "c", "c"]


@simulated
async def test_a_retry_holds_no_slot_while_it_waits() -> None:
    async def act(turn: Turn) -> str:
        if turn.text == "fails" and turn.attempt == 1:
            raise Busy(10)
        return "fine"

    async with opened(act, limit=1) as manager:
        receipt = manager.submit_nowait(say("fails", "f"))
        await trio.sleep(1)
        statistics = manager.statistics()
        assert (statistics.running, statistics.retrying, statistics.slots_in_use) == (0, 1, 0)
        assert str(await manager.ask(say("other", "o"))) == "fine"
        assert trio.current_time() == 1
        assert isinstance(await receipt.outcome(), Replied)
        assert trio.current_time() == 10


@simulated
async def test_busy_waits_as_long_as_told_and_uses_no_attempts() -> None:
    async def act(turn: Turn) -> str:
        if turn.attempt <= 5:
            raise Busy(2)
        return f"attempt {turn.attempt}"

    handler = Recorder(act)
    async with opened(handler, retry=RetryPolicy(attempts=1, base=0)) as manager:
        assert str(await manager.ask(say())) == "attempt 6"
    assert [at for at, _ in handler.starts] == [0, 2, 4, 6, 8, 10]


@simulated
async def test_attempts_count_only_what_is_not_busy() -> None:
    async def act(turn: Turn) -> str:
        if turn.attempt % 2:
            raise Busy(1)
        raise ValueError(turn.attempt)

    handler = Recorder(act)
    async with opened(handler, retry=RetryPolicy(attempts=2, base=0)) as manager:
        with pytest.raises(HandlerFailed) as caught:
            await manager.ask(say())
        assert isinstance(caught.value.__cause__, ValueError)
    assert [turn.attempt for turn in handler.turns] == [1, 2, 3, 4]


@simulated
async def test_who_is_busy_for_ever_fails_in_the_end() -> None:
    """Trap 9: nothing is retried for ever and wedges its conversation."""

    async def act(turn: Turn) -> str:
        raise Busy(1)

    handler = Recorder(act)
    async with opened(handler, retry=RetryPolicy(attempts=3, base=0)) as manager:
        with pytest.raises(HandlerFailed) as caught:
            await manager.ask(say())
        assert isinstance(caught.value.__cause__, Busy)
        assert len(handler.starts) == 100
        assert manager.statistics().dead_letters == 1


@simulated
async def test_permanent_is_not_tried_again() -> None:
    handler = fails(100, Permanent)
    async with opened(handler) as manager:
        first, second = manager.submit_nowait(say("a")), manager.submit_nowait(say("b"))
        outcome = await first.outcome()
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.exception, Permanent)
        assert isinstance(await second.outcome(), Failed)
        assert trio.current_time() == 0
    assert handler.texts == ["a", "b"]


@simulated
async def test_a_timed_out_attempt_counts_as_failed() -> None:
    async def act(turn: Turn) -> str:
        await trio.sleep_forever()
        raise AssertionError

    handler = Recorder(act)
    async with opened(handler, timeout=2, retry=AT_ONCE) as manager:
        with pytest.raises(HandlerFailed) as caught:
            await manager.ask(say())
        assert isinstance(caught.value.__cause__, trio.TooSlowError)
        assert "2 s" in str(caught.value.__cause__)
        route = manager.statistics().routes["chat"]
        assert (route.timeouts, route.failed_attempts, route.retries) == (3, 3, 2)
    assert [at for at, _ in handler.starts] == [0, 2, 4]
    assert handler.ends == [(2, "hello", "cancelled"), (4, "hello", "cancelled"), (6, "hello", "cancelled")]


@simulated
async def test_a_time_out_does_not_forget_the_queue_behind_it() -> None:
    """Trap 10."""

    async def act(turn: Turn) -> str:
        if turn.text == "hangs":
            await trio.sleep_forever()
        return turn.text

    async with opened(act, timeout=3, retry=RetryPolicy(attempts=1)) as manager:
        manager.submit_nowait(say("hangs"))
        behind = [manager.submit_nowait(say(f"{n}")) for n in range(3)]
        for receipt in behind:
            assert isinstance(await receipt.outcome(), Replied)
        assert trio.current_time() == 3


@simulated
async def test_a_retrying_turn_can_be_cancelled_by_whoever_asked() -> None:
    handler = fails(100, lambda text: Busy(60))  # type: ignore[arg-type]
    async with opened(handler) as manager:
        with trio.move_on_after(1):
            await manager.ask(say())
        statistics = manager.statistics()
        assert (statistics.at, statistics.retrying, statistics.outcomes["cancelled"]) == (1, 0, 1)
    assert len(handler.starts) == 1
    assert trio.current_time() == 1


@simulated
async def test_the_deadline_of_the_attempt_is_shown_to_the_handler() -> None:
    handler = fails(1)
    async with opened(handler, timeout=8, retry=AT_ONCE) as manager:
        await trio.sleep(1)
        await manager.ask(say())
    assert [turn.deadline for turn in handler.turns] == [9, 9]


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_busy_refuses_what_is_no_time(value: float) -> None:
    with pytest.raises(ValueError, match=r"retry_after .*got"):
        Busy(value)


def test_the_same_seed_gives_the_same_delays() -> None:
    """A failure found with a seed can be seen again, retries and all."""

    async def program() -> list[float]:
        handler = fails(9)
        async with opened(handler, retry=RetryPolicy(attempts=10, base=1), drain=100) as manager:
            await manager.ask(say())
        return [at for at, _ in handler.starts]

    state = random.getstate()
    assert simulate(program, seed=5) == simulate(program, seed=5)
    assert simulate(program, seed=5) != simulate(program, seed=6)
    assert random.getstate() == state
