from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
from contextlib import suppress

import pytest
import trio
import trio.testing
from trio._core import _run

from ccm.testing import Deadlock, Livelock, Overrun, Stuck, WhenIdle, simulate

# A program whose trace depends on the schedule at every turn: shared lock, channel, cancellation of many.
PROGRAM = textwrap.dedent(
    """
    import hashlib, random, trio
    from ccm.testing import simulate

    async def program(seed):
        trace, rng = [], random.Random(seed)
        lock = trio.Lock()
        send, receive = trio.open_memory_channel(2)
        async def worker(name):
            try:
                for step in range(5):
                    async with lock:
                        trace.append(f"{name}.{step}@{trio.current_time()}")
                    await send.send(name)
                    await trio.sleep(rng.randrange(3) / 64)
                await trio.sleep_forever()
            except trio.Cancelled:
                trace.append(f"{name} cancelled")
                raise
        async def reader():
            async for name in receive:
                trace.append(f"read {name}")
        with trio.move_on_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reader)
                for name in "abcdefgh":
                    nursery.start_soon(worker, name)
        return trace

    def digest(seeds):
        traces = [simulate(program, seed, seed=seed) for seed in range(seeds)]
        return hashlib.sha256(repr(traces).encode()).hexdigest()
    """
)


def run(source: str, **env: str) -> str:
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


async def trace_of_ties(tasks: int = 6) -> list[int]:
    trace: list[int] = []

    async def say(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            trace.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(tasks):
            nursery.start_soon(say, number)
    return trace


def test_passes_arguments_and_returns_the_result() -> None:
    async def add(a: int, b: int) -> int:
        await trio.lowlevel.checkpoint()
        return a + b

    assert simulate(add, 2, 3) == 5


def test_time_is_virtual_and_starts_at_0() -> None:
    async def program() -> tuple[float, float]:
        start = trio.current_time()
        await trio.sleep(1000.25)
        return start, trio.current_time()

    assert simulate(program) == (0.0, 1000.25)


def test_the_error_of_the_program_is_its_own() -> None:
    async def program() -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        simulate(program)


def test_one_seed_is_one_schedule_and_many_seeds_are_many() -> None:
    assert simulate(trace_of_ties, seed=3) == simulate(trace_of_ties, seed=3)
    assert len({tuple(simulate(trace_of_ties, seed=seed)) for seed in range(40)}) > 30


def test_the_schedule_is_the_same_in_processes_that_hash_differently() -> None:
    scope: dict[str, object] = {}
    exec(PROGRAM, scope)
    here = scope["digest"](40)  # type: ignore[operator]
    source = PROGRAM + "\nprint(digest(40))"
    assert [run(source, PYTHONHASHSEED=hash_seed) for hash_seed in ("1", "2")] == [here, here]


def test_the_kit_imports_neither_pytest_nor_hypothesis() -> None:
    source = "import sys, ccm.testing; print({'pytest', 'hypothesis'} & set(sys.modules))"
    assert run(source) == "set()"


@pytest.mark.parametrize("allowed", [False, True])
def test_puts_the_scheduler_back(monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError

    monkeypatch.setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", allowed)
    before = _run._r.getstate()
    simulate(trace_of_ties, seed=5)
    with pytest.raises(LookupError):
        simulate(fail, seed=6)
    assert _run._r.getstate() == before
    assert _run._ALLOW_DETERMINISTIC_SCHEDULING is allowed


async def wait_for_nobody() -> None:
    await trio.Event().wait()


def test_a_deadlock_names_the_tasks_and_the_time() -> None:
    async def program() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_nobody, name="lonely")
            nursery.start_soon(trio.sleep, 2.5)

    with pytest.raises(Deadlock) as caught:
        simulate(program)
    assert caught.value.at == 2.5
    assert len(caught.value.tasks) == 2
    assert "lonely: wait_for_nobody (test_simulate.py:" in str(caught.value)
    assert "Event.wait" in str(caught.value)


def test_a_deadlock_behind_a_shield_is_cancelled_all_the_same() -> None:
    ends: list[BaseException] = []

    async def program() -> None:
        try:
            with trio.CancelScope(shield=True), trio.CancelScope():
                await wait_for_nobody()
        except BaseException as error:
            ends.append(error)
            raise

    with pytest.raises(Deadlock):
        simulate(program)
    assert [type(error) for error in ends] == [trio.Cancelled]


def test_a_deadlock_is_told_although_the_program_swallows_the_cancel() -> None:
    async def program() -> str:
        with suppress(trio.Cancelled):
            await wait_for_nobody()
        return "all is well"

    with pytest.raises(Deadlock):
        simulate(program)


@pytest.mark.parametrize("parent_too", [False, True])
def test_a_deadlock_is_found_in_tasks_that_refuse_to_be_cancelled(parent_too: bool) -> None:
    async def refuse() -> None:
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    async def program() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuse, name="stubborn")
            nursery.start_soon(refuse)
            if parent_too:
                await refuse()

    with pytest.raises(Deadlock, match="stubborn") as caught:
        simulate(program)
    cause = caught.value.__cause__
    assert isinstance(cause, ExceptionGroup)
    assert [type(error) for error in cause.exceptions] == [RuntimeError] * (2 + parent_too)


def test_cleanup_after_a_deadlock_gets_its_time_and_its_error_is_the_cause() -> None:
    cleaned: list[float] = []

    async def program() -> None:
        try:
            await wait_for_nobody()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            cleaned.append(trio.current_time())
            raise LookupError("broken cleanup")

    with pytest.raises(Deadlock) as caught:
        simulate(program)
    assert cleaned == [3.0]
    assert isinstance(caught.value.__cause__, LookupError)


def test_tasks_that_wait_for_idleness_are_no_deadlock() -> None:
    async def program() -> int:
        for _ in range(20):
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked(cushion=0.001)
        return 20

    assert simulate(program) == 20


def test_a_program_that_never_ends_overruns_its_limit() -> None:
    ticks: list[float] = []

    async def program() -> None:
        for tick in itertools.count():
            ticks.append(trio.current_time())
            await trio.sleep_until(tick + 1)

    with pytest.raises(Overrun) as caught:
        simulate(program, limit=10)
    assert ticks == list(range(11))
    assert isinstance(caught.value, Stuck)


def test_a_program_may_end_at_its_limit_and_beyond_without_one() -> None:
    assert simulate(trio.sleep, 10, limit=10) is None
    assert simulate(trio.sleep, 10**6, limit=None) is None
    with pytest.raises(Overrun):
        simulate(trio.sleep, 10**6)


def test_spinning_at_one_instant_is_a_livelock(monkeypatch: pytest.MonkeyPatch) -> None:
    async def program() -> None:
        await trio.sleep(1)
        for _ in itertools.repeat(None):
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr("ccm.testing._simulate._MAX_PASSES", 1000)
    with pytest.raises(Livelock) as caught:
        simulate(program)
    assert caught.value.at == 1.0


def test_many_tasks_are_listed_in_part() -> None:
    async def program() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(wait_for_nobody)

    with pytest.raises(Deadlock, match="and 31 more") as caught:
        simulate(program)
    assert len(caught.value.tasks) == 51


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_refuses_a_useless_limit(limit: float) -> None:
    with pytest.raises(ValueError, match="limit must be seconds > 0 or None"):
        simulate(trio.sleep, 1, limit=limit)


def test_violations_of_its_instruments_fail_the_run() -> None:
    idle = WhenIdle(lambda: "slot free, turn waiting")
    with pytest.raises(AssertionError, match="slot free, turn waiting"):
        simulate(trio.sleep, 1, instruments=[idle])
