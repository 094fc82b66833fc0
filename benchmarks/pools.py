"""What a call in another process costs when the process is there already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter

import trio

import ccm

from ._measure import Absent


def _same(value: int) -> int:
    return value


async def _best(call: Callable[[int], Awaitable[int]], n: int) -> float:
    """Microseconds of a call, of the best of 20 rounds; the first call, which starts the worker, is not on
    the clock."""
    await call(1)
    rounds = []
    for _ in range(20):
        start = perf_counter()
        for number in range(n):
            await call(number)
        rounds.append((perf_counter() - start) / n)
    return min(rounds) * 1e6


def warm_process(n: int) -> float:
    """Microseconds of `turn.in_process` for a function that does nothing."""

    async def handler(turn: ccm.Turn) -> str:
        async def call(number: int) -> int:
            return await turn.in_process(_same, number)

        return str(await _best(call, n))

    async def program() -> str:
        async with ccm.open_manager(handler, config=ccm.Config(timeout=1e6, worker_processes=1)) as manager:
            return str(await manager.ask(ccm.Message("c", "u", "go")))

    return float(trio.run(program))


def bare(n: int) -> float:
    """The same with trio-parallel alone, which `in_process` uses."""
    try:
        import trio_parallel
    except ImportError as error:
        raise Absent("trio-parallel is not installed; pip install 'ccm[process]'") from error

    async def program() -> float:
        async with trio_parallel.open_worker_context() as workers:

            async def call(number: int) -> int:
                return int(await workers.run_sync(_same, number))

            return await _best(call, n)

    return trio.run(program)
