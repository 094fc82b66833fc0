"""What the tests of services share."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ccm import RetryPolicy
from ccm.testing import CancelAt, simulate

ONCE = RetryPolicy(attempts=1)


class Worker:
    """Takes `seconds` for each item; notes when it began with which, and how many it does at once."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.begun: list[tuple[float, Any]] = []
        self.cancelled: list[Any] = []
        self.running = self.peak = 0

    async def __call__(self, data: Any) -> Any:
        self.begun.append((trio.current_time(), data))
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await trio.sleep(self.seconds)
        except trio.Cancelled:
            self.cancelled.append(data)
            raise
        finally:
            self.running -= 1
        return f"did {data}"

    @property
    def order(self) -> list[Any]:
        return [data for _, data in self.begun]


def at_every_step(program: Callable[[trio.CancelScope], Awaitable[None]], seed: int) -> None:
    """Cancel the program's scope before its first step, its second, and so on to its last."""
    for n in itertools.count(1):
        cancel = CancelAt(n, scope := trio.CancelScope())
        simulate(program, scope, instruments=[cancel], seed=seed)
        if not cancel.fired:
            break
