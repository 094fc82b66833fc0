from __future__ import annotations

import itertools
import math

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from ccm.testing import CancelAt, Deadlock, WhenIdle, simulate


async def five_checkpoints(trace: list[int]) -> None:
    for number in range(5):
        trace.append(number)
        await trio.lowlevel.checkpoint()


def test_cancels_before_the_nth_step_counted_from_arming() -> None:
    async def program(n: int) -> tuple[list[int], bool]:
        await five_checkpoints([])  # not counted
        trace: list[int] = []
        mine = trio.lowlevel.current_task()
        with trio.CancelScope() as scope, CancelAt(n, scope, task=lambda task: task is mine) as cancel:
            await five_checkpoints(trace)
        return trace, cancel.fired

    # The n-th step is the one that would come back from the n-th checkpoint.
    assert simulate(program, 1) == ([0], True)
    assert simulate(program, 3) == ([0, 1, 2], True)
    assert simulate(program, 6) == ([0, 1, 2, 3, 4], False)


def test_every_step_of_a_program_can_be_tried() -> None:
    traces = []
    for n in itertools.count(1):
        scope, trace = trio.CancelScope(), list[int]()

        async def program(scope: trio.CancelScope = scope, trace: list[int] = trace) -> None:
            with scope:
                await five_checkpoints(trace)

        cancel = CancelAt(n, scope)
        simulate(program, instruments=[cancel])
        if not cancel.fired:
            break
        traces.append(tuple(trace))
    assert cancel.steps == n - 1
    # Before the program's first step nothing but the work before its first checkpoint is done.
    assert set(traces) == {tuple(range(done)) for done in range(1, 6)}


def test_an_action_runs_once_and_steps_are_counted_on() -> None:
    calls: list[float] = []

    async def program() -> CancelAt:
        with CancelAt(2, lambda: calls.append(trio.current_time())) as cancel:
            for _ in range(10):
                await trio.sleep(1)
        return cancel

    cancel = simulate(program)
    assert calls == [2.0]
    assert cancel.steps == 10


def test_a_failing_action_is_told_afterwards() -> None:
    async def program() -> str:
        await trio.lowlevel.checkpoint()
        return "ended"

    def fail() -> None:
        raise LookupError("no such scope")

    cancel = CancelAt(1, fail)
    with pytest.raises(AssertionError, match="no such scope") as caught:
        simulate(program, instruments=[cancel])
    assert isinstance(caught.value.__cause__, LookupError)
    assert cancel.fired


def test_a_failing_filter_is_told_afterwards() -> None:
    cancel = CancelAt(1, lambda: None, task=lambda task: task.name.no_such_attribute)  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="no_such_attribute"):
        simulate(trio.sleep, 1, instruments=[cancel])
    assert not cancel.fired


@pytest.mark.parametrize("n", [0, -1])
def test_refuses_a_step_before_the_first(n: int) -> None:
    with pytest.raises(ValueError, match="n must be >= 1"):
        CancelAt(n, lambda: None)


@given(n=st.integers(1, 60), seed=st.integers(0, 2**32))
def test_trios_lock_survives_a_cancel_at_any_step(n: int, seed: int) -> None:
    async def program() -> None:
        lock = trio.Lock()

        async def work(scope: trio.CancelScope) -> None:
            with scope:
                for _ in range(3):
                    async with lock:
                        await trio.lowlevel.checkpoint()

        victim = trio.CancelScope()
        with CancelAt(n, victim):
            async with trio.open_nursery() as nursery:
                for scope in (victim, trio.CancelScope(), trio.CancelScope()):
                    nursery.start_soon(work, scope)
        assert not lock.locked()

    simulate(program, seed=seed)


class LeakyLock:
    """Is lost when whoever has just got it, or waits for it, is cancelled."""

    def __init__(self) -> None:
        self.held = False
        self.waiters: list[trio.Event] = []

    async def acquire(self) -> None:
        if not self.held:
            self.held = True
            await trio.lowlevel.checkpoint()
            return
        self.waiters.append(event := trio.Event())
        await event.wait()

    def release(self) -> None:
        if self.waiters:
            self.waiters.pop(0).set()
        else:
            self.held = False


def test_finds_the_step_at_which_a_lock_leaks() -> None:
    async def program(n: int) -> str:
        lock = LeakyLock()

        async def work(scope: trio.CancelScope) -> None:
            with scope:
                await lock.acquire()
                try:
                    await trio.sleep(1)
                finally:
                    lock.release()

        victim = trio.CancelScope()
        with CancelAt(n, victim):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work, trio.CancelScope())
                nursery.start_soon(work, victim)
        return "leak" if lock.held else "fine"

    def fate(n: int, seed: int) -> str:
        try:
            return simulate(program, n, seed=seed)
        except Deadlock:
            return "deadlock"

    fates = {fate(n, seed) for n in range(1, 20) for seed in range(10)}
    assert fates == {"leak", "deadlock", "fine"}


def test_checks_whenever_all_are_blocked_and_at_no_other_time() -> None:
    running = 0
    times: list[float] = []

    async def program() -> None:
        nonlocal running

        async def work(seconds: float) -> None:
            nonlocal running
            await trio.sleep(seconds)
            running += 1
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            running -= 1

        async with trio.open_nursery() as nursery:
            for seconds in (1.0, 1.0, 2.0):
                nursery.start_soon(work, seconds)

    def check() -> bool:
        times.append(trio.current_time())
        return running > 0

    idle = WhenIdle(check)
    simulate(program, instruments=[idle])
    assert times == [0.0, 1.0]
    assert idle.checks == 2
    assert idle.violations == []


def test_what_is_due_now_is_not_idle() -> None:
    due = math.inf

    async def program() -> None:
        nonlocal due
        for at in range(1, 20):
            due = float(at)
            await trio.sleep_until(due)

    idle = WhenIdle(lambda: trio.current_time() >= due)
    simulate(program, instruments=[idle])
    assert idle.checks


def test_sees_a_lost_wake_up() -> None:
    # The planted fault: the producer wakes the consumer only when the queue was empty before the last put.
    async def program() -> None:
        queue: list[int] = []
        arrived = trio.Event()

        async def consume() -> None:
            nonlocal arrived
            while True:
                await arrived.wait()
                arrived = trio.Event()
                await trio.sleep(1)
                queue.pop()

        with trio.move_on_after(10), WhenIdle(lambda: f"{len(queue)} lost" if waits() else "") as idle:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(consume)

                def waits() -> bool:
                    return bool(queue) and arrived.statistics().tasks_waiting > 0

                for number in range(2):
                    if not queue:
                        arrived.set()
                    queue.append(number)
                    await trio.sleep(0.5)
        assert idle.checks

    with pytest.raises(AssertionError, match=r"at 1: '1 lost'"):
        simulate(program)


def test_a_failing_check_is_kept_and_told_and_checking_goes_on() -> None:
    async def program() -> None:
        for _ in range(300):
            await trio.sleep(1)

    def check() -> None:
        raise LookupError("broken check")

    idle = WhenIdle(check)
    with pytest.raises(AssertionError, match="WhenIdle found") as caught:
        simulate(program, instruments=[idle])
    assert isinstance(caught.value.__cause__, LookupError)
    assert idle.checks == 300
    assert len(idle.violations) == 100


def test_even_the_failure_of_a_test_inside_a_check_is_kept() -> None:
    idle = WhenIdle(lambda: pytest.fail("inside"))
    with pytest.raises(AssertionError, match="inside"):
        simulate(trio.sleep, 1, instruments=[idle])


def test_the_error_of_a_block_is_not_hidden_by_its_violations() -> None:
    async def program() -> None:
        with WhenIdle(lambda: "wrong"):
            await trio.sleep(1)
            raise LookupError("the program's own")

    with pytest.raises(LookupError):
        simulate(program)


def test_leaving_a_block_removes_the_instrument() -> None:
    async def program() -> tuple[int, int]:
        with WhenIdle(lambda: None) as idle, CancelAt(99, lambda: None) as cancel:
            await trio.sleep(1)
        seen = idle.checks, cancel.steps
        await trio.sleep(1)
        assert (idle.checks, cancel.steps) == seen
        return seen

    assert simulate(program) == (1, 1)
