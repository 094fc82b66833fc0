"""Runs what the scheduler picks: launches, ends, cancellations, timers.

Everything here but the timekeeper is synchronous: between two awaits of anybody the books, the
scheduler and the workers agree, which is what the laws are checked against.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import trio

from . import _events as events
from ._attempts import Attempts
from ._books import Books
from ._bus import Bus
from ._changes import Changes
from ._config import Config
from ._core.lanes import DONE, INF, RETRYING, RUNNING, WAITING
from ._core.scheduler import Scheduler
from ._core.sessions import SessionTable
from ._errors import Expired, Outcome
from ._outcome import Cancelled
from ._overload import LoadWatch
from ._record import TurnRecord
from ._stuck import report
from ._trends import Recorder
from ._worker import Deliver, Pool

if TYPE_CHECKING:
    from ._settling import Settler

GRACE = 1.0
"""Seconds after which a turn that was told to end is reported as stuck."""
FALLBACK_SECONDS = 5.0
"""Seconds a fallback handler may take."""
TRIM_SECONDS = 10.0
"""How often the pool looks for workers nobody needs."""


@final
class Dispatcher:
    """Owns the workers and the timekeeper; the nursery it is given owns their tasks.

    Invariants, between any two awaits: no startable turn waits beside a slot it may use; every turn in
    `scheduler.running` is in the hands of exactly one worker; the alarm is set no later than the next
    deadline of the scheduler, of a running turn and of the sessions; `_first_overdue` is no later than any
    deadline of a turn that a worker has.

    `on_end`, if set, is called with every turn that has got its outcome, the outcome's name, the seconds its
    last attempt took (0.0: it did not run) and the time; for those who measure. It must not raise.
    """

    def __init__(
        self, config: Config, scheduler: Scheduler, sessions: SessionTable, books: Books, bus: Bus,
        nursery: trio.Nursery, deliver: Deliver | None,
    ) -> None:  # fmt: skip
        self.config = config
        self.scheduler = scheduler
        self.sessions = sessions
        self.books = books
        self.bus = bus
        self.now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        self.recorder = Recorder(books, scheduler, self.now())
        self._timeline = self.recorder.timeline
        self.attempts = Attempts(self)
        self.pool = Pool(self.attempts, nursery, deliver)
        self.changes = Changes(self)
        shedding = config.shedding if config.enabled else None
        self.load = None if shedding is None else LoadWatch(shedding, self)
        self.settler: Settler | None = None
        self.on_room: Callable[[float], None] | None = None
        self.on_end: Callable[[TurnRecord, str, float, float], None] | None = None
        self.fallbacks: dict[int, TurnRecord] = {}
        self.idlers: list[trio.Event] = []
        self.debug = self.watched = config.debug
        self.aborted = False
        self._session_timeout = config.session_timeout
        self._keeper = trio.CancelScope(shield=True)
        self._alarm = trio.CancelScope()
        self.wake = INF
        self._first_overdue = INF
        self._next_trim = INF
        nursery.start_soon(self._keep_time, name="ccm timekeeper")

    # -- turns start -----------------------------------------------------------------------------

    def launch(self, record: TurnRecord, now: float) -> None:
        """Give a turn that the scheduler has started to a worker. O(1)."""
        if self.load is not None:
            self.load.started(record.priority, 0.0)
        self.begin(record, now)
        self.pool.run(record)

    def begin(self, record: TurnRecord, now: float) -> None:
        """Note the start of an attempt. O(1)."""
        record.begun = now
        record.attempt += 1
        if record.waited < 0.0:
            record.waited = waited = now - record.arrived
            record.book.wait[record.priority].record(waited)
        deadline = now + record.route.timeout
        if record.useless < deadline:
            deadline = record.useless
        record.deadline = deadline
        if deadline < self._first_overdue:
            self.expect(deadline)
        if self.scheduler.used > self.books.peak_running:
            self.books.peak_running = self.scheduler.used
        if self.bus.active:
            self.bus.publish(
                events.Started(now, record.turn_id, record.key, record.attempt, now - record.arrived)
            )

    def following(self, now: float) -> TurnRecord | None:
        """The next turn, for the worker that has just ended one.

        One is enough: whatever could not start before the slot was free still cannot once it is taken again.
        Unless a tenant has its own limit: then other slots may have been free all the time.
        """
        scheduler = self.scheduler
        if now >= scheduler.timers.next:
            self._due(now)
            self._fill(now)
        record = self._take(now) if scheduler.ready.count else None
        if scheduler.ready.limited and scheduler.ready.count:
            self._fill(now)
        if self.watched or scheduler.timers.next < self.wake:
            self.changed(now)
        return record

    def dispatch(self, now: float) -> None:
        """Bring everything up to `now` and start every turn that may start (law G7). O(log n) each."""
        if now >= self._timeline.edge:
            self.recorder.close(now)
        if now >= self.scheduler.timers.next:
            self._due(now)
        self._fill(now)
        self.changed(now)

    def _fill(self, now: float) -> None:
        while self.scheduler.ready.count and (record := self._take(now)) is not None:
            self.pool.run(record)

    def _take(self, now: float) -> TurnRecord | None:
        record: Any = self.scheduler.next(now)
        if record is None:
            return None
        if self.load is not None:
            self.load.started(record.lane.klass, self.scheduler.delay)
        places = record.ledger.places
        places[record.place] -= 1
        places[RUNNING] += 1
        record.place = RUNNING
        self.begin(record, now)
        return record  # type: ignore[no-any-return]

    def _due(self, now: float) -> None:
        for record in self.scheduler.due(now):
            assert isinstance(record, TurnRecord)
            if record.extras is not None and record.extras.members:
                self.changes.expire(record, now)
            else:
                self.degrade(record, Expired(), "expired", now)

    def changed(self, now: float) -> None:
        """After every step: set the alarm, let senders in, tell who waits for silence, check G1."""
        deadline = self.scheduler.timers.next
        if deadline < self.wake:
            self.wake_at(deadline)
        if self.on_room is not None:
            self.on_room(now)
        if self.idlers and not self.busy:
            for event in self.idlers:
                event.set()
            self.idlers.clear()
            self.watch()
        if self.debug:
            self.check()

    def watch(self) -> None:
        """Note whether `changed` has more to do than set the alarm: most of the time it has not."""
        self.watched = self.debug or self.on_room is not None or bool(self.idlers)

    @property
    def busy(self) -> int:
        """Turns without an outcome."""
        return self.books.messages.live + self.books.sides.live

    def position(self, record: TurnRecord) -> int:
        """Turns ahead of a waiting one. O(1)."""
        return self.scheduler.ahead(record)

    def estimated_wait(self, record: TurnRecord) -> float:
        """Seconds until a waiting turn starts, judged by recent turns. O(1)."""
        if record.place != WAITING:
            return 0.0
        return self.books.mean_service * (self.position(record) + 1) / self.scheduler.limit

    def patience(self) -> float:
        """Seconds after which half of what waits now should be gone. O(1)."""
        scheduler = self.scheduler
        return max(0.1, self.books.mean_service * (scheduler.waiting / scheduler.limit + 1) / 2)

    def check(self) -> None:
        """Assert that books, scheduler and sessions agree (law G1 and their own invariants)."""
        self.scheduler._check()
        self.sessions._check()
        messages, sides = self.books.messages, self.books.sides
        messages._check()
        sides._check()
        if self.load is not None:
            self.load.core._check()
        places = [a + b for a, b in zip(messages.places, sides.places, strict=True)]
        assert places[RUNNING] == self.scheduler.used, places
        attached = self.changes.attached
        assert places[WAITING] == self.scheduler.waiting + len(self.fallbacks) + attached, places
        assert places[RETRYING] == self.scheduler.retrying, places

    # -- turns end -------------------------------------------------------------------------------

    def end(self, record: TurnRecord, outcome: Outcome | None, now: float) -> None:
        """Give a turn its outcome (None: it is answered): the one place where that happens. O(log n)."""
        if now >= self._timeline.edge:
            self.recorder.close(now)
        served, shared, extras = 0.0, outcome, record.extras
        if extras is not None and extras.withdrawn is not None:
            outcome = Cancelled(extras.withdrawn)
        books, book = self.books, record.book
        if record.place == RUNNING:
            served = now - record.begun
            self.scheduler.finish(record, now, served)
            book.service[record.priority].record(served)
            books.mean_service += (served - books.mean_service) / 16
        elif record.degraded is not None:
            self.fallbacks.pop(record.id, None)
        session, ledger = record.session, record.ledger
        if outcome is None:
            name = "replied"
            session.replies += 1
        else:
            name = outcome.name
            session.replies += name == "replied"
            session.failures += name == "failed"
        book.ended[name] += 1
        books.ends.add(now)
        ledger.places[record.place] -= 1
        ledger.outcomes[name] += 1
        record.place = DONE
        record.worker = None
        record.fate = outcome
        if self.settler is not None:
            self.settler.ended(record, outcome, shared, served, now)
        if extras is not None or session.history is not None:
            self.changes.remember(record, shared)
        self.sessions.leave(session, now)
        if now + self._session_timeout < self.wake:
            self.wake_at(now + self._session_timeout)
        if record.waiters is not None and record.sealed is not False:
            record.tell_waiters()
        if self.bus.active:
            self._publish_end(record, served, now)
        if self.on_end is not None:
            self.on_end(record, name, served, now)
        if extras is not None:
            self.changes.ended(record, shared, now)

    def _publish_end(self, record: TurnRecord, served: float, now: float) -> None:
        outcome: Outcome = record.outcome  # type: ignore[assignment]
        waited = record.waited if record.waited >= 0.0 else now - record.arrived
        self.bus.publish(
            events.Ended(
                now, record.turn_id, record.key, record.route.name, record.klass, outcome, waited, served
            )
        )

    def cancel(self, record: TurnRecord, by: str, now: float) -> None:
        """End a turn wherever it is: at once when it waits, after its cleanup when it runs. O(log n)."""
        if record.place == DONE or self.changes.give_up_message(record, by, now):
            return
        if record.place == RUNNING or record.degraded is not None:
            self.interrupt(record, by, now)
            return
        self.scheduler.cancel(record, now)
        self.end(record, Cancelled(by), now)
        self.dispatch(now)

    def interrupt(self, record: TurnRecord, by: str, now: float) -> None:
        """Cancel a turn that a worker has, unless that has been done already. O(1).

        Who does not want the turn at all outranks whoever only wants it to stop for now.
        """
        if record.cancel_by is not None:
            if record.cancel_by in ("timeout", "preempt", "restart"):
                record.cancel_by = by
            return
        if record.extras is not None and record.extras.shields and by in ("superseded", "preempt", "restart"):
            if record.extras.pending != "superseded":
                record.extras.pending = by
            return
        record.cancel_by = by
        if record.worker is not None:  # else the worker that is about to get it sees that it is not wanted
            record.worker.interrupt()
        record.deadline = now + GRACE
        self.expect(record.deadline)

    def interrupt_now(self, record: TurnRecord, by: str) -> None:
        """An interruption that was held back takes effect. O(1)."""
        if record.place == RUNNING:
            self.interrupt(record, by, self.now())

    def degrade(self, record: TurnRecord, outcome: Outcome, why: str, now: float) -> None:
        """A waiting turn was shed or expired: its fallback answers at once, or it ends with `outcome`.

        Fallbacks answer outside the slots, at most `Config.limit` at a time; meanwhile the turn counts as
        waiting.
        """
        if record.place == RETRYING:
            record.ledger.move(RETRYING, WAITING)
            record.place = WAITING
        late = record.useless <= now
        most = max(self.config.limit, self.scheduler.limit)  # the slots may be few because answers fail
        full = len(self.fallbacks) >= most or self.aborted
        if record.route.fallback is None or late or full:
            self.end(record, outcome, now)
            return
        self.fallbacks[record.id] = record
        self.fall_back(record, outcome, why, now)

    def fall_back(self, record: TurnRecord, outcome: Outcome, why: str, now: float) -> None:
        """Let the route's fallback answer; if it fails too, the turn ends with `outcome`. O(1)."""
        record.redirect = outcome
        record.degraded = why
        record.worker = record.cancel_by = None
        self.books.fallbacks += 1
        record.begun = now
        record.deadline = now + FALLBACK_SECONDS
        self.expect(record.deadline)
        self.pool.run(record)

    # -- time ------------------------------------------------------------------------------------

    def expect(self, deadline: float) -> None:
        """A turn that a worker has must end by `deadline`. O(1)."""
        if deadline < self._first_overdue:
            self._first_overdue = deadline
            if deadline < self.wake:
                self.wake_at(deadline)

    def wake_at(self, time: float) -> None:
        """Set the alarm; `time` is before `wake`, or all deadlines have been looked at. O(1)."""
        self.wake = time
        self._alarm.deadline = time

    async def _keep_time(self) -> None:
        """Sleep until something is due, and see to it. Shielded: turns that drain still time out."""
        with self._keeper:
            while True:
                with trio.CancelScope(deadline=self.wake) as self._alarm:
                    await trio.sleep_forever()
                self._on_time(self.now())

    def _on_time(self, now: float) -> None:
        self.wake = INF
        if now >= self._first_overdue:
            self._look_for_overdue(now)
        for session in self.sessions.expire(now):
            if self.bus.active:
                self.bus.publish(events.SessionEnded(now, session.conversation, "expired"))
        self._trim(now)
        if self.load is not None and now >= self.load.core.next_deadline():
            self.load.judge(now)
        self.dispatch(now)
        # Whatever dispatch has started meanwhile has lowered the alarm by itself.
        self.wake_at(
            min(
                self.wake, self._first_overdue, self.scheduler.timers.next, self.sessions.next_deadline(),
                self._next_trim, INF if self.load is None else self.load.core.next_deadline(),
            )
        )  # fmt: skip

    def _look_for_overdue(self, now: float) -> None:
        """End what is past its deadline. O(running): only when the earliest deadline there was has passed."""
        self._first_overdue = INF
        for record in [*self.scheduler.running.values(), *self.fallbacks.values()]:
            assert isinstance(record, TurnRecord)
            if record.deadline <= now:
                self._overdue(record, now)
            self.expect(record.deadline)

    def _overdue(self, record: TurnRecord, now: float) -> None:
        """A worker's turn is past its deadline: cancel it, or report that it refuses to be."""
        if record.worker is None:
            record.deadline = INF
        elif record.cancel_by is None:
            self.interrupt(record, "timeout", now)
        else:
            record.deadline = INF
            report(record, GRACE, self, now)

    def _trim(self, now: float) -> None:
        if now >= self._next_trim:
            self.pool.trim()
            self._next_trim = INF
        if self.pool.idle and self._next_trim == INF:
            self._next_trim = now + TRIM_SECONDS

    # -- the end ---------------------------------------------------------------------------------

    def abort(self, by: str, now: float) -> None:
        """End everything that is left: what waits at once, what runs as soon as it has cleaned up."""
        self.aborted = True
        for record in self.scheduler.drop_all(now):
            assert isinstance(record, TurnRecord)
            self.end(record, Cancelled(by), now)
        for record in [*self.scheduler.running.values(), *self.fallbacks.values()]:
            assert isinstance(record, TurnRecord)
            if record.worker is not None:
                self.interrupt(record, by, now)
        self.changed(now)

    def close(self) -> None:
        """Dismiss the workers and stop the timekeeper; running turns still end."""
        self.pool.close()
        self._keeper.cancel()
