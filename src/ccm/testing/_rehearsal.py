"""A workload through a real manager on virtual time, fast: about ten thousand messages a second."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import final

import attrs
import trio

from ccm._config import Config
from ccm._message import Priority
from ccm._statistics import Statistics
from ccm.testing._clock import EventClock
from ccm.testing._figures import GroupFigures, Timeline
from ccm.testing._performance import Handler, Performance
from ccm.testing._simulate import _Guard, _schedule
from ccm.testing._traffic import Arrival
from ccm.testing._verdicts import Check

_STEPS = 300


@final
@attrs.frozen(kw_only=True)
class Rehearsal:
    """What came out of `rehearse`. Times in seconds.

    Attributes:
        sent: messages handed in.
        duration: length of the window in which they arrived; shares and rates are of this window.
        seconds: when the last message had its outcome, or the end of the window, whichever is later.
        classes, tenants: figures of each class, and of each tenant in the order of their first outcomes.
        timeline: the same step by step.
        peak_waiting: the most turns that waited at a time.
        capacity: slot-seconds that existed in the window.
        used: share of the capacity in which a handler ran.
        goodput: share of the capacity that went into attempts that answered.
        replies_per_second: answered messages per second of the window.
        statistics: the manager's own at the end.
        checks: the laws, each checked from outside.
    """

    sent: int
    duration: float
    seconds: float
    classes: Mapping[Priority, GroupFigures]
    tenants: Mapping[str, GroupFigures]
    timeline: Timeline
    peak_waiting: int
    capacity: float
    used: float
    goodput: float
    replies_per_second: float
    statistics: Statistics
    checks: tuple[Check, ...]

    @property
    def total(self) -> GroupFigures:
        """The figures of all messages together. O(classes x buckets)."""
        return GroupFigures.sum(list(self.classes.values()))

    @property
    def ok(self) -> bool:
        """Whether every law held."""
        return all(check.ok for check in self.checks)


def rehearse(
    arrivals: Iterable[Arrival], handler: Handler, *, config: Config | None = None,
    fallback: Handler | None = None, seed: int = 0, duration: float | None = None,
    step: float | None = None, patience: float = 3600.0, progress: Callable[[float], object] | None = None,
) -> Rehearsal:  # fmt: skip
    """Send `arrivals` through a manager of its own on virtual time, and tell how each class and tenant fared.

    It does what a program would do that submits each message at its time under `simulate`, but many times
    as fast, and counts: for whole hours of a big bot. The manager is the real one, with `handler` as its only
    route. The same arguments give the same figures, in any process and with any PYTHONHASHSEED, under the
    conditions that `simulate` names. `trio.sleep` and all deadlines of Trio follow the virtual time.

    A message that has to wait for room (`Overflow.WAIT`) waits in a task of its own, first come first served.

    Args:
        arrivals: messages in order of time, read as they come due; `traffic` and `irc_traffic` make them. A
            message without a priority is NORMAL.
        handler: async function that takes a turn; a `FakeModel`, or your own.
        config: settings; None is `Config()`.
        fallback: as for `open_manager`.
        seed: chooses the order in which tasks that are runnable at the same time take their steps, and the
            delays of retries.
        duration: seconds, > 0, in which messages arrive; later ones are not sent. None: until the last one.
        step: seconds of a step of the timeline, > 0; None is a 300th of `duration`, or 1 s without one.
        patience: seconds, > 0, that messages get after `duration` before the manager is closed, which ends
            those that are left as `cancelled`, `config.drain` seconds later.
        progress: is called with the virtual time after each step.

    Raises:
        ValueError: an argument is out of range, or the arrivals are not in order.
        Deadlock: the manager cannot close, because a handler never ends.
        Exception: what a message raised that is not valid, or what the manager ended with.

    Not to be called from inside a Trio program. While it runs, the garbage collector looks less often.
    """
    for name, value in (("duration", duration), ("step", step), ("patience", patience)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be finite seconds > 0, got {value!r}")
    guard = _Guard(math.inf)
    clock = EventClock(lambda: guard.deadlock(clock.now))
    if step is None:
        step = 1.0 if duration is None else duration / _STEPS
    run = Performance(clock, config or Config(), step, duration, progress)
    with _schedule(seed), _less_collecting():
        try:
            trio.run(guard.watch, run.program, (arrivals, handler, fallback, patience), clock=clock)
        except (Exception, BaseExceptionGroup) as error:
            if guard.finding is None or error is guard.finding:
                inner = _innermost(error)
                raise inner from inner.__cause__
            raise guard.finding from error
    if guard.finding is not None:
        raise guard.finding
    return Rehearsal(
        sent=run.sent, duration=run.window, seconds=run.seconds, classes=run.classes, tenants=run.tenants,
        timeline=run.recorder.timeline(), peak_waiting=run.peak_waiting, capacity=run.capacity, used=run.used,
        goodput=run.goodput, replies_per_second=run.replies_per_second, statistics=run.statistics,
        checks=run.checks(),
    )  # fmt: skip


def _innermost(error: BaseException) -> BaseException:
    """A nursery wraps even a single error; whoever calls should see their own."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@contextmanager
def _less_collecting() -> Iterator[None]:
    """Nearly all that a message allocates is freed without the collector, which would look at all the rest
    again and again."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
