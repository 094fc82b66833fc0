"""What follows an attempt: an outcome, another attempt, or the fallback."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, final

import attrs
import trio

from . import _events as events
from ._core.lanes import RETRYING, RUNNING, WAITING
from ._core.retry import backoff
from ._errors import Busy, Expired, Permanent, Superseded
from ._message import Reply
from ._outcome import Cancelled, Failed
from ._record import TurnRecord
from ._slots import Slots

if TYPE_CHECKING:
    from ._dispatcher import Dispatcher

BUSY_LIMIT = 100
"""How often one turn may be told to come back later before it counts as failed."""

# Who cancelled: for these, a handler that returns all the same has answered.
_MAY_ANSWER = (None, "timeout", "drain", "preempt")


class WrongReturn(Permanent, TypeError):
    """A handler returned something that is no answer; trying again would not help."""


@final
class Attempts:
    """Told by the workers how an attempt ended, decides what the turn's next step is."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.now = dispatcher.now
        self.following = dispatcher.following
        self._end = dispatcher.end
        adapts = dispatcher.config.adaptive is not None and dispatcher.config.enabled
        self._slots = Slots(dispatcher) if adapts else None

    def answer(self, record: TurnRecord, value: Any) -> Reply:
        """What the handler returned, as a `Reply`. O(1).

        Raises:
            WrongReturn: it is neither a string, nor a Reply, nor None.
        """
        if value is None and record.extras is not None:
            value = "".join(record.extras.pieces)
        if value is None or isinstance(value, str):
            reply = Reply(str(value or ""), turn_id=record.turn_id)
        elif isinstance(value, Reply):
            reply = attrs.evolve(value, turn_id=record.turn_id)
        else:
            name = record.route.name
            raise WrongReturn(f"the handler of route {name!r} returned {value!r}; return a str or None")
        if record.degraded is not None:
            reply = attrs.evolve(reply, metadata={**reply.metadata, "degraded": record.degraded})
        return reply

    def replied(self, record: TurnRecord, now: float) -> None:
        """The attempt succeeded: the turn is answered, unless nobody wants the answer any more."""
        if record.cancel_by is not None and record.cancel_by not in _MAY_ANSWER:
            self.cancelled(record)
            return
        if self._slots is not None:
            self._slots.ended(record, None, now)
        self._end(record, None, now)

    def failed(self, record: TurnRecord, error: BaseException) -> None:
        """The attempt raised `error`: retry, fall back or give up."""
        if record.cancel_by == "drain" or record.cancel_by not in _MAY_ANSWER:
            self.cancelled(record)
            return
        if self._slots is not None:
            self._slots.ended(record, error, self.now())
        book = record.book
        book.failed_attempts += 1
        if self._dispatcher.aborted:
            self._end(record, Cancelled("drain"), self.now())
            return
        delay = None if record.degraded is not None else self._delay(record, error)
        if delay is None:
            self._give_up(record, error)
        else:
            book.retries += 1
            self._retry(record, error, delay)

    def _delay(self, record: TurnRecord, error: BaseException) -> float | None:
        """Seconds until the next attempt, or None when there is none."""
        if isinstance(error, Permanent):
            return None
        policy = record.route.retry
        uniform = random.random()
        if isinstance(error, Busy):
            if error._alike and error.retry_after > 0.0:
                return error.retry_after  # however often: the provider's pause is over then
            # The message is not to blame: its attempts are not used up, only the patience with it.
            record.busies += 1
            if record.busies >= BUSY_LIMIT:
                return None
            ceiling = min(policy.cap, policy.base * 2.0 ** min(record.busies, 60))
            return max(error.retry_after, uniform * ceiling)
        record.failures += 1
        return backoff(policy, record.failures, uniform)

    def _retry(self, record: TurnRecord, error: BaseException, delay: float) -> None:
        now, bus = self.now(), self._dispatcher.bus
        if bus.active:
            bus.publish(events.Retrying(now, record.turn_id, record.key, record.attempt, delay, repr(error)))
        self._detach(record)
        self._dispatcher.recorder.close(now)
        record.ledger.move(RUNNING, RETRYING)
        record.place = RETRYING
        self._dispatcher.scheduler.retry(record, now, now + delay, now - record.begun, record.useless)

    def cancelled(self, record: TurnRecord) -> None:
        """The attempt was cancelled and its cleanup is over."""
        now, by = self.now(), record.cancel_by or "drain"
        if by in ("preempt", "restart") and not self._dispatcher.aborted:
            self._detach(record)
            record.attempt -= 1
            record.expires = record.useless  # it started in time; only its own deadline still counts
            self._dispatcher.recorder.close(now)
            record.ledger.move(RUNNING, WAITING)
            record.place = WAITING
            self._dispatcher.scheduler.requeue(record, now)
        elif by == "superseded":
            self._dispatcher.end(record, Superseded(record.more.superseded_by), now)
        elif by != "timeout":
            self._dispatcher.end(record, Cancelled("drain" if by in ("preempt", "restart") else by), now)
        elif record.useless <= now:
            self._dispatcher.end(record, Expired(), now)
        else:
            record.book.timeouts += 1
            late = trio.TooSlowError(f"the attempt took longer than {record.route.timeout:g} s")
            late.__cause__ = record.error
            self.failed(record, late)

    def crashed(self, record: TurnRecord, error: BaseException) -> None:
        """The handler raised what ends the manager: the message is kept, whoever asked is told."""
        now, books = self.now(), self._dispatcher.books
        letter = books.bury(record.message, record.route.name, record.attempt, error, now)
        self._dispatcher.end(record, Failed(letter, error), now)

    def _give_up(self, record: TurnRecord, error: BaseException) -> None:
        """No attempt is left: dead letter, and the fallback if there is one."""
        now, dispatcher = self.now(), self._dispatcher
        if record.redirect is not None:
            dispatcher.end(record, record.redirect, now)
            return
        route = record.route
        record.dead_letter = dispatcher.books.bury(record.message, route.name, record.attempt, error, now)
        outcome = Failed(record.dead_letter, error)
        if record.extras is not None:
            dispatcher.changes.bury(record, error, now)
        if route.fallback is None or record.answered:
            dispatcher.end(record, outcome, now)
        else:
            # The slot is still this turn's own: the fallback answers in it.
            self._detach(record)
            dispatcher.fall_back(record, outcome, "failed", now)

    @staticmethod
    def _detach(record: TurnRecord) -> None:
        """The worker is done with it; what it said in this attempt is void."""
        if record.extras is not None:
            record.extras.void()
        record.worker = None
        record.cancel_by = None
