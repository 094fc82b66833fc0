"""The way in when a storage keeps what is accepted: judged, written, and only then in its place.

A message is judged when it arrives, and its place is promised (`Reserved`). The journal writes it; when that
is durable, it enters the scheduler, in the order of the journal, whatever its sender does meanwhile. What the
storage still holds from before comes first: as long as there is such a backlog, nobody new is let in.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

import trio

from ._core.admission import Displace, Refuse, Verdict, Wait
from ._core.busy import Decision, Proceed
from ._core.reserve import Reserved
from ._core.routes import Route, select
from ._digest import digest
from ._errors import Reason, StorageError
from ._items import PROMPT, Prompt, Unwatched
from ._journal import Journal
from ._message import Message, OnBusy
from ._policies import Overflow
from ._receipt import Settled
from ._record import TurnRecord
from .storage import Accept, Accepted, Letter, Repeated, Settle, Stored
from .storage._codec import decode_message, decode_outcome, edited, encode_message

if TYPE_CHECKING:
    from ._intake import Intake

PAGE = 200
"""Messages that are read from the storage at a time after a restart."""
_WAIT = Wait()
_PROCEED = Proceed()
log = logging.getLogger("ccm.storage")


@final
class Pending(Prompt, Accept):
    """A message that has been judged and is on its way into the storage: the operation, and who waits for it.

    One object, because there is one for each message, and hundreds at a time.

    Attributes:
        arrived: when it was judged, on Trio's clock.
    """

    __slots__ = (*PROMPT, "_inbox", "arrived", "asked", "limited", "message", "priority", "route", "sides")
    __eq__, __hash__ = object.__eq__, object.__hash__  # type: ignore[assignment]

    def __init__(
        self, inbox: Inbox, message: Message, body: str, route: Route, sides: Sequence[tuple[Route, int]],
        priority: int, limited: bool, asked: bool, arrived: float,
    ) -> None:  # fmt: skip
        self._inbox = inbox
        self._journal = journal = inbox._journal
        self.task = self._result = self._error = None
        self.told = False
        self.message = message
        self.route = route
        self.sides = sides
        self.priority = priority
        self.limited = limited
        self.asked = asked
        self.arrived = arrived
        self.conversation = message.conversation
        self.tenant = message.tenant
        self.user = message.user
        self.body = body
        self.at = at = arrived + journal.shift
        self.letter = inbox._intake.replayed
        window = inbox._config.dedupe_window
        if message.generated_id or not window:
            self.message_id = self.digest = ""
            self.since = 0.0
        else:
            self.message_id, self.digest = message.id, digest(message)
            self.since = at - window

    @property
    def operation(self) -> Accept:
        """It is one."""
        return self

    def done(self, result: Any) -> None:
        """It is durable, or a repetition of another."""
        self._inbox.arrived(self, result)

    def failed(self, error: StorageError) -> bool:
        """It is not, or nobody knows."""
        self._inbox.lost(self, error)
        return False

    def withdrawn(self) -> None:
        """Its sender has gone before it was written."""
        self._inbox.withdrawn(self)


@final
class Inbox:
    """Takes messages in when there is a storage; the other half of `Intake`.

    Invariants: `_reserved` counts exactly the messages that are judged and not yet durable; they enter the
    scheduler in the order of their `seq`; with a backlog, nobody is let in before it. A message counts in its
    user's rate while it is on its way, and once it is accepted; else what was counted is given back.

    Attributes:
        recovered: messages taken up from the storage so far.
        poisoned: of those that were found, how many became dead letters without another attempt.
        unjournaled: messages that were accepted although the storage failed (`on_storage_failure`).
    """

    def __init__(self, intake: Intake, journal: Journal) -> None:
        self._intake = intake
        self._journal = journal
        self._dispatcher = dispatcher = intake._dispatcher
        self._scheduler = dispatcher.scheduler
        self._sessions = dispatcher.sessions
        self._config = dispatcher.config
        self._reserved = Reserved(by_tenant=intake.admission.tenants is not None)
        self._backlog: deque[Stored] = deque()
        self._last_seq = 0
        self._more = True
        self._wanted = trio.Event()
        self.recovered = self.poisoned = self.unjournaled = 0

    @property
    def on_its_way(self) -> int:
        """Messages that are judged and not yet durable. O(1)."""
        return self._reserved.total

    @property
    def behind(self) -> bool:
        """Whether the storage holds messages from before that have not been taken up. O(1)."""
        return self._more or bool(self._backlog)

    # -- judged ----------------------------------------------------------------------------------

    def accept(
        self, message: Message, route: Route, sides: Sequence[tuple[Route, int]], priority: int,
        limited: bool, asked: bool, now: float,
    ) -> Pending | Verdict:  # fmt: skip
        """Judge a message and have it written; or what is against it (`Wait`, `Refuse`). O(length)."""
        body = encode_message(message, self._journal.shift)
        busy = route.busy if message.on_busy is None else message.on_busy
        verdict = self._early(message, priority, route.ordered, busy, limited, now)
        if verdict is None:
            verdict, _ = self._intake.judge(message, route, priority, limited, now)
        if verdict is not None and not isinstance(verdict, Displace):
            return verdict
        pending = Pending(self, message, body, route, sides, priority, limited, asked, now)
        self._reserved.add(message.conversation, message.tenant)
        self._journal.put(pending)
        return pending

    def _early(
        self, message: Message, priority: int, ordered: bool, busy: OnBusy, limited: bool, now: float
    ) -> Verdict:
        """What the messages that are on their way leave to be said. O(1)."""
        reserved, scheduler, key = self._reserved, self._scheduler, message.conversation
        admission, total = self._intake.admission, reserved.total
        if self._more or self._backlog:
            verdict: Verdict = self._full(None)
        elif not total or (
            # Nearly always: none of this conversation is on its way, and there is room for all that are.
            key not in reserved.conversations
            and admission.tenants is None
            and scheduler.waiting + total < scheduler.queue_limit
            and self._sessions.has_room(key, len(reserved.conversations))
        ):
            return None
        elif busy is OnBusy.REJECT and ordered and reserved.of(key):
            verdict = Refuse(Reason.BUSY)
        elif not scheduler.conversation_has_room(key, self._will_wait(message, priority)):
            verdict = Refuse(Reason.CONVERSATION_FULL)
        elif not self._sessions.has_room(key, len(reserved.conversations)):
            verdict = Refuse(Reason.TOO_MANY_SESSIONS)
        elif admission.crowded(
            message.tenant, max(0, reserved.tenants.get(message.tenant, 0) - self._free(priority))
        ):
            verdict = Refuse(Reason.QUEUE_SHARE)
        elif scheduler.waiting + total - self._free(priority) >= scheduler.queue_limit:
            verdict = self._full(priority)
        else:
            return None
        if limited and verdict is not None:  # the rate comes before room
            wait = self._intake.limiter.check(message.tenant, message.user, now)
            if wait:
                return Refuse(Reason.RATE_LIMITED, wait)
        return verdict

    def _free(self, priority: int) -> int:
        """Slots that a turn of the class may take. O(1)."""
        return max(0, self._scheduler.slots(priority) - self._scheduler.used)

    def _will_wait(self, message: Message, priority: int) -> int:
        """Messages of this conversation on their way that will not start at once. O(1)."""
        key = message.conversation
        coming = self._reserved.of(key)
        starts = coming and self._scheduler.may_start(key, message.tenant, priority)
        return coming - 1 if starts else coming

    def _full(self, priority: int | None) -> Verdict:
        if self._config.overflow is Overflow.WAIT or self._intake.senders:
            return _WAIT
        displaces = self._config.overflow is Overflow.SHED_LOWEST and priority is not None
        if displaces and self._scheduler.victim(priority or 0) is not None:
            return None
        return Refuse(Reason.OVERLOADED)

    # -- written ---------------------------------------------------------------------------------

    def _off(self, pending: Pending) -> None:
        message = pending.message
        self._reserved.remove(message.conversation, message.tenant)

    def _give_back(self, pending: Pending) -> None:
        if pending.limited:
            self._intake.admission.give_back(pending.message, pending.arrived)

    def arrived(self, pending: Pending, result: Accepted | Repeated) -> None:
        """A message is durable: it takes its place. O(log n)."""
        self._off(pending)
        now = self._dispatcher.now()
        if isinstance(result, Repeated):
            self._give_back(pending)
            first = self._first(pending.message, result)
            error = self._intake.repetition(pending.message, first, result.digest, now)
            pending.tell(None, error)
        else:
            record = self._enter(pending, now)
            record.turn_id = seq = result.seq
            record.sealed = False
            if seq > self._last_seq:
                self._last_seq = seq
            self._let_in(record, pending, now)
            pending.tell(record)
        dispatcher = self._dispatcher
        if dispatcher.watched or self._scheduler.timers.next < dispatcher.wake:
            dispatcher.changed(now)

    def lost(self, pending: Pending, error: StorageError) -> None:
        """The storage has failed: the sender is told, or the message lives without it. O(log n)."""
        self._off(pending)
        now = self._dispatcher.now()
        if self._config.on_storage_failure == "degrade" and not error.unknown:
            self.unjournaled += 1
            record = self._enter(pending, now)
            record.turn_id = -record.id
            self._let_in(record, pending, now)
            pending.tell(record)
        else:
            # Also when it may be there all the same: its sender is told that it is not accepted. Handed in
            # again, it is a repetition, which does not count, or is new and counts then.
            self._give_back(pending)
            self._intake.count_refusal(pending.message, Reason.STORAGE, now)
            told = StorageError(
                f"the message {pending.message.id!r} was not accepted: {error}", unknown=error.unknown
            )
            told.__cause__ = error
            pending.tell(None, told)
        self._dispatcher.changed(now)

    def withdrawn(self, pending: Pending) -> None:
        """A sender has gone before its message was written: nothing has happened. O(1)."""
        self._off(pending)
        self._give_back(pending)
        self._dispatcher.changed(self._dispatcher.now())

    def _enter(self, pending: Pending, now: float) -> TurnRecord:
        """Make the record. Its place was promised, so nothing can be against it any more."""
        intake, message = self._intake, pending.message
        record = intake.record_of(
            message, pending.route, pending.priority, self._dispatcher.books.messages, now, pending.arrived
        )
        record.asked = pending.asked
        if not message.generated_id:
            intake.remember(record, now)
        return record

    def _let_in(self, record: TurnRecord, pending: Pending, now: float) -> None:
        intake, message = self._intake, pending.message
        decision: Decision | None = None
        if record.ordered and (message.on_busy or pending.route.busy) is not OnBusy.ENQUEUE:
            decision = intake.meet(message, pending.route, now)
        if self._scheduler.waiting >= self._scheduler.queue_limit:
            intake.make_room(record.priority, now)
        if decision is None:
            intake.let_in(record, now)
        else:
            intake.place(record, decision, now)
        if pending.sides:
            intake.accept_sides(message, pending.sides, pending.limited, now)

    def _first(self, message: Message, result: Repeated) -> Any:
        """What stands for the message that this one repeats."""
        live = self._intake.find(message.tenant, message.id)
        if live is not None and live.turn_id == result.seq:
            return live
        outcome = decode_outcome(result.outcome, result.detail) if result.outcome else None
        return Settled(result.seq, outcome)

    # -- taken up after a restart ----------------------------------------------------------------

    async def open(self) -> None:  # noqa: ASYNC910 - part of opening a manager
        """Take up what the storage holds from before, as much as there is room for."""
        while self._more and not self._backlog:
            await self._read_page()
            self.take_up(self._dispatcher.now())

    async def run(self) -> None:  # noqa: ASYNC910 - a task of its own
        """Read the rest, page by page, as room is made for it."""
        while self._more:
            await self._wanted.wait()
            self._wanted = trio.Event()
            try:
                await self.open()
            except StorageError as error:
                log.warning("messages that wait in the storage cannot be read: %s", error)
            self._intake.line.let_in(self._dispatcher.now())

    async def look_again(self) -> None:  # noqa: ASYNC910 - the journal's task reads
        """Another program may have put messages into the storage, and nothing of ours is on its way there."""
        if not self.behind:
            await self._read_page()
            self._intake.line.let_in(self._dispatcher.now())

    def storage_works(self) -> None:
        """The storage works again: read what could not be read. O(1)."""
        self._wanted.set()

    async def _read_page(self) -> None:
        journal = self._journal
        page = await journal.read(journal.storage.recover, self._last_seq, PAGE)
        self._backlog.extend(page)
        self._more = len(page) == PAGE
        if page:
            self._last_seq = page[-1].seq

    def take_up(self, now: float) -> None:
        """Let the messages in that there is room for, in order. O(log n) each."""
        scheduler = self._scheduler
        while self._backlog and scheduler.waiting < scheduler.queue_limit:
            stored = self._backlog[0]
            try:
                message = decode_message(stored.body, self._journal.shift)
            except (ValueError, TypeError, KeyError) as error:
                self._backlog.popleft()
                self._bury(stored, None, f"cannot be read: {error!r}")
                continue
            if not self._sessions.has_room(message.conversation):
                break
            self._backlog.popleft()
            self._readmit(stored, message, now)
            # They have waited: their classes may have risen, and their time may be over.
            self._dispatcher.dispatch(now)
        if not self._backlog and self._more:
            self._wanted.set()

    def _readmit(self, stored: Stored, message: Message, now: float) -> None:
        """A message is taken up. It is not merged with others: what was decided before is not known."""
        if stored.attempts >= self._config.max_attempts:
            self._bury(stored, message, f"the process ended {stored.attempts} times while it was handled")
            return
        intake = self._intake
        route, others = select(intake.routes, message)
        if route is None:
            self._bury(stored, message, "no route matches it any more")
            return
        arrived = min(now, stored.at - self._journal.shift)
        record = intake.record_of(
            message,
            route,
            int(route.priority_of(message, intake.session_of)),
            self._dispatcher.books.messages,
            now,
            arrived,
        )
        self.recovered += 1
        record.turn_id, record.sealed = stored.seq, False
        record.attempt = stored.attempts + 1
        record.more.redelivered = True
        record.more.digest = edited(stored.body) or ""
        intake.remember(record, now)
        intake.place(record, _PROCEED, now)
        sides = [(side, int(side.priority_of(message, intake.session_of))) for side in others]
        intake.accept_sides(message, sides, False, now)

    def _bury(self, stored: Stored, message: Message | None, why: str) -> None:
        """A message that must not be handled again becomes a dead letter."""
        log.error("message %d of the storage %s; it is a dead letter now", stored.seq, why)
        self.poisoned += 1
        books, at = self._dispatcher.books, self._dispatcher.now()
        letter = books.bury(message, "", stored.attempts, RuntimeError(why), at)
        wall = at + self._journal.shift
        conversation, tenant, user, id = ("(unreadable)", "", "(unknown)", "")
        if message is not None:
            conversation, tenant, user, id = message.conversation, message.tenant, message.user, message.id
        self._journal.put(
            Unwatched(
                Settle(
                    seq=stored.seq, conversation=conversation, tenant=tenant, user=user, route="",
                    outcome="failed", accepted=stored.at, ended=wall, message_id=id,
                    attempts=stored.attempts,
                    letter=Letter(
                        id=letter, body=stored.body, route="", attempts=stored.attempts, error=why, at=wall
                    ),
                )
            )
        )  # fmt: skip
