"""What it costs to ask from asyncio: a call goes from one loop to the other and back, twice."""

from __future__ import annotations

import asyncio
from time import perf_counter

import trio

import ccm
import ccm.aio

CALLERS = 64
CONFIG = ccm.Config(limit=50, queue_limit=1_000_000, max_sessions=100_000, rate_limit=None)


def _parts(n: int) -> list[list[ccm.Message]]:
    each = max(1, n // CALLERS)
    return [[ccm.Message(f"c{k}", "u", "hi") for _ in range(each)] for k in range(CALLERS)]


def asyncio_ask(n: int) -> float:
    """Asks per second of 64 asyncio callers, with an asyncio handler."""

    async def handler(turn: ccm.aio.Turn) -> str:
        return ""

    async def main() -> float:
        parts = _parts(n)
        async with ccm.aio.open_manager(handler, config=CONFIG) as manager:

            async def caller(part: list[ccm.Message]) -> None:
                for message in part:
                    await manager.ask(message)

            start = perf_counter()
            await asyncio.gather(*(caller(part) for part in parts))
            return sum(map(len, parts)) / (perf_counter() - start)

    return asyncio.run(main())


def trio_ask(n: int) -> float:
    """The same in a Trio program."""

    async def handler(turn: ccm.Turn) -> str:
        return ""

    async def main() -> float:
        parts = _parts(n)
        async with ccm.open_manager(handler, config=CONFIG) as manager:

            async def caller(part: list[ccm.Message]) -> None:
                for message in part:
                    await manager.ask(message)

            start = perf_counter()
            async with trio.open_nursery() as nursery:
                for part in parts:
                    nursery.start_soon(caller, part)
            return sum(map(len, parts)) / (perf_counter() - start)

    return trio.run(main)
