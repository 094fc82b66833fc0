"""`trends()`: rows of seconds and of minutes, exact on virtual time, without anybody being woken for them."""

from __future__ import annotations

import sys
import time
from typing import Any

import attrs
import psutil
import pytest
import trio

import ccm
from ccm import CRITICAL, HIGH, LOW, NORMAL, Busy, OnBusy, Overflow, RetryPolicy, Router, Trends, Turn

from .kit import Gate, Recorder, echo, opened, say, simulated, takes

ZERO: dict[str, Any] = {
    "received": 0, "running": 0, "waiting": 0, "retrying": 0, "slots_in_use": 0,
}  # fmt: skip


def columns(trends: Trends, **gauges: int) -> dict[str, Any]:
    """What there is besides zeros and the gauges that stand still, by name: each column that differs."""
    still = ZERO | gauges
    found: dict[str, Any] = {"at": trends.at}
    plain = {name: getattr(trends, name) for name in (*ZERO, "limit")} | dict(trends.outcomes)
    for name, column in plain.items():
        if set(column) - {still.get(name, 0)}:
            found[name] = column
    return found


def waits(trends: Trends, priority: ccm.Priority = NORMAL) -> tuple[Any, ...]:
    """How many turns of a class began in each row, and their mean wait."""
    wait = trends.wait[priority]
    for count, *figures in zip(wait.count, wait.mean, wait.p50, wait.p99, strict=True):
        assert (count == 0) == (figures == [None, None, None]) == (None in figures)
    return wait.count, wait.mean


@simulated
async def test_each_second_has_its_arrivals_waits_and_outcomes() -> None:
    async def handler(turn: Turn) -> str:
        if turn.text == "fails":
            raise ValueError
        await trio.sleep(1.5)
        return ""

    settings: dict[str, Any] = {"limit": 1, "queue_limit": 2, "retry": RetryPolicy(attempts=1)}
    async with opened(handler, **settings) as manager:
        assert columns(manager.trends()) == {"at": ()}
        for key in "abc":
            manager.submit_nowait(say("hi", key))
        await trio.sleep(0.5)
        with pytest.raises(ccm.Overloaded):
            manager.submit_nowait(say("hi", "d"))
        await trio.sleep(1.5)  # a has ended at 1.5, b runs
        with trio.move_on_after(0.75):
            await manager.ask(say("hi", "e"))
        await trio.sleep(0.5)  # b has ended at 3, c runs
        manager.submit_nowait(say("fails", "f", priority=HIGH))
        await trio.sleep(2.75)  # c has ended at 4.5, f failed
        manager.submit_nowait(say("late", "g"))
        assert columns(manager.trends()) == {
            "at": (0, 1, 2, 3, 4, 5),
            "received": (4, 0, 1, 1, 0, 0),
            "rejected": (1, 0, 0, 0, 0, 0),
            "replied": (0, 1, 0, 1, 1, 0),
            "cancelled": (0, 0, 1, 0, 0, 0),
            "failed": (0, 0, 0, 0, 1, 0),
            "running": (1, 1, 1, 1, 0, 0),
            "waiting": (2, 1, 1, 1, 0, 0),
            "slots_in_use": (1, 1, 1, 1, 0, 0),
            "limit": (1, 1, 1, 1, 1, 1),
        }
        assert waits(manager.trends()) == ((1, 1, 0, 1, 0, 0), (0, 1.5, None, 3, None, None))
        assert waits(manager.trends(), HIGH) == ((0, 0, 0, 0, 1, 0), (None, None, None, None, 1.25, None))
        await trio.sleep(53)
        minute = manager.trends(60)
        assert columns(minute) == {"at": ()}
        await trio.sleep(1)
        minute = manager.trends(60)
        assert columns(minute) == {
            "at": (0,), "received": (7,), "rejected": (1,), "replied": (4,), "cancelled": (1,),
            "failed": (1,), "running": (1,), "waiting": (2,), "slots_in_use": (1,), "limit": (1,),
        }  # fmt: skip
        assert waits(minute) == ((4,), (4.5 / 4,))
        assert waits(minute, HIGH) == ((1,), (1.25,))


@simulated
async def test_a_row_is_complete_when_its_second_is_over() -> None:
    async with opened(echo) as manager:
        await manager.ask(say())
        await trio.sleep(1 - 1 / 64)
        assert manager.trends().at == ()
        await trio.sleep(1 / 64)
        # What happens at the very end of a second belongs to the next one.
        await manager.ask(say())
        assert manager.trends().received == (1,)
        await trio.sleep(1)
        assert manager.trends().outcomes["replied"] == (1, 1)


@simulated
async def test_silence_makes_rows_that_are_known_exactly() -> None:
    gate = Gate()
    async with opened(gate, limit=1) as manager:
        for key in "ab":
            manager.submit_nowait(say("hi", key))
        await trio.sleep(5.5)
        gate.open()
        await manager.wait_idle()
        await trio.sleep(3)
        assert columns(manager.trends(), limit=1) == {
            "at": (0, 1, 2, 3, 4, 5, 6, 7),
            "received": (2, 0, 0, 0, 0, 0, 0, 0),
            "replied": (0, 0, 0, 0, 0, 2, 0, 0),
            "running": (1, 1, 1, 1, 1, 0, 0, 0),
            "waiting": (1, 1, 1, 1, 1, 0, 0, 0),
            "slots_in_use": (1, 1, 1, 1, 1, 0, 0, 0),
        }
        assert waits(manager.trends())[0] == (1, 0, 0, 0, 0, 1, 0, 0)


def test_nobody_is_woken_by_the_end_of_a_second() -> None:
    """An idle manager sleeps until something is due: the deadline of the last turn, idle workers."""
    steps: list[float] = []

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            steps.append(trio.current_time())

    async def program() -> None:
        async with opened(echo) as manager:
            await manager.ask(say())
            await trio.sleep(100)
            manager.trends()

    ccm.testing.simulate(program, instruments=[Steps()])
    assert {at for at in steps if 0 < at < 100} <= set(range(10, 100, 10))


@simulated
async def test_a_manager_may_be_opened_within_a_second_and_a_minute() -> None:
    await trio.sleep(59.25)
    async with opened(echo) as manager:
        await manager.ask(say())
        await trio.sleep(0.5)
        assert manager.trends().at == manager.trends(60).at == ()
        await trio.sleep(0.25)
        assert (manager.trends().at, manager.trends(60).at) == ((59,), (0,))
        await manager.ask(say())
        await trio.sleep(60)
        assert manager.trends(60).at == (0, 60)
        assert manager.trends(60).received == (1, 1)
        assert manager.trends().received == (1, 1, *(0 for _ in range(59)))


@simulated
async def test_five_minutes_of_seconds_and_a_day_of_minutes_are_kept() -> None:
    async with opened(echo, session_timeout=1e6) as manager:
        for second in range(310):
            for n in range(second % 3):
                await manager.ask(say("hi", f"{n}"))
            await trio.sleep(1)
        assert manager.trends().at == tuple(range(10, 310))
        assert manager.trends().received == tuple(second % 3 for second in range(10, 310))
        assert manager.trends(60).received == (60,) * 5
        await trio.sleep(1000)
        assert manager.trends().at == tuple(range(1010, 1310))
        assert columns(manager.trends(), limit=50) == {"at": manager.trends().at}
        assert manager.trends(60).received == (60,) * 5 + (9,) + (0,) * 15


def test_days_pass() -> None:
    async def program() -> None:
        async with opened(echo, session_timeout=1e9) as manager:
            await manager.ask(say())
            for hour in range(30):
                await trio.sleep_until(3600 * hour + 1800)
                for n in range(hour):
                    await manager.ask(say("hi", f"{n}"))
            await trio.sleep_until(3600 * 30)
            trends = manager.trends(60)
            assert trends.at == tuple(60.0 * minute for minute in range(360, 1800))
            assert trends.received[30::60] == tuple(range(6, 30))
            assert sum(trends.received) == sum(range(6, 30))

    ccm.testing.simulate(program, limit=None)


# -- what begins without an arrival and without an end ---------------------------------------------


@simulated
async def test_a_turn_that_waited_to_be_merged_begins_in_its_own_second() -> None:
    router = Router()
    router.route("chat", busy=OnBusy.MERGE, settle=2.0, max_settle=10.0)(takes(1))
    async with opened(router) as manager:
        manager.submit_nowait(say("one"))
        await trio.sleep(0.5)
        manager.submit_nowait(say("two"))
        manager.submit_nowait(say("three"))
        await trio.sleep(5.5)
        trends = manager.trends()
        assert columns(trends, limit=50) == {
            "at": (0, 1, 2, 3, 4, 5),
            "received": (3, 0, 0, 0, 0, 0),
            "replied": (0, 0, 0, 1, 0, 0),
            "merged": (0, 0, 0, 2, 0, 0),
            "running": (0, 0, 1, 0, 0, 0),
            "waiting": (3, 3, 2, 0, 0, 0),  # those that share a turn wait until it ends
            "slots_in_use": (0, 0, 1, 0, 0, 0),
        }
        assert waits(trends) == ((0, 0, 1, 0, 0, 0), (None, None, 2.5, None, None, None))


@simulated
async def test_a_turn_that_waits_for_its_retry_is_seen_while_it_waits() -> None:
    async def handler(turn: Turn) -> str:
        await trio.sleep(1.5)
        if turn.attempt == 1:
            raise Busy(2)
        return ""

    async with opened(handler, retry=RetryPolicy(base=0)) as manager:
        manager.submit_nowait(say())
        await trio.sleep(6)
        assert columns(manager.trends(), limit=50) == {
            "at": (0, 1, 2, 3, 4, 5),
            "received": (1, 0, 0, 0, 0, 0),
            "replied": (0, 0, 0, 0, 0, 1),
            "running": (1, 0, 0, 1, 1, 0),
            "retrying": (0, 1, 1, 0, 0, 0),
            "slots_in_use": (1, 0, 0, 1, 1, 0),
        }
        assert waits(manager.trends())[0] == (1, 0, 0, 0, 0, 0)


@simulated
async def test_a_turn_that_is_preempted_waits_again_from_then_on() -> None:
    async def handler(turn: Turn) -> str:
        try:
            await trio.sleep(2 if turn.text == "low" else 1)
        finally:
            if turn.text == "low":
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.75)
        return ""

    async with opened(handler, limit=1, preempt=True) as manager:
        manager.submit_nowait(say("low", "a", priority=LOW))
        await trio.sleep(0.5)
        manager.submit_nowait(say("urgent", "b", priority=CRITICAL))
        await trio.sleep(6.5)
        trends = manager.trends()
        assert columns(trends, limit=1) == {
            "at": (0, 1, 2, 3, 4, 5, 6),
            "received": (2, 0, 0, 0, 0, 0, 0),
            "replied": (0, 0, 1, 0, 0, 1, 0),
            "running": (1, 1, 1, 1, 1, 0, 0),
            "waiting": (1, 1, 0, 0, 0, 0, 0),
            "slots_in_use": (1, 1, 1, 1, 1, 0, 0),
        }
        assert waits(trends, CRITICAL) == ((0, 1, 0, 0, 0, 0, 0), (None, 0.75, None, None, None, None, None))
        assert waits(trends, LOW) == ((1, 0, 0, 0, 0, 0, 0), (0, None, None, None, None, None, None))


@simulated
async def test_who_expires_does_so_in_its_second() -> None:
    async with opened(takes(3.5), limit=1, max_wait={NORMAL: 1.25}) as manager:
        for key in "ab":
            manager.submit_nowait(say("hi", key))
        await trio.sleep(5)
        trends = manager.trends()
        assert trends.outcomes["expired"] == (0, 1, 0, 0, 0)
        assert trends.waiting == (1, 0, 0, 0, 0)
        assert waits(trends)[0] == (1, 0, 0, 0, 0)


# -- whoever counts in another way -----------------------------------------------------------------


@simulated
async def test_senders_count_from_when_they_are_let_in() -> None:
    async with opened(takes(1.25), limit=1, queue_limit=1, overflow=Overflow.WAIT) as manager:
        async with trio.open_nursery() as nursery:
            for key in "abc":
                nursery.start_soon(manager.submit, say("hi", key))
        await trio.sleep(4)
        assert columns(manager.trends(), limit=1) == {
            "at": (0, 1, 2, 3, 4),
            "received": (2, 1, 0, 0, 0),
            "replied": (0, 1, 1, 1, 0),
            "running": (1, 1, 1, 0, 0),
            "waiting": (1, 1, 0, 0, 0),
            "slots_in_use": (1, 1, 1, 0, 0),
        }


@simulated
async def test_side_turns_take_slots_and_wait_but_are_no_messages() -> None:
    router = Router()
    router.route("side", when=lambda message: True, priority=LOW, answers=False, ordered=False)(takes(2.5))
    router.route("chat")(takes(1.5))
    async with opened(router, limit=2, headroom={}) as manager:
        for key in "ab":
            manager.submit_nowait(say("hi", key))
        await trio.sleep(6)
        trends = manager.trends()
        assert columns(trends, limit=2) == {
            "at": (0, 1, 2, 3, 4, 5),
            "received": (2, 0, 0, 0, 0, 0),
            "replied": (0, 1, 0, 1, 0, 0),
            "running": (1, 1, 1, 0, 0, 0),
            "waiting": (1, 0, 0, 0, 0, 0),
            "slots_in_use": (2, 2, 2, 1, 1, 0),
        }
        assert waits(trends) == ((1, 1, 0, 0, 0, 0), (0, 1.5, None, None, None, None))
        assert waits(trends, LOW) == ((1, 0, 1, 0, 0, 0), (0, None, 2.5, None, None, None))


@simulated
async def test_a_drain_and_its_end_are_seen_also_when_the_manager_is_closed() -> None:
    async with opened(takes(4.5), limit=1, drain=2.25) as manager:
        for key in "ab":
            manager.submit_nowait(say("hi", key))
        await trio.sleep(0.5)
    assert trio.current_time() == 2.75
    await trio.sleep(1.5)
    assert columns(manager.trends(), limit=1) == {
        "at": (0, 1, 2, 3),
        "received": (2, 0, 0, 0),
        "cancelled": (0, 0, 2, 0),
        "running": (1, 1, 0, 0),
        "waiting": (1, 1, 0, 0),
        "slots_in_use": (1, 1, 0, 0),
    }


@simulated
async def test_a_manager_that_queues_nothing_has_trends_too() -> None:
    handler = Recorder(takes(1.5))
    async with opened(handler, enabled=False) as manager:
        for n in range(7):
            manager.submit_nowait(say(f"{n}"))
        await trio.sleep(3)
        assert columns(manager.trends(), limit=10_000_000) == {
            "at": (0, 1, 2), "received": (7, 0, 0), "replied": (0, 7, 0), "running": (7, 0, 0),
            "slots_in_use": (7, 0, 0),
        }  # fmt: skip
        assert waits(manager.trends()) == ((7, 0, 0), (0, None, None))


# -- the process -----------------------------------------------------------------------------------


@simulated
async def test_the_process_is_measured() -> None:
    used = time.process_time()
    async with opened(echo) as manager:
        begun = time.process_time()
        for _ in range(3):
            await manager.ask(say())
            await trio.sleep(1)
        between = time.process_time()
        trends = manager.trends()
    assert between - begun <= sum(trends.cpu) <= time.process_time() - used
    assert min(trends.cpu) > 0.0
    assert all(memory is not None and memory > 1_000_000 for memory in trends.memory)


@simulated
async def test_memory_is_unknown_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    async with opened(echo) as manager:
        await trio.sleep(120)
        assert set(manager.trends().memory) == set(manager.trends(60).memory) == {None}
        assert min(manager.trends().cpu) >= 0.0


@pytest.mark.parametrize("what", ["__init__", "memory_info"])
@pytest.mark.parametrize("error", [psutil.AccessDenied(), psutil.NoSuchProcess(1), OSError()], ids=repr)
@simulated
async def test_memory_is_unknown_while_the_system_does_not_tell(
    what: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> Any:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(psutil.Process, what, refuse)
        async with opened(echo) as manager:
            await trio.sleep(2)
            assert manager.trends().memory == (None, None)
            patched.undo()
            await trio.sleep(1)
            assert manager.trends().memory[2] is not None


def test_rows_can_be_put_on_the_wall_clock() -> None:
    async def main() -> Trends:
        async with ccm.open_manager(echo) as manager:
            before = time.time() - trio.current_time()
            trends = manager.trends()
            after = time.time() - trio.current_time()
            # Two clocks are never read at the same time.
            assert before - 0.01 <= trends.epoch <= after + 0.01
            return trends

    trio.run(main)


# -- asking for them -------------------------------------------------------------------------------


@simulated
async def test_looking_changes_nothing() -> None:
    async with opened(takes(0.75), limit=1) as manager:
        for key in "abc":
            manager.submit_nowait(say("hi", key))
        for _ in range(30):
            await trio.sleep(0.125)
            assert attrs.evolve(manager.trends(), epoch=0) == attrs.evolve(manager.trends(), epoch=0)
        looked = columns(manager.trends(), limit=1)
    assert looked == {
        "at": (0, 1, 2), "received": (3, 0, 0), "replied": (1, 1, 1), "running": (1, 1, 0),
        "waiting": (1, 0, 0), "slots_in_use": (1, 1, 0),
    }  # fmt: skip


@pytest.mark.parametrize("step", [0, 10, 3600, "60", None, [1]])
@simulated
async def test_there_are_rows_of_a_second_and_of_a_minute_only(step: Any) -> None:
    async with opened(echo) as manager:
        with pytest.raises(ValueError, match="step must be 1 or 60 seconds, got"):
            manager.trends(step)
