"""What tests of a durable manager share: a slow disk, and a manager that keeps its messages on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

import ccm
from ccm import Config, ConversationManager, Message, RetryPolicy, Turn
from tests.faults.disk import Disk

ONCE = RetryPolicy(attempts=1)


class Slow(Disk):
    """Every commit takes a second, and fails as often as it is told to."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.fail: list[bool] = []

    def latency(self) -> float:
        return 1.0

    def commit(self, operations: Any) -> list[Any]:
        if self.fail:
            unknown = self.fail.pop(0)
            raise ccm.StorageError("made to fail", unknown=unknown)
        return super().commit(operations)


async def echo(turn: Turn) -> str:
    await trio.sleep(0.5)
    return f"re {turn.text}"


@asynccontextmanager
async def kept(
    handler: Any, disk: Disk, deliver: Any = None, alerts: Any = None, on_alert: Any = None, **settings: Any
) -> AsyncIterator[ConversationManager]:
    config = Config(**{"debug": True, "rate_limit": None, "drain": 100} | settings)
    async with ccm.open_manager(
        handler, config=config, storage=disk, deliver=deliver, alerts=alerts, on_alert=on_alert
    ) as manager:
        yield manager


async def leave(disk: Disk, *messages: Message, **settings: Any) -> None:
    """Have messages accepted by a manager that ends before they are answered."""

    async def never(turn: Turn) -> None:
        await trio.sleep_forever()

    async with kept(never, disk, **{"drain": 0} | settings) as manager:
        for message in messages:
            await manager.submit(message)
        await trio.sleep(1)
