"""One rehearsal under way: hands messages in at their times, and counts what becomes of them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, final

import trio

from ccm._config import Config
from ccm._errors import Rejected, Shed
from ccm._manager import ConversationManager
from ccm._message import Message, Priority
from ccm._opening import open_manager
from ccm._record import TurnRecord
from ccm._statistics import Statistics
from ccm._turn import Turn
from ccm.testing._clock import EventClock
from ccm.testing._figures import GroupFigures, Recorder
from ccm.testing._traffic import Arrival
from ccm.testing._verdicts import Check, OrderWitness, conservation

Handler = Callable[[Any], Awaitable[Any]]

_NORMAL = Priority.NORMAL


@final
class Performance:
    """Sends, samples and counts; the figures are complete when `program` has returned.

    Sending and sampling are no tasks but functions that the clock calls: a step of a task costs as much as
    the manager's whole work on a message.

    Invariants: `_area` is the integral of `_running` over time, up to `_area_at`; `_area_seen` and
    `_slot_seconds` are what was used and what existed up to `_page_at`, where the present step began.
    """

    manager: ConversationManager
    statistics: Statistics
    _arrivals: Iterator[Arrival]
    _next: Arrival
    _nursery: trio.Nursery

    def __init__(
        self, clock: EventClock, config: Config, step: float, duration: float | None,
        progress: Callable[[float], object] | None,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.config = config
        self.classes = {priority: GroupFigures() for priority in Priority}
        self.tenants: dict[str, GroupFigures] = {}
        self.recorder = Recorder(step)
        self.witness = OrderWitness(ordered=config.enabled)
        self.sent = self.accepted = self.ended = self.rejected = 0
        self.peak_waiting = 0
        self.seconds = self.window = duration or 0.0
        self.capacity = self.used = self.goodput = self.replies_per_second = 0.0
        self._duration = duration
        self._progress = progress
        self._by_class = tuple(self.classes.values())
        self._highest_limit = config.limit
        self._useful = 0.0
        self._running = 0
        self._area = self._area_at = self._area_seen = 0.0
        self._page_at = self._slot_seconds = 0.0
        self._open = True
        self._all_sent = trio.Event()

    # -- the program -----------------------------------------------------------------------------

    async def program(
        self, arrivals: Iterable[Arrival], handler: Handler, fallback: Handler | None, patience: float
    ) -> None:
        """Open the manager, have everything sent, wait until all have their outcomes, close."""
        self._arrivals = iter(arrivals)
        opened = open_manager(self._watched(handler), config=self.config, fallback=fallback)
        async with trio.open_nursery() as self._nursery:
            self.clock.on_error = self._nursery.cancel_scope.cancel
            async with opened as self.manager:
                self._dispatcher = self.manager._dispatcher
                self._scheduler = self._dispatcher.scheduler
                self._dispatcher.on_end = self._ended
                # Nobody looks at trends here, and a second of virtual time is over soon.
                self._dispatcher.recorder.timeline.edge = math.inf
                self.clock.call_at(0.0, self._expect_next)
                self.clock.call_at(self.recorder.step, self._sample, last=True)
                await self._all_sent.wait()
                await self.clock.sleep_until(self.window)
                self._close_window()
                with trio.move_on_after(patience):
                    await self.manager.wait_idle()
                self._open = False
        if self.clock.error is not None:
            raise self.clock.error
        self.seconds = max(self.seconds, self.window)
        self._turn_page(self.seconds)
        self.statistics = self.manager.statistics()
        for book in self._dispatcher.books.routes.values():
            for priority, group in self.classes.items():
                group.wait.merge(book.wait[priority])
                group.service.merge(book.service[priority])

    def _expect_next(self) -> None:
        arrival = next(self._arrivals, None)
        if arrival is None or (self._duration is not None and arrival.at >= self._duration):
            self._all_sent.set()
            return
        if not arrival.at >= self.clock.now:
            raise ValueError(
                f"arrivals must be in order of time, got one at {arrival.at!r} after {self.clock.now!r}"
            )
        self._next = arrival
        self.clock.call_at(arrival.at, self._send)

    def _send(self) -> None:
        message = self._next.message
        self.sent += 1
        self.recorder.arrivals += 1
        try:
            receipt = self.manager.submit_nowait(message)
        except Rejected as rejected:
            self._refused(message, rejected.reason.value)
        except trio.WouldBlock:
            self._nursery.start_soon(self._send_later, message)
        else:
            self.accepted += 1
            self.witness.accepted(receipt.turn_id, message)
            waiting = self._scheduler.waiting
            if waiting > self.peak_waiting:
                self.peak_waiting = waiting
        self._expect_next()

    async def _send_later(self, message: Message) -> None:  # noqa: ASYNC910 - a task of its own
        try:
            receipt = await self.manager.submit(message)
        except Rejected as rejected:
            self._refused(message, rejected.reason.value)
        else:
            self.accepted += 1
            self.witness.accepted_later(receipt.turn_id)
            self.peak_waiting = max(self.peak_waiting, self._scheduler.waiting)

    # -- what becomes of a message ---------------------------------------------------------------

    def _tenant(self, name: str) -> GroupFigures:
        figures = self.tenants.get(name)
        if figures is None:
            figures = self.tenants[name] = GroupFigures()
        return figures

    def _refused(self, message: Message, reason: str) -> None:
        self.rejected += 1
        self.recorder.outcomes["rejected"] += 1
        self.seconds = self.clock.now
        priority = _NORMAL if message.priority is None else message.priority
        for group in (self._by_class[priority], self._tenant(message.tenant)):
            group.outcomes["rejected"] += 1
            group.count_reason("rejected", reason)

    def _ended(self, record: TurnRecord, name: str, served: float, now: float) -> None:
        self.ended += 1
        self.recorder.outcomes[name] += 1
        self.seconds = now
        group, tenant = self._by_class[record.priority], self._tenant(record.tenant)
        group.outcomes[name] += 1
        tenant.outcomes[name] += 1
        # Waits and seconds of a class are counted by the manager already.
        if record.waited >= 0.0:
            tenant.wait.record(record.waited)
        if served > 0.0:
            tenant.service.record(served)
        if name == "replied":
            response = now - record.arrived
            group.response.record(response)
            tenant.response.record(response)
            self._useful += served
        elif isinstance(record.fate, Shed):
            reason = record.fate.reason.value
            group.count_reason(name, reason)
            tenant.count_reason(name, reason)

    def _watched(self, handler: Handler) -> Handler:
        clock, witness, started = self.clock, self.witness, self.recorder.started

        async def watched(turn: Turn) -> Any:
            record = turn._record
            witness.start(record.key, record.id)
            if turn.attempt == 1:
                started[record.priority].append(record.waited)
            now = clock.now
            self._area += self._running * (now - self._area_at)
            self._area_at = now
            self._running += 1
            if self._running > witness.peak:
                witness.peak = self._running
            try:
                return await handler(turn)
            finally:
                now = clock.now
                self._area += self._running * (now - self._area_at)
                self._area_at = now
                self._running -= 1
                witness.running.discard(record.key)

        return watched

    # -- step by step ----------------------------------------------------------------------------

    def _sample(self) -> None:
        if self._open:
            self._turn_page(self.clock.now)
            # Multiplied, not added up: sums of steps drift.
            at = (len(self.recorder) + 1) * self.recorder.step
            self.clock.call_at(at, self._sample, last=True)

    def _area_until(self, now: float) -> float:
        return self._area + self._running * (now - self._area_at)

    def _turn_page(self, now: float) -> None:
        length = now - self._page_at
        if not length and not self.recorder.pending:
            return
        area, limit = self._area_until(now), self._scheduler.limit
        used = (area - self._area_seen) / length if length else 0.0
        self.recorder.turn_page(running=used, limit=limit, waiting=self._scheduler.waiting)
        self._highest_limit = max(self._highest_limit, limit)
        self._slot_seconds += limit * length
        self._area_seen, self._page_at = area, now
        if self._progress is not None:
            self._progress(now)

    def _close_window(self) -> None:
        """All messages have arrived: shares and rates are of the time up to here."""
        if self._duration is None:
            self.window = self.clock.now
        if not self.window:
            return
        self.capacity = self._slot_seconds + self._scheduler.limit * (self.window - self._page_at)
        self.used = self._area_until(self.window) / self.capacity
        self.goodput = self._useful / self.capacity
        self.replies_per_second = self._dispatcher.books.messages.outcomes["replied"] / self.window

    def checks(self) -> tuple[Check, ...]:
        """The verdicts on the laws, after the end."""
        return (
            conservation(
                self.statistics, sent=self.sent, accepted=self.accepted, rejected=self.rejected,
                ended=self.ended, classes=self._by_class, tenants=list(self.tenants.values()),
            ),
            self.witness.order(),
            self.witness.capacity(self._highest_limit if self.config.enabled else None),
        )  # fmt: skip
