"""What happens to turns on their way: merging, steering, superseding, editing, retracting, stopping."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, final

import attrs
import trio

from . import _events as events
from ._core.history import History, HistoryEntry
from ._core.lanes import DONE, RUNNING, WAITING, Entry, Lane
from ._errors import Outcome, Superseded
from ._outcome import Cancelled, Failed, Merged, Replied
from ._record import TurnRecord, say

if TYPE_CHECKING:
    from ._dispatcher import Dispatcher


class Change(enum.StrEnum):
    """What `edit` or `retract` did."""

    REPLACED = "replaced"
    """The message waits and has its new text."""
    RESTARTED = "restarted"
    """The running turn was cancelled and starts again with the new text."""
    CANCELLED = "cancelled"
    """The message waited and is given up."""
    INTERRUPTED = "interrupted"
    """The turn ran; it is cancelled and has cleaned up."""
    WITHDRAWN = "withdrawn"
    """The message shared a turn with others; the turn goes on without it."""
    RETRACTED = "retracted"
    """The message had been answered: the turn is taken out of the history, an event tells the front end."""
    ENDED = "ended"
    """Too late: the message has its outcome, nothing was changed."""
    UNKNOWN = "unknown"
    """No live or remembered message has this id, nothing was changed."""


@attrs.frozen(kw_only=True)
class Stopped:
    """What `stop` did: how many waiting and running turns it ended, and how many running ones refuse to."""

    waiting: int
    running: int
    stuck: int


@final
class Changes:
    """The dispatcher's helper for turns that meet other turns.

    Invariant: `attached` messages have a host: they joined a waiting turn or were handed to a running one,
    count as waiting in the books, and are not in the scheduler.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._scheduler = dispatcher.scheduler
        self.attached = 0

    # -- a message meets a busy conversation -------------------------------------------------------

    def joinable(self, lane: Lane | None, record_route: str) -> TurnRecord | None:
        """The last waiting turn of the lane, if another message of this route may join it. O(1)."""
        last = None if lane is None else lane.tail
        if not isinstance(last, TurnRecord) or last.route.name != record_route:
            return None
        joined = 0 if last.extras is None else len(last.extras.members)
        room = joined + 1 < self._scheduler.conversation_limit
        return last if last.state == WAITING and last.attempt == 0 and room else None

    def join(self, host: TurnRecord, record: TurnRecord, not_before: float, now: float) -> None:
        """Let a message share the waiting turn `host`. O(log n)."""
        host.more.members.append(record)
        self._attach(host, record)
        self._scheduler.promote(host, now, record.priority)
        self._scheduler.postpone(host, now, not_before)

    def hand(self, host: TurnRecord, record: TurnRecord) -> None:
        """Hand a message to the running turn `host`. O(1)."""
        self._attach(host, record)
        host.steered.put(record)

    def _attach(self, host: TurnRecord, record: TurnRecord) -> None:
        record.more.host = host
        record.place = WAITING
        record.ledger.accept(WAITING)
        self.attached += 1

    def supersede(
        self, running: TurnRecord | None, waiting: tuple[TurnRecord, ...], by: str, rollback: bool, now: float
    ) -> None:
        """Give up what waits for the newer message `by`, and interrupt what runs. O(waiting)."""
        dispatcher = self._dispatcher
        for record in waiting:
            self._scheduler.cancel(record, now)
            dispatcher.end(record, Superseded(by), now)
        if running is not None:
            running.more.superseded_by = by
            running.more.rollback = rollback
            dispatcher.interrupt(running, "superseded", now)

    # -- a turn with company ends --------------------------------------------------------------------

    def ended(self, record: TurnRecord, outcome: Outcome | None, now: float) -> None:
        """`record` has its outcome: its members get theirs, what it was handed and did not read goes on."""
        extras = record.more
        members, extras.members = extras.members, []
        for member in members:
            self._leave(member)
            self._dispatcher.end(member, self._shared(record, member, outcome, now), now)
        if extras.steered is not None:
            for unread in extras.steered.unread():
                self._leave(unread)
                if self._dispatcher.aborted:
                    self._dispatcher.end(unread, Cancelled("drain"), now)
                else:
                    self._scheduler.insert(unread, now)
        if extras.stream is not None:
            answered = outcome is None or isinstance(outcome, Replied)
            fate = record.outcome
            error = None if fate is None else fate.error()
            extras.stream.finish(record.answer().text if answered else None, record.attempt, error)

    def _leave(self, member: TurnRecord) -> None:
        member.more.host = None
        self.attached -= 1

    def _shared(self, host: TurnRecord, member: TurnRecord, outcome: Outcome | None, now: float) -> Outcome:
        if outcome is None or isinstance(outcome, Replied):
            return Merged(host.id, host.answer())
        if isinstance(outcome, Failed):
            error = outcome.exception
            books = self._dispatcher.books
            letter = books.bury(member.message, host.route.name, host.attempt, error, now)
            return Failed(letter, error)
        return outcome

    def remember(self, record: TurnRecord, outcome: Outcome | None) -> None:
        """Write an ended turn into its conversation's history. O(limit of the history)."""
        session = record.session
        superseded = isinstance(outcome, Superseded)
        if record.attempt == 0 or not record.ordered:
            return
        if session.history is None:
            if not superseded:
                return
            session.history = History()
        history: History = session.history
        if superseded and record.more.rollback:
            history.take_out(record.id)
            return
        say(record, history)
        if outcome is None or isinstance(outcome, Replied):
            history.add(HistoryEntry("assistant", record.answer().text, record.id))
        elif record.extras is not None and record.extras.pieces:
            history.add(HistoryEntry("assistant", "".join(record.extras.pieces), record.id, partial=True))

    def live(self) -> Iterator[TurnRecord]:
        """Everything without an outcome. O(live turns)."""
        scheduler = self._scheduler
        for entry in [
            *scheduler.running.values(), *scheduler.waiting_entries(), *self._dispatcher.fallbacks.values()
        ]:  # fmt: skip
            if isinstance(entry, TurnRecord):
                yield entry
                if entry.extras is not None:
                    yield from entry.extras.members
                    if entry.extras.steered is not None:
                        yield from entry.extras.steered.unread_now()

    # -- messages are taken back ---------------------------------------------------------------------

    def give_up_message(self, record: TurnRecord, by: str, now: float) -> bool:
        """End one message that shares a turn with others, without ending the turn; False: it shares none."""
        extras = record.extras
        if extras is None:
            return False
        dispatcher = self._dispatcher
        if extras.host is not None:
            host = extras.host
            if record in host.more.members:
                host.more.members.remove(record)
            else:
                host.steered.give_up(record)
            self._leave(record)
            dispatcher.end(record, Cancelled(by), now)
            dispatcher.changed(now)
            return True
        if not extras.members:
            return False
        if record.place == RUNNING or record.degraded is not None:
            extras.withdrawn = by
            return True
        self._hand_over(record, now)
        self._scheduler.cancel(record, now)
        dispatcher.end(record, Cancelled(by), now)
        dispatcher.dispatch(now)
        return True

    def _hand_over(self, record: TurnRecord, now: float) -> None:
        """The first member of a waiting turn becomes its host."""
        members, record.more.members = record.more.members, []
        heir = members[0]
        self._leave(heir)
        heir.not_before = record.not_before
        heir.more.members = members[1:]
        for member in members[1:]:
            member.more.host = heir
        self._scheduler.insert(heir, now)

    def edit(self, record: TurnRecord, text: str, now: float) -> Change:
        """Give a message a new text; a turn that runs with the old one starts again. O(log n)."""
        if record.place == DONE:
            return Change.ENDED
        turn = record.extras.host if record.extras is not None and record.extras.host else record
        unread = turn is not record and record not in turn.more.members
        record.message = record.message.replace(text=text)
        if unread or turn.place != RUNNING:
            return Change.REPLACED
        self._dispatcher.interrupt(turn, "restart", now)
        return Change.RESTARTED

    async def retract(self, record: TurnRecord, now: float) -> Change:
        """Take a message back; waits until a running turn has cleaned up."""
        dispatcher = self._dispatcher
        if record.place == DONE:
            await trio.lowlevel.checkpoint()
            return self._retract_reply(record, now)
        if self.give_up_message(record, "retract", now):
            await trio.lowlevel.checkpoint()
            return Change.WITHDRAWN
        running = record.place == RUNNING
        dispatcher.cancel(record, "retract", now)
        await record.wait()
        return Change.INTERRUPTED if running else Change.CANCELLED

    def _retract_reply(self, record: TurnRecord, now: float) -> Change:
        if not isinstance(record.outcome, (Replied, Merged)):
            return Change.ENDED
        if record.session.history is not None:
            record.session.history.take_out(record.id)
        self._dispatcher.bus.publish(events.Retracted(now, record.id, record.key, record.message.id))
        return Change.RETRACTED

    async def stop(self, conversation: str, grace: float) -> Stopped:
        """End everything of a conversation: what waits first, then what runs; wait for its cleanup."""
        dispatcher, scheduler = self._dispatcher, self._scheduler
        now = dispatcher.now()
        waiting = _of(conversation, scheduler.waiting_entries())
        running = _of(conversation, [*scheduler.running.values(), *dispatcher.fallbacks.values()])
        count = 0
        for record in waiting:
            count += 1 + len(record.more.members)
            scheduler.cancel(record, now)
            dispatcher.end(record, Cancelled("stop"), now)
        for record in running:
            if record.extras is not None and record.extras.steered is not None:
                for unread in record.extras.steered.unread():
                    count += 1
                    self._leave(unread)
                    dispatcher.end(unread, Cancelled("stop"), now)
            if record.worker is not None:
                dispatcher.interrupt(record, "stop", now)
        dispatcher.dispatch(now)
        with trio.move_on_after(grace):  # noqa: ASYNC912 - no running turn: nothing to wait for
            for record in running:
                await record.wait()
        await trio.lowlevel.checkpoint()
        stuck = sum(record.place != DONE for record in running)
        return Stopped(waiting=count, running=len(running), stuck=stuck)


def _of(conversation: str, entries: Iterable[Entry]) -> list[TurnRecord]:
    return [entry for entry in entries if isinstance(entry, TurnRecord) and entry.key == conversation]
