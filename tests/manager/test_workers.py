"""The pool of tasks that run handlers: as many as needed, no more, and none for what is idle."""

from __future__ import annotations

import trio

from ccm import Turn

from .kit import echo, opened, say, simulated, takes


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


@simulated
async def test_the_pool_grows_with_what_runs() -> None:
    async with opened(takes(1), limit=10, headroom={}) as manager:
        assert manager.statistics().workers == 0
        for n in range(3):
            manager.submit_nowait(say("hi", f"{n}"))
        assert manager.statistics().workers == 3
        await manager.wait_idle()
        for n in range(20):
            manager.submit_nowait(say("hi", f"{n}"))
        assert manager.statistics().workers == 10
        await manager.wait_idle()
    assert manager.statistics().workers == 0


@simulated
async def test_workers_are_used_again() -> None:
    seen: set[trio.lowlevel.Task] = set()

    async def handler(turn: Turn) -> str:
        seen.add(trio.lowlevel.current_task())
        await trio.sleep(1)
        return ""

    async with opened(handler, limit=2, headroom={}, drain=100) as manager:
        for n in range(50):
            manager.submit_nowait(say("hi", f"{n}"))
        await manager.wait_idle()
        assert trio.current_time() == 25
    assert len(seen) == 2


@simulated
async def test_waiting_messages_and_idle_conversations_have_no_task() -> None:
    async with opened(takes(1), limit=5, headroom={}, drain=1000, debug=False) as manager:
        before = tasks()
        for n in range(1000):
            manager.submit_nowait(say("hi", f"{n}"))
        assert tasks() == before + 5
        await manager.wait_idle()
        assert manager.statistics().sessions.total == 1000
        assert tasks() == before + 5


@simulated
async def test_the_pool_shrinks_when_it_has_been_idle() -> None:
    async with opened(takes(1)) as manager:
        before = tasks()
        for n in range(30):
            manager.submit_nowait(say("hi", f"{n}"))
        await manager.wait_idle()
        assert manager.statistics().workers == 30
        await trio.sleep(120)
        assert manager.statistics().workers == 0
        assert tasks() == before
        assert str(await manager.ask(say())) == "re: hello"


@simulated
async def test_the_pool_keeps_those_that_are_in_use() -> None:
    async with opened(takes(1)) as manager:
        for n in range(30):
            manager.submit_nowait(say("hi", f"{n}"))
        await manager.wait_idle()
        for _ in range(120):
            for n in range(3):
                await manager.submit(say("hi", f"{n}"))
            await manager.wait_idle()
        assert manager.statistics().workers == 3


@simulated
async def test_a_cancelled_turn_costs_no_worker() -> None:
    async with opened(takes(100), limit=1, timeout=1000) as manager:
        before = tasks()
        for _ in range(20):
            with trio.move_on_after(1):
                await manager.ask(say())
        await trio.testing.wait_all_tasks_blocked()
        assert tasks() <= before + 1


@simulated
async def test_nothing_is_left_after_the_block() -> None:
    before = tasks()
    async with opened(echo) as manager:
        for n in range(10):
            await manager.submit(say("hi", f"{n}"))
    await trio.testing.wait_all_tasks_blocked()
    assert tasks() == before


@simulated
async def test_a_handler_runs_in_the_context_and_task_of_a_worker_not_of_the_sender() -> None:
    names: list[str] = []

    async def handler(turn: Turn) -> str:
        names.append(trio.lowlevel.current_task().name)
        return ""

    async with opened(handler) as manager:
        await manager.ask(say())
    assert names == ["ccm worker"]
