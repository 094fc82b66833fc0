"""The tasks that run handlers, and the one barrier behind which a handler may fail.

A worker is a task that lives on from turn to turn, because starting a task for every message costs
more than everything else ccm does for it. Two more departures from the usual way of writing Trio
have the same reason, a measured cost on the path of every message:

* An idle worker is woken by `reschedule` with its turn already in its hands, not through a channel.
  What makes it safe: a worker is in `Pool.idle` exactly while it is parked; whoever takes it out of
  there wakes it, once, in the same synchronous step; and if it is cancelled while parked, the abort
  function takes it out, so nobody can hand it a turn that it would never see.
* All turns of a worker share one cancel scope. It is cancelled for one turn only (`interrupt` checks
  which turn the worker has), and a scope that has been cancelled is replaced before the next turn.
  Time-outs are kept by the dispatcher's timekeeper as plain numbers.

The scope is shielded: a surrounding cancellation must not end turns that may still finish within the
drain deadline. The shield ends there at the latest, when the dispatcher interrupts every worker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, final

import trio
from trio.lowlevel import Abort, reschedule, wait_task_rescheduled

from ._message import Message, Reply
from ._turn import Turn

if TYPE_CHECKING:
    from ._record import TurnRecord
    from ._tools import Tracer

Deliver = Callable[[Reply, Message], Awaitable[None]]

# A worker that finds one turn after another lets other tasks run after this many seconds.
MAX_HOLD = 0.001


class Owner(Protocol):
    """What a worker needs to know. All of it is synchronous: no turn is lost in between."""

    def now(self) -> float:
        """The time on Trio's clock."""

    def answer(self, record: TurnRecord, value: Any) -> Reply:
        """What the handler returned as a reply; raises when it is none."""

    def replied(self, record: TurnRecord, now: float) -> None:
        """The attempt succeeded."""

    def failed(self, record: TurnRecord, error: Exception) -> None:
        """The attempt raised."""

    def cancelled(self, record: TurnRecord) -> None:
        """The attempt was cancelled and has cleaned up."""

    def crashed(self, record: TurnRecord, error: BaseException) -> None:
        """The attempt raised what no handler may raise; the manager is about to end."""

    def following(self, now: float) -> TurnRecord | None:
        """The turn that takes the slot that has become free."""


@final
class Worker:
    """One task of the pool and the turn it has."""

    __slots__ = ("abort", "leaving", "record", "scope", "since", "spent", "task")

    def __init__(self, record: TurnRecord) -> None:
        self.record: TurnRecord | None = record
        self.scope = trio.CancelScope(shield=True)
        self.spent = False
        self.leaving = False
        self.since = 0.0
        self.task: trio.lowlevel.Task | None = None
        self.abort: Callable[[Any], Abort]

    def interrupt(self) -> None:
        """Cancel the turn that it has now."""
        self.spent = True
        self.scope.cancel()


@final
class Pool:
    """Workers that grow in number on demand and leave when they have been idle for long.

    Invariants: `idle` are the parked workers, last used last; `least_idle` is the smallest length of `idle`
    since the last `trim`.
    """

    def __init__(self, owner: Owner, nursery: trio.Nursery, deliver: Deliver | None) -> None:
        self._owner = owner
        self._nursery = nursery
        self._deliver = deliver
        self.idle: list[Worker] = []
        self.size = 0
        self.least_idle = 0
        self.closing = False
        self.tracer: Tracer | None = None

    def run(self, record: TurnRecord) -> None:
        """Give `record` to a worker. O(1)."""
        idle = self.idle
        if idle:
            worker = idle.pop()
            if len(idle) < self.least_idle:
                self.least_idle = len(idle)
            worker.record = record
            record.worker = worker
            assert worker.task is not None
            reschedule(worker.task)
        else:
            self.least_idle = 0
            worker = record.worker = Worker(record)
            self.size += 1
            self._nursery.start_soon(self._work, worker, name="ccm worker")

    def trim(self) -> None:
        """Dismiss the workers that nobody needed since the last time. O(workers dismissed)."""
        spare, self.idle = self.idle[: self.least_idle], self.idle[self.least_idle :]
        for worker in spare:
            self._dismiss(worker)
        self.least_idle = len(self.idle)

    def close(self) -> None:
        """Dismiss idle workers now and the others after their turn. O(idle workers)."""
        self.closing = True
        idle, self.idle = self.idle, []
        for worker in idle:
            self._dismiss(worker)

    @staticmethod
    def _dismiss(worker: Worker) -> None:
        worker.leaving = True
        assert worker.task is not None
        reschedule(worker.task)

    async def _work(self, worker: Worker) -> None:  # noqa: ASYNC910 - a task of its own
        worker.task = trio.lowlevel.current_task()
        worker.since = self._owner.now()

        def abort(_: Any) -> Abort:
            self.idle.remove(worker)
            worker.leaving = True
            return Abort.SUCCEEDED

        worker.abort = abort
        try:
            while not worker.leaving:
                with worker.scope:
                    await self._serve(worker)
                if worker.spent:
                    worker.spent = False
                    worker.scope = trio.CancelScope(shield=True)
        finally:
            self.size -= 1

    async def _serve(self, worker: Worker) -> None:  # noqa: ASYNC910 - part of that task
        """Run one attempt after another, each to its end, until the scope is spent or the worker leaves."""
        owner, deliver = self._owner, self._deliver
        while not (worker.spent or worker.leaving):
            record = worker.record
            if record is None:
                if self.closing:
                    worker.leaving = True
                    return  # noqa: ASYNC910
                self.idle.append(worker)
                await wait_task_rescheduled(worker.abort)
                record = worker.record
                if record is None:
                    continue
                worker.since = record.begun
            if record.cancel_by is not None:
                # Cancelled before its first step: the scope that was cancelled for it has been replaced
                # already, so nothing would stop its handler.
                owner.cancelled(record)
                self._go_on(worker, owner.now())
                continue
            try:
                if record.begun - worker.since > MAX_HOLD:
                    await trio.lowlevel.checkpoint()
                    worker.since = owner.now()
                if not record.answered:
                    route = record.route
                    handler = route.handler if record.degraded is None else route.fallback
                    if self.tracer is None:
                        value = await handler(Turn(record))  # type: ignore[misc]
                    else:
                        value = await self.tracer.attempt(handler, Turn(record))  # type: ignore[arg-type]
                    plain = record.degraded is None and record.extras is None
                    if plain and (value is None or type(value) is str):
                        record.text = value
                    else:
                        record.reply = owner.answer(record, value)
                    record.answered = True
                if deliver is not None and (record.extras is not None or not record.asked):
                    addressee = record.addressee()
                    if addressee is not None:
                        await deliver(record.answer(), addressee)
            except BaseException as error:  # noqa: ASYNC103 - `_barrier` sorts it out
                cancelled = self._barrier(worker, record, error)
                self._go_on(worker, owner.now())
                if cancelled is not None:
                    raise cancelled from None  # noqa: ASYNC104
            else:
                now = owner.now()
                owner.replied(record, now)
                worker.record = record = owner.following(now)
                if record is not None:
                    record.worker = worker

    def _go_on(self, worker: Worker, now: float) -> None:
        worker.record = following = self._owner.following(now)
        if following is not None:
            following.worker = worker

    def _barrier(self, worker: Worker, record: TurnRecord, error: BaseException) -> BaseException | None:
        """Sort out what a handler raised: failures end here; cancellation and bugs go on."""
        ours, rest = _split(error)
        if rest is not None and not isinstance(rest, Exception):
            worker.record = None
            worker.leaving = True
            self._owner.crashed(record, rest)
            raise error
        if ours is None:
            assert rest is not None
            self._owner.failed(record, rest)
            return None
        if not worker.spent:
            # Nothing but `interrupt` reaches into the shielded scope, so this one came from nowhere.
            stray = RuntimeError("the handler raised trio.Cancelled although nobody cancelled it")
            stray.__cause__ = ours
            self._owner.failed(record, stray)
            return None
        record.error = rest
        self._owner.cancelled(record)
        return ours


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """The part of an error that is cancellation, and the rest."""
    if isinstance(error, trio.Cancelled):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)
    return None, error
