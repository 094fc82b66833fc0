"""Threads and processes for what would hold up every other turn.

Processes are trio-parallel's: workers that live on from call to call, and one context per manager, so that
they end with it. anyio's were measured beside them (2 cores, Python 3.11). Both kill the worker of a
cancelled call within 2 ms, both make a dead worker the error of one call, both start one in 0.13 s. A warm
call takes 61 us with anyio and 87 us with trio-parallel, 5 us more with what is done here. What decided:
anyio's workers belong to the Trio run and outlive the manager, receive Ctrl-C themselves, lose what they
print, and an error whose `__init__` takes more than its text does not come back from them.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pickle
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import cached_property
from typing import Any, TypeVar, TypeVarTuple, final

import trio

from ._config import Config

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Seconds an idle worker process gets to leave by itself, when the manager closes, before it is killed.
GRACE = 1.0
MAX_THREADS = 16
MAX_PROCESSES = 8
# What pickle raises for a function or an argument that it cannot pickle; the function may raise it, too.
_PICKLE_ERRORS = (pickle.PicklingError, AttributeError, TypeError, RecursionError)


def usable_cpus() -> int:
    """The number of CPUs this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@final
class Pools:
    """One manager's places for threads and processes, first come, first served.

    Invariants: calls for a process are made in tasks below `_nursery`, which have ended before `aclose`, or
    stand in `_strays`; after `aclose` there is no call and no process.
    """

    def __init__(self, config: Config, nursery: trio.Nursery | None) -> None:
        self._config = config
        self._nursery = nursery
        self._closed = False
        self._strays: dict[trio.CancelScope, None] = {}
        self._exits = AsyncExitStack()
        self._workers: Any = None
        self._broken: tuple[type[Exception], ...] = ()

    @cached_property
    def threads(self) -> trio.CapacityLimiter:
        """Places for threads: `worker_threads`, or twice the CPUs, at most 16."""
        return trio.CapacityLimiter(self._config.worker_threads or min(2 * usable_cpus(), MAX_THREADS))

    @cached_property
    def processes(self) -> trio.CapacityLimiter:
        """Places for processes: `worker_processes`, or one for each CPU, at most 8."""
        return trio.CapacityLimiter(self._config.worker_processes or min(usable_cpus(), MAX_PROCESSES))

    async def in_thread(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """`Turn.in_thread`."""
        self._check(fn)
        return await trio.to_thread.run_sync(fn, *args, abandon_on_cancel=True, limiter=self.threads)

    async def in_process(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """`Turn.in_process`."""
        self._check(fn)
        if self._is_ours(trio.lowlevel.current_task()):
            return await self._call(fn, args)
        # A task that outlives the manager; a scope for each call would cost the others a tenth of it.
        with trio.CancelScope() as scope:
            self._strays[scope] = None
            try:
                return await self._call(fn, args)
            finally:
                del self._strays[scope]
        raise trio.ClosedResourceError("the manager was closed while a process worked for one of its turns")

    async def aclose(self) -> None:  # noqa: ASYNC910 - only when there is something to end
        """End all processes: those that work are killed, the others leave by themselves or are killed.

        Abandoned threads are not waited for. Not cancellable; takes `GRACE` seconds at most.
        """
        self._closed = True
        for scope in self._strays:
            scope.cancel()
        # A process that was killed while it idled, or that would not leave, is an error to trio-parallel;
        # here nobody waits for anything of it.
        with suppress(*self._broken):
            await self._exits.aclose()

    def _check(self, fn: object) -> None:
        if not callable(fn) or inspect.iscoroutinefunction(fn):
            raise TypeError(f"fn must be a synchronous function, got {fn!r}; await an async one directly")
        if self._closed:
            raise trio.ClosedResourceError("the manager of this turn is closed")

    def _is_ours(self, task: trio.lowlevel.Task | None) -> bool:
        """Whether the task is below the manager's nursery. O(nurseries between them), often one."""
        while task is not None:
            nursery = task.parent_nursery
            if nursery is self._nursery:
                return nursery is not None
            task = nursery and nursery.parent_task
        return False

    async def _call(self, fn: Callable[[*Ts], T], args: tuple[*Ts]) -> T:
        workers = self._workers or await self._open()
        try:
            result: T = await workers.run_sync(fn, *args, kill_on_cancel=True, limiter=self.processes)
            return result
        except self._broken as error:
            raise _died(error, fn) from error
        except _PICKLE_ERRORS:
            _check_picklable(fn, args)
            raise

    async def _open(self) -> Any:
        try:
            import trio_parallel
        except ImportError as error:
            raise ImportError(
                "turn.in_process needs trio-parallel; install it with: pip install 'ccm[process]'"
            ) from error
        context = trio_parallel.open_worker_context(grace_period=GRACE)
        self._broken = (trio_parallel.BrokenWorkerError,)
        self._workers = await self._exits.enter_async_context(context)
        return self._workers


def _died(error: Exception, fn: object) -> trio.BrokenResourceError:
    code = getattr(error.args[-1], "exitcode", None)
    return trio.BrokenResourceError(
        f"the process that ran {fn!r} died with exit code {code!r}; call again if it may run twice"
    )


def _check_picklable(fn: object, args: tuple[object, ...]) -> None:
    """Raise TypeError if it was the call itself that could not be sent to a process."""
    # trio-parallel, too, takes cloudpickle when it is there.
    name = "cloudpickle" if importlib.util.find_spec("cloudpickle") else "pickle"
    try:
        importlib.import_module(name).dumps((fn, args))
    except Exception as error:
        raise TypeError(
            f"{fn!r} and its arguments must be picklable to run in a process: {error}; use a function at the"
            " top of a module and plain data, or turn.in_thread"
        ) from error
