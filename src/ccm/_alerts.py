"""Looks at a manager's figures once in a while and says when somebody else should."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import final

import attrs
import trio

from ._core.alerts import Alert, AlertBoard, AlertRules, AlertStatistics, Reading, Window
from ._core.lanes import INF
from ._dispatcher import Dispatcher
from ._errors import Reason
from ._events import AlertCleared, AlertRaised
from ._message import Priority
from ._record import TurnRecord

OnAlert = Callable[[AlertRaised | AlertCleared], Awaitable[None]]

CALLBACK_SECONDS = 5.0
"""Seconds one call of `on_alert` may take; it is cancelled then, and counted as failed."""

_OVERLOAD = (Reason.OVERLOADED, Reason.TOO_MANY_SESSIONS)

log = logging.getLogger("ccm")


@final
class Watch:
    """One task that compares a manager's figures with rules; without rules it does not exist."""

    def __init__(self, rules: AlertRules, dispatcher: Dispatcher, on_alert: OnAlert | None) -> None:
        self._rules = rules
        self._dispatcher = dispatcher
        self._on_alert = on_alert
        self._board = AlertBoard(rules)
        self._window = Window(rules.window)
        self._failed_callbacks = 0
        self._scope = trio.CancelScope()

    @property
    def active(self) -> tuple[Alert, ...]:
        """The active alerts, the worst first."""
        return self._board.active()

    def statistics(self) -> AlertStatistics:
        """How many there were, and how often the callback failed. O(1)."""
        return attrs.evolve(self._board.statistics(), failed_callbacks=self._failed_callbacks)

    async def run(self) -> None:
        """Look every `interval` seconds until `close`."""
        self._totals(self._dispatcher.now())
        with self._scope:
            while True:
                await trio.sleep(self._rules.interval)
                await self._look(self._dispatcher.now())

    def close(self) -> None:
        """Look no more. O(1)."""
        self._scope.cancel()

    async def _look(self, now: float) -> None:  # noqa: ASYNC910 - its caller sleeps
        bus = self._dispatcher.bus
        changes = self._board.update(self._readings(now), now)
        if self._dispatcher.debug:
            self._board._check()
        news = [(AlertCleared if c.cleared else AlertRaised)(now, c.alert) for c in changes]
        # Readers of events are told of all of them before a callback may make anybody wait.
        for event in news:
            bus.publish(event)
        if self._on_alert is not None:
            for event in news:
                await self._call(self._on_alert, event)

    async def _call(  # noqa: ASYNC910 - as the callback does
        self, on_alert: OnAlert, event: AlertRaised | AlertCleared
    ) -> None:  # fmt: skip
        try:
            with trio.fail_after(CALLBACK_SECONDS):
                await on_alert(event)
        except Exception:
            self._failed_callbacks += 1
            log.exception("on_alert failed for %r; the alert itself stands", event)

    # -- figures ---------------------------------------------------------------------------------

    def _readings(self, now: float) -> Iterator[Reading]:
        """Every value that has a rule. O(services + running turns)."""
        books, scheduler = self._dispatcher.books, self._dispatcher.scheduler
        for queue in books.tools.services.queues():
            yield Reading("depth", queue.name, queue.depth)
            yield Reading("idle", queue.name, queue.idle(now))
        for priority, waits in zip(Priority, scheduler.queues(), strict=True):
            yield Reading("wait", priority.name, 0.0 if waits.oldest is None else now - waits.oldest)
        yield Reading("dead_letters", "", len(books.dead))
        ended, failed, shed, seconds = self._totals(now)
        few = 0 < ended < self._rules.least
        yield Reading("error_rate", "", None if few else failed / max(ended, 1))
        yield Reading("shed_rate", "", shed / seconds if seconds else 0.0)
        yield Reading("stuck", "", self._stuck())
        if books.tools.durable is not None:
            yield Reading("storage", "", books.tools.durable.trouble(now))

    def _totals(self, now: float) -> tuple[float, ...]:
        ended = failed = shed = 0
        for ledger in (self._dispatcher.books.messages, self._dispatcher.books.sides):
            outcomes = ledger.outcomes
            refused = sum(ledger.by_reason.get(reason.value, 0) for reason in _OVERLOAD)
            shed += outcomes["shed"] + outcomes["expired"] + refused
            failed += outcomes["failed"]
            ended += sum(outcomes.values()) - outcomes["rejected"]
        return self._window.add(now, ended, failed, shed)

    def _stuck(self) -> int:
        """Turns that were reported as stuck and are still there."""
        dispatcher = self._dispatcher
        stuck = 0
        for record in [*dispatcher.scheduler.running.values(), *dispatcher.fallbacks.values()]:
            assert isinstance(record, TurnRecord)
            stuck += record.worker is not None and record.cancel_by is not None and record.deadline == INF
        return stuck
