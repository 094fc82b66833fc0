"""Calls across the border between asyncio and a Trio run that is its guest, cancellation both ways.

Both loops take turns in one thread, so nothing is shared between threads. Each call waits for the other
side's end, also when it is cancelled: what was begun there has been cleaned up when the caller goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple, final

import outcome
import trio
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@final
class Bridge:
    """One guest run and its host.

    Invariants: every Trio task that asyncio code waits for is in `nursery`; every asyncio task that Trio code
    waits for is in `_tasks` until it has ended.

    Attributes:
        nursery: where the Trio side of calls lives; None while there is none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.nursery: trio.Nursery | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def check(self) -> None:
        """Raise unless there is a Trio side to be called from here."""
        if self.nursery is None:
            raise trio.ClosedResourceError("this manager is closed; open a new one with ccm.aio.open_manager")

    # -- asyncio calls Trio ----------------------------------------------------------------------

    async def to_trio(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """From asyncio: `await function(*args)` in a Trio task of its own.

        When cancelled, the Trio task is cancelled; its end is waited for, and `asyncio.CancelledError` is
        raised whatever it returned.

        Raises:
            trio.ClosedResourceError: the manager is closed.
        """
        self.check()
        assert self.nursery is not None
        done: asyncio.Future[outcome.Outcome[T]] = self.loop.create_future()
        scope = trio.CancelScope()

        async def call() -> None:  # noqa: ASYNC910 - as the function does
            result: outcome.Outcome[T]
            try:
                with scope:
                    result = await outcome.acapture(function, *args)
                    if isinstance(result, outcome.Error) and _cancelled(result.error):
                        result.unwrap()
                if scope.cancelled_caught:
                    result = outcome.Error(asyncio.CancelledError())
            except BaseException:
                # The whole run ends: nothing can be told, but nobody may wait for it for ever.
                done.cancel()
                raise
            if not done.done():
                done.set_result(result)

        self.nursery.start_soon(call)
        return (await _ended(done, scope.cancel)).unwrap()

    # -- Trio calls asyncio ----------------------------------------------------------------------

    async def to_asyncio(self, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """From Trio: `await function(*args)` in an asyncio task of its own.

        When cancelled, the asyncio task is cancelled, and its end is waited for.

        Raises:
            RuntimeError: the asyncio task was cancelled although nobody cancelled the caller.
        """
        waiting, raise_cancel = current_task(), list[Callable[[], Any]]()
        task = self.loop.create_task(function(*args))
        self._tasks.add(task)

        def ended(task: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                error = task.exception()
                reschedule(waiting, outcome.Value(task.result()) if error is None else outcome.Error(error))
            elif raise_cancel:
                reschedule(waiting, outcome.capture(raise_cancel[0]))
            else:
                stray = RuntimeError("the asyncio task was cancelled although nobody cancelled the turn")
                reschedule(waiting, outcome.Error(stray))

        def abort(raise_cancelled: Callable[[], Any]) -> Abort:
            raise_cancel.append(raise_cancelled)
            task.cancel()
            return Abort.FAILED

        task.add_done_callback(ended)
        result: T = await wait_task_rescheduled(abort)
        return result


def _cancelled(error: BaseException) -> bool:
    """Whether Trio has to see the error: it is a cancellation, or contains one."""
    if isinstance(error, BaseExceptionGroup):
        return any(_cancelled(inner) for inner in error.exceptions)
    return isinstance(error, trio.Cancelled)


async def _ended(done: asyncio.Future[T], cancel: Callable[[], object]) -> T:
    """Wait for `done`; when cancelled, `cancel()` and wait all the same."""
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError as error:
            if done.cancelled():
                break
            cancelled = error
            cancel()
    if cancelled is not None:
        if not done.cancelled():
            done.exception()  # it has been looked at
        raise cancelled
    if done.cancelled():
        raise trio.ClosedResourceError("the manager ended while this call was under way")
    return done.result()
