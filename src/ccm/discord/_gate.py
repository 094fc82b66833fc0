"""Lets one shard of a bucket after the other begin its session, and keeps the count of the day."""

from __future__ import annotations

import time
from typing import final

import trio

from ._errors import IdentifyRefused
from ._identify import Granted, IdentifyBudget, Later
from ._sharding import bucket_of
from ._state import State

__all__ = ["Gate", "Turn"]


@final
class Turn:
    """The turn of one shard: from before it dials until it has begun its session, or could not."""

    __slots__ = ("_semaphore",)

    def __init__(self, semaphore: trio.Semaphore) -> None:
        self._semaphore: trio.Semaphore | None = semaphore

    def over(self) -> None:
        """The next shard may go on; may be said more than once."""
        if self._semaphore is not None:
            self._semaphore.release()
            self._semaphore = None


@final
class Gate:
    """Shared by the shards of a process."""

    def __init__(self, budget: IdentifyBudget, max_concurrency: int, state: State) -> None:
        self._budget = budget
        self._buckets = max_concurrency
        self._state = state
        self._turns: dict[int, trio.Semaphore] = {}

    async def enter(self, shard: int) -> Turn:
        """Wait until nobody of the shard's bucket is about to begin; in order of arrival."""
        bucket = bucket_of(shard, self._buckets)
        semaphore = self._turns.setdefault(bucket, trio.Semaphore(1, max_value=1))
        await semaphore.acquire()
        return Turn(semaphore)

    async def spend(self, shard: int) -> None:
        """Wait until a session may be begun; it is counted, and the count on the disk, when this returns.

        Raises:
            IdentifyRefused: the day's are used up.
            OSError: the count cannot be written. The session must not be begun.
        """
        await trio.lowlevel.checkpoint()
        while True:
            answer = self._budget.take(shard, trio.current_time(), time.time())
            if isinstance(answer, Granted):
                break
            if not isinstance(answer, Later):
                raise IdentifyRefused(answer.retry_after)
            await trio.sleep_until(answer.at)
        self._state.begun = self._budget.begun()
        await self._state.save()
