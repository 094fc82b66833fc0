"""Instruments that break a program at a chosen step, and that look at it whenever it stands still.

Trio switches an instrument off as soon as it raises, with nothing but a log line: a test would pass
because its check died. So these two never raise; they collect, and say so afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, final

import outcome
import trio

_KEPT = 100


class _Collector(trio.abc.Instrument):
    """What both share: the findings, and a `with` block that is the instrument's time of service.

    Leaving the block raises what was collected, unless an error of the block is on its way.
    """

    def __init__(self) -> None:
        self.violations: list[tuple[float, object]] = []

    def _collect(self, finding: object) -> None:
        # The first ones tell the story; a broken law would else fill the memory at each idle moment.
        if len(self.violations) < _KEPT:
            self.violations.append((trio.current_time(), finding))

    def raise_if_violated(self) -> None:
        """Raise what was collected.

        Raises:
            AssertionError: lists every violation with its time; its cause is the first one that is an
                exception itself.
        """
        if not self.violations:
            return
        lines = [f"  at {at:g}: {finding!r}" for at, finding in self.violations]
        cause = next((found for _, found in self.violations if isinstance(found, BaseException)), None)
        raise AssertionError("\n".join([f"{type(self).__name__} found:", *lines])) from cause

    def __enter__(self) -> Self:
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        trio.lowlevel.remove_instrument(self)
        # A cancelled block is no failure, and a violation must not go with it unseen.
        if not isinstance(error, Exception):
            self.raise_if_violated()


@final
class CancelAt(_Collector):
    """Cancel something right before the n-th step of the run loop.

    A step is one task running from one place where it was blocked to the next. Steps are counted from
    the moment the instrument is added to the run: by entering it as a `with` block inside the program,
    or by passing it to `simulate(instruments=...)` or `trio.run`. Leaving the block removes it.

    To try every step of a program, count up until `fired` stays False::

        for n in itertools.count(1):
            cancel = CancelAt(n, scope := trio.CancelScope())
            simulate(program, scope, instruments=[cancel])
            if not cancel.fired:
                break

    Args:
        n: the step before which to act, >= 1.
        action: a `trio.CancelScope` to cancel, or a synchronous function to call. It runs inside the
            run loop and may do what an instrument may: cancel, set an event, put with `_nowait`.
            What it raises is collected in `violations`.
        task: count only the steps of tasks for which this is true; None counts all, Trio's own included.

    Attributes:
        steps: steps counted so far, also after the action.
        fired: whether the action was called.
        violations: `(time, exception)` of an action or a `task` filter that failed.
    """

    def __init__(
        self,
        n: int,
        action: trio.CancelScope | Callable[[], object],
        *,
        task: Callable[[trio.lowlevel.Task], bool] | None = None,
    ) -> None:
        if n < 1:
            raise ValueError(f"n must be >= 1, got {n!r}; 1 is the first step")
        super().__init__()
        self.steps = 0
        self.fired = False
        self._n = n
        self._action = action.cancel if isinstance(action, trio.CancelScope) else action
        self._counts = task

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        result = outcome.capture(self._step, task)
        if isinstance(result, outcome.Error):
            self._collect(result.error)

    def _step(self, task: trio.lowlevel.Task) -> None:
        if self._counts is not None and not self._counts(task):
            return
        self.steps += 1
        if self.steps == self._n:
            self.fired = True
            self._action()


@final
class WhenIdle(_Collector):
    """Call a check whenever every task is blocked and nothing is due.

    That is the moment to compare what could run with what does run: a turn that may start while a slot
    is free, or a waiter that nobody will wake, shows here and nowhere else. It is not called while a
    deadline has passed that Trio has not acted on yet, because there is still work due at this time.

    Args:
        check: a synchronous function that returns what is wrong: anything falsy means that all is well.
            Truthy results and whatever it raises are collected in `violations`. It must not
            change the program.

    Attributes:
        checks: how often it was called; assert that it is not 0.
        violations: the first 100 as `(time, finding)`.
    """

    def __init__(self, check: Callable[[], object]) -> None:
        super().__init__()
        self.checks = 0
        self._check = check

    def before_io_wait(self, timeout: float) -> None:
        # The timeout tells nothing: on an autojump clock it is 0 whether tasks are runnable or not.
        run = trio.lowlevel.current_statistics()
        if run.tasks_runnable or run.run_sync_soon_queue_size or run.seconds_to_next_deadline <= 0:
            return
        self.checks += 1
        result = outcome.capture(self._check)
        finding = result.error if isinstance(result, outcome.Error) else result.unwrap()
        if finding:
            self._collect(finding)
