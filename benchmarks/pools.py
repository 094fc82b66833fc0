"""What a call in another process costs when the process is there already."""

from __future__ import annotations

from time import perf_counter

import trio

import ccm

from ._measure import Absent


def _same(value: int) -> int:
    return value


def warm_process(n: int) -> float:
    """Microseconds of `turn.in_process` for a function that does nothing; the best of 20 rounds."""
    rounds: list[float] = []

    async def handler(turn: ccm.Turn) -> None:
        await turn.in_process(_same, 1)
        for _ in range(20):
            start = perf_counter()
            for number in range(n):
                await turn.in_process(_same, number)
            rounds.append((perf_counter() - start) / n)

    async def program() -> None:
        async with ccm.open_manager(handler, config=ccm.Config(timeout=1e6, worker_processes=1)) as manager:
            await manager.ask(ccm.Message("c", "u", "go"))

    trio.run(program)
    return min(rounds) * 1e6


def bare(n: int) -> float:
    """The same with trio-parallel alone, which `in_process` uses."""
    try:
        import trio_parallel
    except ImportError as error:
        raise Absent("trio-parallel is not installed; pip install 'ccm[process]'") from error
    rounds: list[float] = []

    async def program() -> None:
        async with trio_parallel.open_worker_context() as workers:
            await workers.run_sync(_same, 1)
            for _ in range(20):
                start = perf_counter()
                for number in range(n):
                    await workers.run_sync(_same, number)
                rounds.append((perf_counter() - start) / n)

    trio.run(program)
    return min(rounds) * 1e6
