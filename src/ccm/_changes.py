"""What happens to turns on their way: merging, steering, superseding, editing, retracting, stopping."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, final

import attrs
import trio

from . import _events as events
from ._core.history import History, HistoryEntry
from ._core.lanes import DONE, RUNNING, WAITING, Entry
from ._errors import Expired, Outcome, Superseded
from ._outcome import Cancelled, Failed, Merged, Replied
from ._record import TurnRecord, said_at_first, say

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
    """The message shared a turn with others; their turn goes on without it, or their reply stays."""
    RETRACTED = "retracted"
    """The message had been answered: the turn is taken out of the history, an event tells the front end."""
    ENDED = "ended"
    """Too late: the message has its outcome, or is about to get it; nothing was changed."""
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

    def company(self, conversation: str) -> tuple[TurnRecord | None, tuple[TurnRecord, ...]]:
        """The turns that a new message of the conversation meets: the one that runs, and those that wait.

        Side turns are accounted on their own: they neither make a conversation busy nor are they disturbed.
        O(waiting turns of the conversation).
        """
        lane = self._scheduler.lane(conversation)
        if lane is None:
            return None, ()
        running = lane.running
        return (
            running if isinstance(running, TurnRecord) and self._answers(running) else None,
            tuple(e for e in lane.entries() if isinstance(e, TurnRecord) and self._answers(e)),
        )

    def _of(self, conversation: str, entries: Iterable[Entry]) -> list[TurnRecord]:
        records = (e for e in entries if isinstance(e, TurnRecord) and e.key == conversation)
        return [record for record in records if self._answers(record)]

    def _answers(self, record: TurnRecord) -> bool:
        return record.ledger is self._dispatcher.books.messages

    @staticmethod
    def joinable(waiting: tuple[TurnRecord, ...], route: str) -> TurnRecord | None:
        """The last of the waiting turns, if another message of this route may join it. O(1)."""
        last = waiting[-1] if waiting else None
        if last is None or last.route.name != route or last.state != WAITING or last.attempt:
            return None
        return last

    def crowded(self, conversation: str, handed: bool) -> bool:
        """Whether as many messages of the conversation wait as may, those that share a turn included.

        Args:
            conversation: which.
            handed: those that the running turn has taken in count too.

        O(waiting messages of the conversation).
        """
        lane = self._scheduler.lane(conversation)
        if lane is None or not self.attached:
            return False
        held = lane.size
        for entry in (*lane.entries(), lane.running):
            if isinstance(entry, TurnRecord) and entry.extras is not None:
                steered = entry.extras.steered
                held += 0 if steered is None else len(steered.unread_now())
                held += len(entry.extras.members) if handed or entry is not lane.running else 0
        return held >= self._scheduler.conversation_limit

    def join(self, host: TurnRecord, record: TurnRecord, not_before: float, now: float) -> None:
        """Let a message share the waiting turn `host`. O(log n).

        The turn wakes up for each of its messages that expires (see `expire`), and once it runs its answer
        is of use as long as one of them wants it.
        """
        extras = host.more
        if not extras.members:
            extras.expires = host.expires
        extras.members.append(record)
        self._attach(host, record)
        host.useless = max(host.useless, record.useless)
        if record.expires < host.expires:
            self._scheduler.hasten(host, record.expires)
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
            self._end_unread(record, Superseded(by), now)
            self._scheduler.cancel(record, now)
            dispatcher.end(record, Superseded(by), now)
        if running is not None:
            self._end_unread(running, Superseded(by), now)
            extras = running.more
            extras.superseded_by = extras.superseded_by or by
            extras.rollback = extras.rollback or rollback
            dispatcher.interrupt(running, "superseded", now)

    def _end_unread(self, record: TurnRecord, outcome: Outcome, now: float) -> int:
        """What `record` was handed and has not read ends with it; how many messages that were."""
        if record.extras is None or record.extras.steered is None:
            return 0
        unread = record.extras.steered.unread()
        for message in unread:
            self._leave(message)
            self._dispatcher.end(message, outcome, now)
        return len(unread)

    # -- a turn with company ends --------------------------------------------------------------------

    def ended(self, record: TurnRecord, outcome: Outcome | None, now: float) -> None:
        """`record` has its outcome: its members get theirs, what it was handed and did not read goes on."""
        extras = record.more
        members, extras.members = extras.members, []
        extras.answered = len(members) + (extras.withdrawn is None)
        for member in members:
            self._leave(member)
            member.more.answered_in = record
            self._dispatcher.end(member, self._shared(record, member, outcome, now), now)
        if extras.steered is not None:
            for unread in extras.steered.unread():
                self._leave(unread)
                if self._dispatcher.aborted:
                    self._dispatcher.end(unread, Cancelled("drain"), now)
                else:
                    self._scheduler.insert(unread, now)
        if extras.stream is not None:
            extras.stream.ended(record)

    def _leave(self, member: TurnRecord) -> None:
        member.more.host = None
        self.attached -= 1

    def _shared(self, host: TurnRecord, member: TurnRecord, outcome: Outcome | None, now: float) -> Outcome:
        if outcome is None or isinstance(outcome, Replied):
            return Merged(host.turn_id, host.answer())
        if isinstance(outcome, Failed):
            self._bury(host, member, outcome.exception, now)
            assert member.dead_letter is not None
            return Failed(member.dead_letter, outcome.exception)
        return outcome

    def bury(self, host: TurnRecord, error: BaseException | None, now: float) -> None:
        """`host` failed for good: keep the messages that joined it. O(members)."""
        for member in host.more.members:
            self._bury(host, member, error, now)

    def _bury(self, host: TurnRecord, member: TurnRecord, error: Any, now: float) -> None:
        if member.dead_letter is None:
            books = self._dispatcher.books
            member.dead_letter = books.bury(member.message, host.route.name, host.attempt, error, now)

    def remember(self, record: TurnRecord, outcome: Outcome | None) -> None:
        """Write an ended turn into its conversation's history. O(limit of the history)."""
        session = record.session
        if not record.ordered:
            return
        replied = outcome is None or isinstance(outcome, Replied)
        rolled_back = record.extras is not None and record.extras.rollback and not replied
        nothing = record.attempt == 0 or rolled_back
        if session.history is None:
            stopped = isinstance(outcome, Superseded) or outcome == Cancelled("stop")
            if nothing or not stopped:
                return
            session.history = History()
        history: History = session.history
        if nothing:
            history.take_out(record.turn_id)
            return
        say(record, history)
        if replied:
            history.add(HistoryEntry("assistant", record.answer().text, record.turn_id))
        elif record.extras is not None and record.extras.pieces:
            history.add(
                HistoryEntry("assistant", "".join(record.extras.pieces), record.turn_id, partial=True)
            )

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
            if host.more.withdrawn is not None and not host.more.members:
                dispatcher.cancel(host, host.more.withdrawn, now)  # nobody is left who wants an answer
            dispatcher.changed(now)
            return True
        if not extras.members:
            return False
        if record.place == RUNNING or record.degraded is not None:
            extras.withdrawn = by
            return True
        members, extras.members = extras.members, []
        self._leave(members[0])
        self._hand_over(record, members, now)
        self._scheduler.cancel(record, now)
        dispatcher.end(record, Cancelled(by), now)
        dispatcher.dispatch(now)
        return True

    def _hand_over(self, record: TurnRecord, messages: list[TurnRecord], now: float) -> None:
        """The first of `messages`, which share the waiting turn `record`, becomes its host."""
        heir, members = messages[0], messages[1:]
        extras = heir.more
        heir.not_before = record.not_before
        heir.priority = min(message.priority for message in messages)
        if record.attempt:
            for message in messages:
                message.expires = message.useless  # its turn has started in time
        extras.expires = heir.expires
        extras.members = members
        heir.expires = min(message.expires for message in messages)
        heir.useless = max(message.useless for message in messages)
        for member in members:
            member.more.host = heir
        self._scheduler.insert(heir, now)

    def expire(self, host: TurnRecord, now: float) -> None:
        """The scheduler has given up the waiting turn `host` because one of its messages expires.

        Those whose time is over expire; the turn goes on for the others, in its place. O(messages).
        """
        extras = host.more
        members, extras.members = extras.members, []
        host.expires = extras.expires
        late = [record for record in (host, *members) if record.expires <= now]
        stay = [record for record in (host, *members) if record.expires > now]
        if not stay:
            # All of them together: one fallback answers for all.
            extras.members = members
            self._dispatcher.degrade(host, Expired(), "expired", now)
            return
        if stay[0] is not host:
            self._leave(stay[0])
        self._hand_over(host, stay, now)
        for record in late:
            if record is not host:
                self._leave(record)
            self._dispatcher.degrade(record, Expired(), "expired", now)

    def edit(self, record: TurnRecord, text: str, now: float) -> Change:
        """Give a message a new text; a turn that runs with the old one starts again. O(log n)."""
        turn = record.extras.host if record.extras is not None and record.extras.host else record
        unread = turn is not record and record not in turn.more.members
        if record.place == DONE or (not unread and _too_late(turn, record)):
            return Change.ENDED
        record.more.digest = said_at_first(record)
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
        record.more.rollback = True
        dispatcher.cancel(record, "retract", now)
        await record.wait()
        return Change.INTERRUPTED if running else Change.CANCELLED

    def _retract_reply(self, record: TurnRecord, now: float) -> Change:
        outcome = record.outcome
        if not isinstance(outcome, (Replied, Merged)):
            return Change.ENDED
        turn = record
        if record.extras is not None and record.extras.answered_in is not None:
            turn = record.extras.answered_in
        history, turn_id = record.session.history, turn.turn_id
        if turn.extras is not None and turn.extras.answered > 1:
            turn.extras.answered -= 1
            if history is not None:
                history.take_out(turn_id, record.message.id)
            return Change.WITHDRAWN
        if history is not None:
            history.take_out(turn_id)
        self._dispatcher.bus.publish(events.Retracted(now, turn_id, record.key, record.message.id))
        return Change.RETRACTED

    async def stop(self, conversation: str, grace: float) -> Stopped:
        """End everything that answers a conversation: what waits first, then what runs; wait for its cleanup.

        Side turns go on: nobody is to stop the moderation of what he said.
        """
        dispatcher, scheduler = self._dispatcher, self._scheduler
        now = dispatcher.now()
        waiting = self._of(conversation, scheduler.waiting_entries())
        running = self._of(conversation, [*scheduler.running.values(), *dispatcher.fallbacks.values()])
        count = 0
        for record in waiting:
            count += 1 + len(record.more.members) + self._end_unread(record, Cancelled("stop"), now)
            scheduler.cancel(record, now)
            dispatcher.end(record, Cancelled("stop"), now)
        for record in running:
            count += self._end_unread(record, Cancelled("stop"), now)
            if record.worker is not None:
                dispatcher.interrupt(record, "stop", now)
        dispatcher.dispatch(now)
        with trio.move_on_after(grace):  # noqa: ASYNC912 - no running turn: nothing to wait for
            for record in running:
                await record.wait()
        await trio.lowlevel.checkpoint()
        stuck = sum(record.place != DONE for record in running)
        return Stopped(waiting=count, running=len(running), stuck=stuck)


def _too_late(turn: TurnRecord, record: TurnRecord) -> bool:
    """Whether `turn` ends without another look at the text of `record`, which is one of its messages."""
    by, extras = turn.cancel_by, turn.extras
    pending = extras is not None and extras.pending == "superseded"
    withdrawn = turn is record and extras is not None and extras.withdrawn is not None
    ending = by is not None and by not in ("timeout", "preempt", "restart")
    return ending or pending or withdrawn or turn.answered or turn.degraded is not None
