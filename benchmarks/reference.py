"""Plain programs that ccm is compared with.

Reference programs kept beside the repository are preferred when they are there, so that several projects
are measured against the very same code; else the equivalents below, which do the same work.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import trio

ROOT = Path(__file__).resolve().parent.parent
BESIDE = ROOT.parent / "shared" / "bench"

WORKERS = 50
BUFFER = 100


def _beside(file: str) -> Any:
    """A reference program as a module, or None when there is none."""
    path = BESIDE / file
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(f"reference_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_trio_programs, _seed_program = _beside("raw_trio.py"), _beside("seed_style.py")
ORIGIN = (
    "own equivalents" if _trio_programs is None or _seed_program is None else "programs beside the repository"
)


def channel(n: int) -> float:
    """Messages per second through a Trio memory channel (buffer 100) to 50 workers that do nothing."""
    run: Callable[..., Awaitable[float]] = _trio_programs.channel if _trio_programs else own_channel
    return trio.run(run, n)


def ask64(n: int) -> float:
    """Round trips per second from 64 callers to 50 workers: a memory channel there, an Event back."""
    run: Callable[..., Awaitable[float]] = _trio_programs.ask if _trio_programs else own_ask
    return trio.run(run, n, 64, WORKERS)


def seed_style(n: int) -> float:
    """Messages per second of a priority queue, a dispatcher and a task per message, on asyncio."""
    run: Callable[[int], Any] = _seed_program.run if _seed_program else own_seed_style
    speed: float = asyncio.run(run(n))
    return speed


async def own_channel(n: int) -> float:
    inlet, outlet = trio.open_memory_channel[int](BUFFER)

    async def consume() -> None:
        async with outlet.clone() as items:
            async for _ in items:
                pass

    async with trio.open_nursery() as nursery:
        for _ in range(WORKERS):
            nursery.start_soon(consume)
        start = perf_counter()
        for number in range(n):
            await inlet.send(number)
        inlet.close()
    return n / (perf_counter() - start)


async def own_ask(n: int, callers: int, workers: int) -> float:
    inlet, outlet = trio.open_memory_channel[trio.Event](BUFFER)
    each = n // callers

    async def answer() -> None:
        async for question in outlet:
            question.set()

    async def caller() -> None:
        for _ in range(each):
            answered = trio.Event()
            await inlet.send(answered)
            await answered.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(answer)
        start = perf_counter()
        async with trio.open_nursery() as people:
            for _ in range(callers):
                people.start_soon(caller)
        elapsed = perf_counter() - start
        inlet.close()
    return each * callers / elapsed


async def own_seed_style(n: int) -> float:
    waiting: asyncio.PriorityQueue[tuple[int, int]] = asyncio.PriorityQueue(maxsize=1000)
    slots = asyncio.Semaphore(WORKERS)
    left = itertools.count(n - 1, -1)
    all_done = asyncio.get_running_loop().create_future()

    async def handle() -> None:
        pass

    async def process() -> None:
        async with slots:
            await asyncio.wait_for(handle(), timeout=30)
        if next(left) == 0:
            all_done.set_result(None)

    async def dispatch() -> None:
        running: set[asyncio.Task[None]] = set()
        while True:
            await asyncio.wait_for(waiting.get(), timeout=1)
            task = asyncio.create_task(process())
            running.add(task)
            task.add_done_callback(running.discard)

    dispatcher = asyncio.create_task(dispatch())
    start = perf_counter()
    for number in range(n):
        await waiting.put((number % 4, number))
    await all_done
    elapsed = perf_counter() - start
    dispatcher.cancel()
    return n / elapsed
