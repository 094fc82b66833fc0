"""`TurnRecord`: everything the manager knows of one turn, from arrival to outcome."""

from __future__ import annotations

from typing import Any

import trio

from ._books import RouteBook
from ._core.history import History, HistoryEntry
from ._core.lanes import DONE, INF, NEW, Entry
from ._core.ledger import Ledger
from ._core.sessions import Session
from ._digest import digest
from ._errors import Outcome
from ._extras import Extras, Steered
from ._message import Message, Priority, Reply
from ._outcome import Replied


class TurnRecord(Entry):
    """The scheduler's entry together with what it stands for.

    Attributes:
        message, route, session: what is handled, by what, and where.
        book, ledger: where the route's figures and law G1's are kept.
        place: where the ledger has it (a `State`); differs from `state` only while a fallback answers.
        attempt: attempts begun; `failures` of them failed without being told to wait.
        begun, deadline: when the present attempt began and must have ended.
        useless: when an answer is useless: the message's own deadline, or inf.
        worker: the task that runs it.
        cancel_by: who wants it to end ("timeout", "caller", ...), or None.
        asked: somebody waits for the reply, so it is not delivered.
        degraded: why the fallback answers instead of the handler, or None.
        text, reply: what the handler returned, when that is plain text or None, and the `Reply` made of it,
            which is made only when somebody wants it.
        answered: the handler has returned; a later attempt only delivers the reply.
        extras: what only some turns need, or None.
        fate: the outcome; of an answered turn it is made only when somebody wants it.
        redirect: the outcome it gets if the fallback fails too.
        waiters: tasks to be woken with the outcome.
        turn_id: what it is called outside: its place in the storage, where there is one, else `id`.
        sealed: whether its outcome is in the storage; None: it need not be.
    """

    __slots__ = (
        "answered", "asked", "attempt", "begun", "book", "busies", "cancel_by", "dead_letter", "deadline",
        "degraded", "error", "extras", "failures", "fate", "ledger", "message", "place", "redirect", "reply",
        "route", "sealed", "session", "text", "turn_id", "useless", "waited", "waiters", "worker",
    )  # fmt: skip

    def __init__(
        self, id: int, message: Message, book: RouteBook, priority: int, ledger: Ledger, session: Session,
        arrived: float, expires: float,
    ) -> None:  # fmt: skip
        self.book = book
        self.route = route = book.route
        # The base's fields are set here and not by its __init__: one call less for every message.
        self.id = self.turn_id = id
        self.key = message.conversation
        self.tenant = message.tenant
        self.priority = priority
        self.arrived = arrived
        self.expires = expires
        self.wake = INF
        self.ordered = route.ordered
        self.not_before = 0.0
        self.cost = 1.0
        self.state = NEW
        self.lane = None
        self.previous = None
        self.next = None
        self.message = message
        self.session = session
        self.ledger = ledger
        self.place: int = NEW
        self.attempt = 0
        self.failures = 0
        self.busies = 0
        self.begun = 0.0
        self.waited = -1.0
        self.deadline = INF
        self.useless = INF if message.deadline is None else message.deadline
        self.worker: Any = None
        self.cancel_by: str | None = None
        self.asked = False
        self.degraded: str | None = None
        self.redirect: Outcome | None = None
        self.error: BaseException | None = None
        self.answered = False
        self.text: str | None = None
        self.reply: Reply | None = None
        self.dead_letter: int | None = None
        self.fate: Outcome | None = None
        self.extras: Extras | None = None
        self.waiters: list[trio.lowlevel.Task] | None = None
        self.sealed: bool | None = None

    @property
    def klass(self) -> Priority:
        """Its own class, as an enum."""
        return Priority(self.priority)

    @property
    def more(self) -> Extras:
        """`extras`, made if need be."""
        if self.extras is None:
            self.extras = Extras()
        return self.extras

    @property
    def steered(self) -> Steered:
        """Where messages for the running turn are handed to, made if need be."""
        extras = self.more
        if extras.steered is None:
            extras.steered = Steered(self)
        return extras.steered

    def messages(self) -> tuple[Message, ...]:
        """Its own message and those that joined it, in the order of arrival. O(messages)."""
        if self.extras is None or not self.extras.members:
            return (self.message,)
        return tuple(record.message for record in self._wanted())

    def reads(self, route: str) -> bool:
        """Whether it, running, may still read a message for `route` that it is handed."""
        ending = self.degraded is not None or self.cancel_by is not None or self.answered
        return self.route.name == route and not ending

    def addressee(self) -> Message | None:
        """Of the messages that it answers, the first that nobody waits for; None: there is none."""
        if self.extras is None or not self.extras.members:
            return None if self.asked else self.message
        return next((record.message for record in self._wanted() if not record.asked), None)

    def _wanted(self) -> list[TurnRecord]:
        """It and those that joined it, but not itself when only the others still want an answer."""
        extras = self.more
        own = [] if extras.withdrawn is not None else [self]
        return sorted([*own, *extras.members], key=lambda record: record.id)

    @property
    def outcome(self) -> Outcome | None:
        """The outcome, or None while there is none. O(1)."""
        if self.fate is None and self.place == DONE:
            self.fate = Replied(self.answer(), self.dead_letter)
        return self.fate

    def answer(self) -> Reply:
        """The reply that the handler made. O(1)."""
        if self.reply is None:
            self.reply = Reply(self.text or "", turn_id=self.turn_id)
        return self.reply

    def tell_waiters(self) -> None:
        """Wake whoever waits for the outcome. O(waiters)."""
        waiters, self.waiters = self.waiters, None
        for task in waiters or ():
            trio.lowlevel.reschedule(task)

    async def wait(self) -> Outcome:
        """Wait for the outcome. When cancelled, only this waiting ends."""
        if self.place == DONE and self.sealed is not False:
            await trio.lowlevel.checkpoint()
        else:
            await self._parked()
        outcome: Outcome = self.outcome  # type: ignore[assignment]
        return outcome

    async def _parked(self) -> None:
        task = trio.lowlevel.current_task()
        waiters = self.waiters
        if waiters is None:
            self.waiters = waiters = [task]
        else:
            waiters.append(task)

        def abort(_: Any) -> trio.lowlevel.Abort:
            waiters.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)


def said_at_first(record: TurnRecord) -> str:
    """The digest of what its message said when it was accepted, whatever it was edited to. O(length)."""
    known = "" if record.extras is None else record.extras.digest
    return known or digest(record.message)


def say(record: TurnRecord, history: History) -> None:
    """What the users of this turn said, as of now, becomes the end of the history. O(limit of the history).

    Instead of what was written of it before: meanwhile a message may have been edited, taken back or handed
    to the turn.
    """
    history.take_out(record.turn_id)
    for message in record.messages():
        history.add(HistoryEntry("user", message.text, record.turn_id, message_id=message.id))
