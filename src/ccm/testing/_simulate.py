"""Run a program on virtual time, with a schedule drawn from a seed, and never hang.

This is the only module that touches Trio's private parts: the random generator that shuffles the tasks
of each pass of the run loop, the switch that sorts them first, and the cancel status of a task.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import ClassVar, TypeVar, TypeVarTuple, final

import outcome
import trio
from trio._core import _run
from trio._core._mock_clock import MockClock  # trio.testing would load pytest where it is installed

from ccm.testing._instruments import CancelAt, WhenIdle

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_SHOWN = 20
_MAX_PASSES = 1_000_000


class Stuck(Exception):
    """A simulated program did not end.

    Attributes:
        at: virtual time at which it was given up, in seconds from the start.
        tasks: each task of the program that was alive then, as `name: where > it > waits`.
    """

    why: ClassVar[str] = "the program did not end"

    def __init__(self, at: float, tasks: Sequence[str]) -> None:
        super().__init__(at, tuple(tasks))
        self.at = at
        self.tasks = tuple(tasks)

    def __str__(self) -> str:
        shown = [f"  {task}" for task in self.tasks[:_SHOWN]]
        if len(self.tasks) > _SHOWN:
            shown.append(f"  ... and {len(self.tasks) - _SHOWN} more, see `tasks`")
        return "\n".join([f"{self.why} at {self.at:g} s; its tasks:", *shown])


@final
class Deadlock(Stuck):
    """Every task is blocked and no deadline is left: nothing can ever happen."""

    why = "every task is blocked for ever"


@final
class Livelock(Stuck):
    """Tasks keep running but time stands still: a million passes of the run loop at one instant."""

    why = "tasks spin while time stands still"


@final
class Overrun(Stuck):
    """The program is still at work when its virtual time limit is over."""

    why = "the time limit is over, the program still at work"


def simulate(
    async_fn: Callable[[*_Ts], Awaitable[_T]],
    *args: *_Ts,
    seed: int = 0,
    limit: float | None = 3600.0,
    instruments: Iterable[trio.abc.Instrument] = (),
) -> _T:
    """Run `async_fn(*args)` in its own `trio.run` on virtual time and return what it returns.

    Time starts at 0 and jumps to the next deadline whenever every task is blocked, so an hour takes no
    longer than its work. The same seed gives the same schedule, in any process and with any
    PYTHONHASHSEED, as long as the program itself draws from seeded generators, does not iterate over
    sets, and leaves no async generator to the garbage collector. Threads, processes and sockets do not
    belong in it: the clock does not wait for them.

    Args:
        async_fn: the program.
        args: its positional arguments.
        seed: chooses the order in which tasks that are runnable at the same time take their steps.
        limit: virtual seconds, > 0, after which the program is given up; None means never.
        instruments: Trio instruments for the whole run. What `CancelAt` and `WhenIdle` among them
            collected is raised when the program has ended without an error of its own.

    Raises:
        Deadlock: every task is blocked and no deadline is left.
        Livelock: time stands still while tasks spin.
        Overrun: the limit is over.
        AssertionError: an instrument collected violations.

    A program that is given up is cancelled, then its shields are lifted, then the error is thrown into
    whatever still ignores it; `__cause__` is the error it ended with, if any. Not to be called from
    inside a Trio program, nor from two threads at a time: Trio's schedule is one per process.
    """
    if limit is not None and not limit > 0:
        raise ValueError(f"limit must be seconds > 0 or None, got {limit!r}")
    active = list(instruments)
    guard = _Guard(math.inf if limit is None else limit)
    clock = MockClock(autojump_threshold=0)
    with _schedule(seed):
        try:
            value = trio.run(guard.watch, async_fn, args, clock=clock, instruments=[*active, guard])
        except Exception as error:
            if guard.finding is None or error is guard.finding:
                raise
            raise guard.finding from error
    if guard.finding is not None:
        raise guard.finding
    for instrument in active:
        if isinstance(instrument, (CancelAt, WhenIdle)):
            instrument.raise_if_violated()
    return value


@contextmanager
def _schedule(seed: int) -> Iterator[None]:
    """Let `seed` choose the schedule of the runs in this block; put everything back afterwards.

    The process's own generator is seeded too: the delays of retries are drawn from it.
    """
    allowed, state, shared = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate(), random.getstate()
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    _run._r.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING = allowed  # type: ignore[misc]
        _run._r.setstate(state)
        random.setstate(shared)


class _Guard(trio.abc.Instrument):
    """Notices that the program cannot go on, and takes it down.

    It looks before each wait for I/O. A first quiet look proves nothing: a task in
    `wait_all_tasks_blocked` wakes up in that same pass. Two looks without a step of any task between
    them do, because there is nothing left that Trio would do by itself.
    """

    def __init__(self, limit: float) -> None:
        self.finding: Stuck | None = None
        self._scope = trio.CancelScope()
        self._limit = self._grace = limit
        self._escalation = iter((self._scope.cancel, self._lift_shields))
        self._stepped = False
        self._now = 0.0
        self._passes = 0

    async def watch(self, async_fn: Callable[[*_Ts], Awaitable[_T]], args: tuple[*_Ts]) -> _T:
        self._root = trio.lowlevel.current_task()
        with self._scope:
            return await async_fn(*args)
        assert self.finding is not None
        raise self.finding

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._stepped = True

    def before_io_wait(self, timeout: float) -> None:
        now, stepped = trio.current_time(), self._stepped
        self._passes = self._passes + 1 if now == self._now else 0
        self._now, self._stepped = now, False
        if now > self._limit:
            self._give_up(Overrun)
        elif self._passes > _MAX_PASSES:
            self._give_up(Livelock)
        elif not stepped and self._nothing_can_happen():
            self._give_up(Deadlock)

    def deadlock(self, now: float) -> None:
        """Somebody else has seen, at `now`, that nothing can happen any more."""
        self._now = now
        self._give_up(Deadlock)

    @staticmethod
    def _nothing_can_happen() -> bool:
        run = trio.lowlevel.current_statistics()
        runnable = run.tasks_runnable or run.run_sync_soon_queue_size
        return not runnable and run.seconds_to_next_deadline == math.inf

    def _give_up(self, kind: type[Stuck]) -> None:
        """Take the next, harder measure; each is given as much time again to clean up."""
        if self.finding is None:
            self.finding = kind(self._now, sorted(map(_describe, _tree(self._root))))
        self._limit, self._passes = self._now + self._grace, 0
        next(self._escalation, self._throw)()

    def _lift_shields(self) -> None:
        for task in _tree(self._root):
            status: _run.CancelStatus | None = task._cancel_status
            while status is not None:
                status._scope.shield = False
                status = status._parent

    def _throw(self) -> None:
        """Wake those that refuse to be cancelled: they would keep the run, and the test, for ever."""
        error = RuntimeError("the simulation was given up, and this task refused to be cancelled")
        for task in _tree(self._root):
            # A parent that waits for its children gets its turn when they are gone.
            waits = any(nursery.child_tasks for nursery in task.child_nurseries)
            if task._next_send_fn is None and not waits:
                trio.lowlevel.reschedule(task, outcome.Error(error))


def _tree(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda child: child._counter):
            yield from _tree(child)


def _describe(task: trio.lowlevel.Task) -> str:
    frames = [
        f"{frame.f_code.co_qualname} ({PurePath(frame.f_code.co_filename).name}:{line})"
        for frame, line in task.iter_await_frames()
        # How Trio itself parks a task says nothing; what was called in Trio does.
        if not frame.f_globals.get("__name__", "").startswith("trio._core.")
        and frame.f_code.co_qualname != "_Guard.watch"
    ]
    return f"{task.name}: {' > '.join(frames[-6:])}"
