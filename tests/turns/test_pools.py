"""`turn.in_thread` and `turn.in_process`, on the real clock: threads and processes keep no virtual time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import ccm
from ccm import _pools
from ccm._config import Config
from ccm._pools import Pools

Program = Callable[[ccm.Turn], Awaitable[None]]
LIMIT = 30.0  # seconds; none of these takes one


def in_a_turn(program: Program, **settings: Any) -> None:
    """Run `program` as a handler and let its assertions out."""
    failures: list[Exception] = []

    async def handler(turn: ccm.Turn) -> None:
        try:
            await program(turn)
        except Exception as error:
            failures.append(error)

    async def main() -> None:
        config = Config(rate_limit=None, debug=True, **settings)
        with trio.fail_after(LIMIT):
            async with ccm.open_manager(handler, config=config) as manager:
                await manager.ask(ccm.Message("c", "ada", "hello"))

    trio.run(main)
    if failures:
        raise failures[0]


def pools_of(turn: ccm.Turn) -> Pools:
    return turn._record.book.tools.pools


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(LIMIT):
        while True:
            if condition():
                return
            await trio.sleep(0.005)


def pid_in(path: str) -> int:
    return int(Path(path).read_text())


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


# -- what runs in processes must be at the top of a module -----------------------------------------


def note_pid_and_hang(path: str) -> None:
    Path(path + ".new").write_text(str(os.getpid()))
    Path(path + ".new").rename(path)
    while True:
        time.sleep(0.05)


def sleep_and_tell_pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def refuse(text: str) -> None:
    raise ValueError(text)


def type_error() -> None:
    raise TypeError("its own")


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpus", "threads", "processes"), [(1, 2, 1), (2, 4, 2), (8, 16, 8), (9, 16, 8), (64, 16, 8)]
)
def test_sizes_follow_the_cpus(
    cpus: int, threads: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pools, "usable_cpus", lambda: cpus)
    pools = Pools(Config(), None)
    assert (pools.threads.total_tokens, pools.processes.total_tokens) == (threads, processes)


def test_sizes_can_be_set() -> None:
    pools = Pools(Config(worker_threads=40, worker_processes=9), None)
    assert (pools.threads.total_tokens, pools.processes.total_tokens) == (40, 9)


def test_cpus_that_this_process_may_not_use_do_not_count() -> None:
    assert 1 <= _pools.usable_cpus() <= (os.cpu_count() or 1)


# -- threads ---------------------------------------------------------------------------------------


def test_a_thread_returns_and_raises_what_the_function_does() -> None:
    async def program(turn: ccm.Turn) -> None:
        ident = await turn.in_thread(threading.get_ident)
        assert ident != threading.get_ident()
        assert await turn.in_thread(divmod, 7, 2) == (3, 1)
        with pytest.raises(ValueError, match="no"):
            await turn.in_thread(refuse, "no")

    in_a_turn(program)


def test_threads_run_side_by_side_up_to_the_limit() -> None:
    running: list[int] = []
    peak: list[int] = []
    lock = threading.Lock()

    def work() -> None:
        with lock:
            running.append(1)
            peak.append(len(running))
        time.sleep(0.03)
        with lock:
            running.pop()

    async def program(turn: ccm.Turn) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(turn.in_thread, work)
        assert max(peak) == 3

    in_a_turn(program, worker_threads=3)


def test_an_abandoned_thread_keeps_its_place_until_it_has_ended() -> None:
    begun, release = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(LIMIT)

    async def program(turn: ccm.Turn) -> None:
        threads = pools_of(turn).threads
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn.in_thread, hang)
            await until(begun.is_set)
            cancelled_at = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - cancelled_at < LIMIT / 2  # did not wait for the thread
        assert threads.borrowed_tokens == 1
        with trio.move_on_after(0.03) as waiting:
            await turn.in_thread(int)
        assert waiting.cancelled_caught, "there was no place"
        release.set()
        assert await turn.in_thread(divmod, 7, 2) == (3, 1)
        await until(lambda: threads.borrowed_tokens == 0)

    try:
        in_a_turn(program, worker_threads=1)
    finally:
        release.set()


def test_a_call_that_is_cancelled_while_it_waits_for_a_place_never_runs() -> None:
    begun, release = threading.Event(), threading.Event()
    ran: list[int] = []

    def hang() -> None:
        begun.set()
        release.wait(LIMIT)

    async def program(turn: ccm.Turn) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn.in_thread, hang)
            await until(begun.is_set)
            with trio.move_on_after(0.02):
                await turn.in_thread(ran.append, 1)
            release.set()
        await turn.in_thread(int)
        assert ran == []

    in_a_turn(program, worker_threads=1)


def test_an_abandoned_thread_can_find_out_and_leave() -> None:
    left = threading.Event()

    def polite() -> None:
        try:
            while True:
                trio.from_thread.check_cancelled()
                time.sleep(0.002)
        finally:
            left.set()

    async def program(turn: ccm.Turn) -> None:
        with trio.move_on_after(0.03):
            await turn.in_thread(polite)
        await until(left.is_set)

    in_a_turn(program)


def test_closing_does_not_wait_for_an_abandoned_thread() -> None:
    begun, release = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(LIMIT)

    async def program(turn: ccm.Turn) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn.in_thread, hang)
            await until(begun.is_set)
            nursery.cancel_scope.cancel()

    started = time.monotonic()
    try:
        in_a_turn(program)
        assert time.monotonic() - started < LIMIT / 2
    finally:
        release.set()


async def asynchronous() -> None: ...


@pytest.mark.parametrize("fn", [asynchronous, 7, None], ids=["async", "number", "none"])
def test_only_synchronous_functions_can_run_elsewhere(fn: Any) -> None:
    async def program(turn: ccm.Turn) -> None:
        for run in (turn.in_thread, turn.in_process):
            with pytest.raises(TypeError, match="fn must be a synchronous function, got"):
                await run(fn)

    in_a_turn(program)


# -- processes -------------------------------------------------------------------------------------


def test_a_process_returns_and_raises_what_the_function_does_and_is_used_again() -> None:
    async def program(turn: ccm.Turn) -> None:
        pid = await turn.in_process(os.getpid)
        assert pid != os.getpid()
        assert await turn.in_process(divmod, 7, 2) == (3, 1)
        with pytest.raises(ValueError, match="no"):
            await turn.in_process(refuse, "no")
        with pytest.raises(TypeError, match=r"^its own$"):
            await turn.in_process(type_error)
        assert await turn.in_process(os.getpid) == pid

    in_a_turn(program)


def test_a_killed_process_is_an_error_of_its_call_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "pid")

    async def program(turn: ccm.Turn) -> None:
        other: list[int] = []

        async def go_on() -> None:
            other.append(await turn.in_process(sleep_and_tell_pid, 0.1))

        async def kill() -> None:
            await until(lambda: os.path.exists(path))
            os.kill(pid_in(path), signal.SIGKILL)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on)
            nursery.start_soon(kill)
            with pytest.raises(trio.BrokenResourceError, match="died with exit code -9"):
                await turn.in_process(note_pid_and_hang, path)
        assert other == [await turn.in_process(os.getpid)]  # the other one lives on and is used again
        assert pools_of(turn).processes.borrowed_tokens == 0

    in_a_turn(program, worker_processes=2)


def test_a_process_that_ends_itself_is_an_error_of_its_call_alone() -> None:
    async def program(turn: ccm.Turn) -> None:
        with pytest.raises(trio.BrokenResourceError, match="died with exit code 3"):
            await turn.in_process(os._exit, 3)
        assert await turn.in_process(divmod, 7, 2) == (3, 1)

    in_a_turn(program)


def test_a_process_killed_while_it_idles_harms_nobody_not_even_at_the_end() -> None:
    async def program(turn: ccm.Turn) -> None:
        pids = [await turn.in_process(os.getpid)]
        os.kill(pids[0], signal.SIGKILL)
        await until(lambda: not is_alive(pids[0]))
        pids.append(await turn.in_process(os.getpid))
        assert pids[0] != pids[1]
        os.kill(pids[1], signal.SIGKILL)

    in_a_turn(program)


def test_cancelling_kills_the_process(tmp_path: Path) -> None:
    path = str(tmp_path / "pid")

    async def program(turn: ccm.Turn) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn.in_process, note_pid_and_hang, path)
            await until(lambda: os.path.exists(path))
            nursery.cancel_scope.cancel()
        assert not is_alive(pid_in(path))
        assert pools_of(turn).processes.borrowed_tokens == 0
        assert await turn.in_process(divmod, 7, 2) == (3, 1)

    in_a_turn(program, worker_processes=1)


def test_no_process_outlives_the_manager(tmp_path: Path) -> None:
    path = str(tmp_path / "pid")
    pids: list[int] = []

    async def handler(turn: ccm.Turn) -> None:
        pids.append(await turn.in_process(os.getpid))
        await turn.in_process(note_pid_and_hang, path)

    async def main() -> None:
        with trio.fail_after(LIMIT):
            async with ccm.open_manager(handler, config=Config(drain=0)) as manager:
                await manager.submit(ccm.Message("c", "ada", "hello"))
                await until(lambda: os.path.exists(path))
            assert not is_alive(pids[0])
            assert not is_alive(pid_in(path))

    trio.run(main)


def test_a_call_from_outside_of_its_turn_ends_with_the_manager(tmp_path: Path) -> None:
    path = str(tmp_path / "pid")

    async def main() -> None:
        async def stray(turn: ccm.Turn) -> None:
            assert await turn.in_process(divmod, 7, 2) == (3, 1)
            with pytest.raises(ValueError, match="no"):
                await turn.in_process(refuse, "no")
            assert not pools_of(turn)._strays  # nothing is left of calls that are over
            with pytest.raises(trio.ClosedResourceError, match="was closed while a process worked"):
                await turn.in_process(note_pid_and_hang, path)
            for run in (turn.in_thread, turn.in_process):
                with pytest.raises(trio.ClosedResourceError, match="the manager of this turn is closed"):
                    await run(int)

        async def handler(turn: ccm.Turn) -> None:
            nursery.start_soon(stray, turn)

        with trio.fail_after(LIMIT):
            async with trio.open_nursery() as nursery:
                async with ccm.open_manager(handler) as manager:
                    await manager.ask(ccm.Message("c", "ada", "hello"))
                    await until(lambda: os.path.exists(path))
                assert not is_alive(pid_in(path))

    trio.run(main)


def test_what_cannot_be_pickled_is_a_type_error() -> None:
    lock = threading.Lock()

    async def program(turn: ccm.Turn) -> None:
        with pytest.raises(TypeError, match=r"must be picklable to run in a process.*turn.in_thread"):
            await turn.in_process(id, lock)
        with pytest.raises(TypeError, match="must be picklable"):
            await turn.in_process(lock.locked)
        assert await turn.in_process(divmod, 7, 2) == (3, 1)

    in_a_turn(program)


def test_processes_run_up_to_the_limit() -> None:
    async def program(turn: ccm.Turn) -> None:
        pids: set[int] = set()

        async def work() -> None:
            await turn.in_process(time.sleep, 0.01)
            pids.add(await turn.in_process(os.getpid))

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(work)
        assert len(pids) == 1
        assert pools_of(turn).processes.total_tokens == 1

    in_a_turn(program, worker_processes=1)


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio_parallel", None)

    async def program(turn: ccm.Turn) -> None:
        with pytest.raises(ImportError, match=r"pip install 'ccm\[process\]'"):
            await turn.in_process(int)

    in_a_turn(program)


def test_a_warm_call_is_quick() -> None:
    """0.1 ms on an idle machine; here only that nothing is started or waited for."""

    async def program(turn: ccm.Turn) -> None:
        await turn.in_process(int)
        times: list[float] = []
        for _ in range(200):
            begun = time.perf_counter()
            await turn.in_process(int)
            times.append(time.perf_counter() - begun)
        assert sorted(times)[100] < 0.005

    in_a_turn(program)


def test_managers_that_use_neither_start_nothing() -> None:
    """`Tools` makes the pools, and the pools their parts, when they are first used."""

    async def program(turn: ccm.Turn) -> None:
        assert turn._record.book.tools._pools is None
        await turn.in_thread(int)
        assert pools_of(turn)._workers is None

    in_a_turn(program)
    code = (
        "import ccm, sys; assert 'trio_parallel' not in sys.modules and 'multiprocessing' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
