"""The one way into the storage: a task that commits whatever has been put before it, in that order.

Group commit without a timer: what arrives while a commit is on its way goes into the next one. So a lone
sender waits for one commit, and five hundred wait for two.

What follows from a commit is done here and in the order of the journal, not by the tasks that wait for it:
Trio wakes tasks in an order of its own, and a message must have its place before its sender goes on.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, final

import trio
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

from ._errors import StorageError
from .storage import Operation, Storage

T = TypeVar("T")
_RETRY_FIRST, _RETRY_MOST = 0.1, 5.0
"""Seconds between two attempts of a settlement that a failing storage has refused."""
_READERS = 4
_LOOK = 1.0
"""Seconds between two looks at what other programs may have changed."""
log = logging.getLogger("ccm.storage")


class Item(Protocol):
    """What can be put into the journal."""

    @property
    def operation(self) -> Operation | None:
        """What is to be done; None only waits for what was put before it."""

    def done(self, result: Any) -> None:
        """The operation is durable. Must not raise."""

    def failed(self, error: StorageError) -> bool:
        """It is not, or nobody knows; True: try again later. Must not raise."""


@final
class Journal:
    """Commits operations in the order in which they are put.

    Args:
        storage: open.
        clock: the time on Trio's clock.
        wall: seconds since 1970; looked at once.
        told: called with each error of the storage, and with None when it works again.

    Invariants: only `run` commits, one batch at a time, each item is in one batch at a time; items of a batch
    that failed and are to be tried again stand before all that came later.

    Attributes:
        shift: what turns Trio's time into seconds since 1970.
        failing: the storage's last error, or None while it works.
        outside: called when another program has changed what is stored, with nothing on its way.
        closed: set when `run` has ended.
        commits, written, failures: batches and operations that are durable, and batches that failed.
    """

    def __init__(
        self, storage: Storage, clock: Callable[[], float], wall: Callable[[], float] = time.time,
        told: Callable[[StorageError | None], object] = lambda error: None,
    ) -> None:  # fmt: skip
        self.storage = storage
        self.clock = clock
        self.shift = wall() - clock()
        self.failing: StorageError | None = None
        self.commits = self.written = self.failures = 0
        self._told = told
        self._queue: list[Item] = []
        self._writing: list[Item] = []
        self._since = 0.0
        self._delay = 0.0
        self._task: trio.lowlevel.Task | None = None
        self._parked = False
        self._closing = False
        self._scope = trio.CancelScope(shield=True)
        self.closed = trio.Event()
        self.outside: Callable[[], Awaitable[object]]
        self._one = trio.CapacityLimiter(1)
        self._readers = trio.CapacityLimiter(_READERS)

    # -- in --------------------------------------------------------------------------------------

    def put(self, item: Item) -> None:
        """Have `item` written with the next commit. O(1)."""
        if not self._queue:
            self._since = self.clock()
        self._queue.append(item)
        self._wake()

    def withdraw(self, item: Item) -> bool:
        """Take an item back; False: it is too late, it is being written. O(queued)."""
        if item in self._queue:
            self._queue.remove(item)
            return True
        return False

    async def call(self, operation: Operation) -> Any:
        """Commit an operation, return its result.

        Raises:
            StorageError: it could not be done; the operation is not tried again.

        When cancelled before it is being written, nothing has happened; after that, it is waited for.
        """
        call = _Call(operation)
        self.put(call)
        return await call.wait(self)

    async def flush(self) -> None:
        """Wait until all that has been put so far is durable, or has failed."""
        await trio.lowlevel.checkpoint()
        if self._queue or self._writing:
            await self._flushed()

    async def _flushed(self) -> None:
        call = _Call(None)
        self._queue.append(call)
        self._wake()
        await call.wait(self)

    async def read(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a reading method of the storage. When cancelled, its end is waited for."""
        if not self.storage.blocking:
            await trio.lowlevel.checkpoint()
            return function(*args, **kwargs)
        return await trio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=self._readers)

    @property
    def pending(self) -> int:
        """Operations that are not durable yet. O(1)."""
        return len(self._queue) + len(self._writing)

    def lag(self, now: float) -> float:
        """Seconds for which the oldest of them has waited. O(1)."""
        return now - self._since if self.pending else 0.0

    # -- the writer ------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._parked:
            self._parked = False
            assert self._task is not None
            reschedule(self._task)

    async def run(self) -> None:  # noqa: ASYNC910 - a task of its own
        """Commit until closed. Shielded: what has been accepted is settled also while all else ends."""
        self._task = current_task()
        commit = self._in_thread if self.storage.blocking else self._inline
        try:
            with self._scope:
                while not (self._closing and not self._queue):
                    if not self._queue:
                        await self._idle()
                        continue
                    if self._delay:
                        await self._wait(self._delay)
                    batch, self._queue = self._queue, []
                    await self._commit(batch, commit)
        finally:
            self._closing = True
            left, self._writing, self._queue = [*self._writing, *self._queue], [], []
            for item in left:
                item.failed(StorageError("the manager ended before this was written", unknown=True))
            self.closed.set()

    async def _idle(self) -> None:
        """Wait for work; look now and then whether another program has changed what is stored."""
        if not (self.storage.shared and self.failing is None):
            await self._park()
            return
        with trio.move_on_after(_LOOK):
            await self._park()
            return
        # Nothing of our own is on its way now, so whatever is new is somebody else's.
        try:
            if not self._queue and await trio.to_thread.run_sync(self.storage.changed, limiter=self._one):
                await self.outside()
        except StorageError as error:
            log.warning("changes of another program cannot be read: %s", error)

    @property
    def _prompted(self) -> bool:
        return any(isinstance(item, Prompt) for item in self._queue)

    async def _park(self) -> None:
        self._parked = True

        def abort(_: Any) -> Abort:
            self._parked = False
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)

    async def _wait(self, seconds: float) -> None:  # noqa: ASYNC910 - part of that task
        """Let a failing storage alone for a while, unless somebody waits for an answer, or at the end."""
        closing = self._closing
        with trio.move_on_after(min(seconds, _RETRY_FIRST) if closing else seconds):  # noqa: ASYNC912
            while self._closing == closing and (closing or not self._prompted):
                await self._park()

    async def _commit(  # noqa: ASYNC910 - part of that task
        self, batch: list[Item], commit: Callable[[Any], Awaitable[list[Any]]]
    ) -> None:  # fmt: skip
        self._writing = batch
        started = self.clock()
        operations = [item.operation for item in batch if item.operation is not None]
        try:
            results = await commit(operations) if operations else []
        except StorageError as error:
            self._writing = []
            self._after_failure(batch, error)
            return  # noqa: ASYNC910
        self._writing = []
        self._since = self.clock() if self._queue else started
        self.commits += 1
        self.written += len(operations)
        if self.failing is not None:
            self.failing, self._delay = None, 0.0
            self._told(None)
        following = iter(results)
        for item in batch:
            item.done(None if item.operation is None else next(following))

    def _after_failure(self, batch: list[Item], error: StorageError) -> None:
        self.failures += 1
        if self.failing is None:
            log.error("%s", error)
            self._told(error)
        self.failing = error
        self._delay = min(_RETRY_MOST, 2 * self._delay or _RETRY_FIRST)
        again = [item for item in batch if item.failed(error)]
        self._queue = again + self._queue

    async def _in_thread(self, operations: list[Operation]) -> list[Any]:
        return await trio.to_thread.run_sync(self.storage.commit, operations, limiter=self._one)

    async def _inline(self, operations: list[Operation]) -> list[Any]:
        seconds = self.storage.latency()
        if seconds:
            await trio.sleep(seconds)
        else:
            await trio.lowlevel.checkpoint()
        return self.storage.commit(operations)

    def close(self) -> None:
        """Write what there is, then end; `abort` ends the trying of what a failing storage refuses."""
        self._closing = True
        self._wake()

    def abort(self) -> None:
        """End now; a commit that is under way is still waited for."""
        self._closing = True
        self._scope.cancel()


class Prompt(ABC):
    """An item that somebody waits for: a failing storage is tried again at once for it."""

    def __init__(self, operation: Operation | None) -> None:
        self.operation = operation
        self.task: trio.lowlevel.Task | None = None
        self._result: Any = None
        self._error: Exception | None = None

    async def wait(self, journal: Journal) -> Any:
        """Wait for the result.

        When cancelled before it is being written, it is taken back; after that, the end is waited for.
        """
        self.task = current_task()
        await wait_task_rescheduled(lambda _: self.abort(journal))
        return self.outcome()

    def outcome(self) -> Any:
        """The result, or the error raised; for a task that has been woken. O(1)."""
        if self._error is not None:
            raise self._error
        return self._result

    def abort(self, journal: Journal) -> Abort:
        """The task that waits has been cancelled. O(queued)."""
        if journal.withdraw(self):
            self.withdrawn()
            return Abort.SUCCEEDED
        return Abort.FAILED

    @abstractmethod
    def withdrawn(self) -> None:
        """It was taken back."""

    @abstractmethod
    def done(self, result: Any) -> None:
        """See `Item`."""

    @abstractmethod
    def failed(self, error: StorageError) -> bool:
        """See `Item`."""

    def tell(self, result: Any, error: Exception | None = None) -> None:
        """Wake whoever waits. O(1)."""
        self._result, self._error = result, error
        if self.task is not None:
            reschedule(self.task)


@final
class _Call(Prompt):
    """An operation whose result somebody waits for; None only waits for those before it."""

    def withdrawn(self) -> None:
        """Nothing was promised."""

    def done(self, result: Any) -> None:
        self.tell(result)

    def failed(self, error: StorageError) -> bool:
        self.tell(None, None if self.operation is None else _copy(error))
        return False


@final
class Unwatched:
    """An operation that nobody waits for; a failing storage gets it again."""

    def __init__(self, operation: Any) -> None:
        self.operation = operation

    def done(self, result: Any) -> None:
        """It is durable."""

    def failed(self, error: StorageError) -> bool:
        """Try again."""
        return True


def _copy(error: StorageError) -> StorageError:
    """The same error for another task: raising one object in several mixes up their tracebacks."""
    copy = StorageError(str(error), unknown=error.unknown)
    copy.__cause__ = error
    return copy
