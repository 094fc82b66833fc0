"""`Batcher`: many callers who each want one thing become few fetches of many things."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, final

import outcome
import trio
from trio.lowlevel import Abort, checkpoint_if_cancelled, current_task, reschedule, wait_task_rescheduled

from ._checks import refuse
from ._core.batch import FULL, Batch, BatchQueue, BatchStatistics, Ticket
from ._core.lanes import INF
from ._message import Priority, check_priority

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

FetchMany = Callable[[list[K]], Awaitable[Mapping[K, V | Exception] | Sequence[V | Exception]]]


def _answers(keys: list[K], result: Any) -> dict[K, Any]:
    """What each key's callers get, from what `fetch_many` returned."""
    if isinstance(result, Mapping):
        return {key: result[key] if key in result else KeyError(key) for key in keys}
    if isinstance(result, (list, tuple)):
        if len(result) != len(keys):
            raise ValueError(
                f"fetch_many returned {len(result)} results for {len(keys)} keys; return one for each key,"
                " in order, or a mapping"
            )
        return dict(zip(keys, result, strict=True))
    raise TypeError(f"fetch_many must return a mapping or a list, got {result!r}")


@final
class Batcher(Generic[K, V]):
    """Turns calls that come at about the same time into one `fetch_many(keys)`.

    `async with Batcher(fetch_many) as batch: ... await batch(key)`. Open it outside the manager whose
    handlers use it, so that it outlives them. Each key is fetched once, however many ask for it at that
    time; a fetch that is under way already answers nobody who comes later. Leaving the block fetches what
    is waited for and waits for it; when the block fails or is cancelled, fetches are cancelled instead.

    Args:
        fetch_many: async function that gets a list of different keys and returns a mapping from key to
            value, or a list of values in the order of the keys. A value that is an `Exception` is raised
            for that key alone; so is a `KeyError` for a key that a mapping leaves out. What `fetch_many`
            itself raises is raised for every caller of that batch (the same object).
        max_size: keys of one batch, 1 to 1,000,000.
        max_delay: seconds the first key of a batch waits for company, finite and >= 0; 0 still gathers
            what is asked for in the same step of the run loop.
        concurrency: fetches at the same time, 1 to 100,000. While all are taken, the batch with the most
            urgent caller is the next.

    Raises:
        TypeError, ConfigError: an argument is not what it must be; the text names it.
    """

    def __init__(
        self, fetch_many: FetchMany[K, V], *, max_size: int = 64, max_delay: float = 0.005,
        concurrency: int = 8,
    ) -> None:  # fmt: skip
        if not callable(fetch_many):
            raise TypeError(f"fetch_many must be an async function, got {fetch_many!r}")
        for field, number, high in (("max_size", max_size, 1_000_000), ("concurrency", concurrency, 100_000)):
            if type(number) is not int or not 1 <= number <= high:
                raise refuse(field, number, f"a whole number from 1 to {high}")
        if type(max_delay) not in (int, float) or not 0 <= max_delay < INF:
            raise refuse("max_delay", max_delay, "finite seconds >= 0")
        self._fetch_many = fetch_many
        self._queue: BatchQueue[K] = BatchQueue(
            max_size=max_size, max_delay=max_delay, concurrency=concurrency
        )
        self._block: AbstractAsyncContextManager[None] | None = None
        self._nursery: trio.Nursery | None = None
        self._tasks: dict[Ticket[K], trio.lowlevel.Task] = {}
        self._scopes: dict[Batch[K], trio.CancelScope] = {}
        self._context = copy_context()
        self._alarm = trio.CancelScope()
        self._wake = INF

    async def __aenter__(self) -> Self:
        if self._block is not None:
            raise RuntimeError("this batcher has been opened before; make another one")
        self._block = self._open()
        await self._block.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._block is not None
        return await self._block.__aexit__(kind, error, trace)  # noqa: ASYNC102 - the nursery's own exit

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        only: BaseException
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._context = copy_context()
                keeper = trio.CancelScope()
                nursery.start_soon(self._keep_time, keeper, name="ccm batch timekeeper")
                try:
                    yield
                    self._queue.flush()
                finally:
                    self._nursery = None
                    keeper.cancel()
                self._start(nursery)
        except BaseExceptionGroup as group:
            # The nursery wraps even a single error; whoever uses the block should see their own.
            if len(group.exceptions) > 1:
                raise
            only = group.exceptions[0]
        else:
            return
        finally:
            self._nursery = None
            self._scopes.clear()
            for ticket in self._queue.drop_all():
                self._tell(ticket, self._closed())
        raise only

    async def __call__(self, key: K, *, priority: Priority = Priority.NORMAL) -> V:
        """The value of `key`, fetched together with what others ask for at about the same time.

        Args:
            key: what to fetch; hashable.
            priority: how urgent it is; decides which batch is next while all fetches are taken.

        Raises:
            KeyError: `fetch_many` returned a mapping without this key.
            trio.ClosedResourceError: the batcher is not open, or its block was cancelled meanwhile.
            Exception: what `fetch_many` raised, or returned for this key.

        When cancelled, only this caller leaves; a fetch that nobody waits for any more is cancelled.
        """
        await checkpoint_if_cancelled()
        priority = check_priority(priority)
        nursery = self._nursery
        if nursery is None:
            raise trio.ClosedResourceError("this batcher is not open; use it inside its 'async with' block")
        ticket = self._queue.join(key, priority, trio.current_time())
        self._tasks[ticket] = current_task()
        if ticket.batch.state == FULL:
            self._start(nursery)
        else:
            # Even without delay the alarm rings in a later step only: until then others may join.
            self._set_alarm()

        def abort(_: Any) -> Abort:
            del self._tasks[ticket]
            if self._queue.leave(ticket):
                self._scopes[ticket.batch].cancel()
            return Abort.SUCCEEDED

        value: V = await wait_task_rescheduled(abort)
        return value

    def statistics(self) -> BatchStatistics:
        """One consistent picture. O(1)."""
        return self._queue.statistics()

    @staticmethod
    def _closed() -> Exception:
        return trio.ClosedResourceError("the batcher was closed before it brought the answer")

    def _tell(self, ticket: Ticket[K], answer: Any) -> None:
        result = outcome.Error(answer) if isinstance(answer, Exception) else outcome.Value(answer)
        reschedule(self._tasks.pop(ticket), result)

    # -- fetching --------------------------------------------------------------------------------

    def _start(self, nursery: trio.Nursery) -> None:
        """Start every fetch that may start, and set the alarm for the next one."""
        now = trio.current_time()
        while (batch := self._queue.start(now)) is not None:
            self._scopes[batch] = trio.CancelScope()
            # A fetch answers many callers: it gets the context of the block, not that of one of them.
            self._context.run(partial(nursery.start_soon, self._fetch, batch, nursery, name="ccm batch"))
        self._set_alarm()

    def _set_alarm(self) -> None:
        self._wake = self._alarm.deadline = self._queue.next_deadline()

    async def _keep_time(self, keeper: trio.CancelScope) -> None:
        with keeper:
            while True:
                with trio.CancelScope(deadline=self._wake) as self._alarm:
                    await trio.sleep_forever()
                if self._nursery is not None:
                    self._start(self._nursery)

    async def _fetch(self, batch: Batch[K], nursery: trio.Nursery) -> None:  # noqa: ASYNC910 - own task
        keys = [key for key, callers in batch.callers.items() if callers]
        failure: Exception | None = None
        answers: dict[K, Any] = {}
        try:
            with self._scopes[batch]:
                if keys:  # or all of its callers have left before this first step
                    answers = _answers(keys, await self._fetch_many(keys))
        except Exception as error:
            failure = error
        # Whatever else came out ends the block, which tells the callers in its own time: those inside
        # of it are cancelled and need no second error.
        del self._scopes[batch]
        for ticket in self._queue.finish(batch):
            self._tell(ticket, answers.get(ticket.key, failure))
        self._start(nursery)
