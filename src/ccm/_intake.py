"""The way in: one message at a time, judged and put in its place before anything else can happen."""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn, final

import trio

from . import _events as events
from ._config import Config
from ._core.admission import Admission, Displace, Refuse, Repeat, Verdict, Wait
from ._core.busy import Bounce, Decision, Hand, Join, Proceed, Supersede, decide
from ._core.dedupe import DedupeWindow
from ._core.lanes import INF, RUNNING, WAITING
from ._core.ledger import Ledger
from ._core.ratelimit import RateLimiter
from ._core.routes import Route, select
from ._core.tenants import Tenants
from ._digest import digest
from ._dispatcher import Dispatcher
from ._errors import Duplicate, Reason, Rejected, Shed
from ._items import Prompt
from ._line import Line, Sender
from ._message import Message, OnBusy, Priority
from ._receipt import Receipt
from ._record import TurnRecord, said_at_first
from ._sessions import Session

if TYPE_CHECKING:
    from ._inbox import Inbox, Pending
    from ._journal import Journal

# Plain numbers index lists faster than an enum's members do.
_PLAIN = tuple(range(len(Priority)))
_ENQUEUE = OnBusy.ENQUEUE


@final
class Intake:
    """Takes messages in or refuses them; synchronous, so that their order is the order of the calls.

    Invariants: with senders waiting, nobody else is let in before them; a refused message has changed
    nothing but the counts of what was refused.
    """

    def __init__(self, routes: tuple[Route, ...], config: Config, dispatcher: Dispatcher) -> None:
        self.inbox: Inbox | None = None
        self._preempts = config.preempt
        self._dispatcher = dispatcher
        self._scheduler = dispatcher.scheduler
        self._sessions = dispatcher.sessions
        self._books = dispatcher.books
        self._bus = dispatcher.bus
        self._load = dispatcher.load
        self.let_in = self._enter if self._load is None else self._enter_unless_shed
        self._changes = dispatcher.changes
        self._timeline = dispatcher.recorder.timeline
        tenants = Tenants(config)
        self._limited = config.enabled and (tenants.rate is not None or bool(tenants.rates))
        self.limiter = RateLimiter(default=tenants.rate, overrides=tenants.rates)
        window = DedupeWindow[TurnRecord](window=config.dedupe_window) if config.dedupe_window else None
        self.admission = Admission(
            scheduler=self._scheduler, sessions=self._sessions, limiter=self.limiter, window=window,
            overflow=config.overflow, max_text=config.max_text,
            tenants=tenants if tenants.queue_shares and config.enabled else None,
        )  # fmt: skip
        self._max_wait = tuple(config.max_wait.get(p, INF) for p in Priority)
        self._surely_short = config.max_text // 4  # so many characters fit, whatever they are
        self._thread = get_ident()
        self._last_id = 0
        self.line = Line(self)
        self.senders = self.line.senders
        self.journal: Journal
        self.replayed: int | None = None
        self.closed = False
        self.use(routes)

    def use(self, routes: tuple[Route, ...]) -> None:
        """Handle messages by these routes from now on."""
        self.routes = routes
        self._only = only = routes[0] if len(routes) == 1 and routes[0].when is None else None
        simple = only is not None and only.busy is _ENQUEUE and self.inbox is None
        self._simple = only if simple else None
        for route in routes:
            self._books.routes[route.name].route = route

    @property
    def expected(self) -> int:
        """Messages that have arrived and have no place yet. O(1)."""
        inbox = self.inbox
        return len(self.senders) + (0 if inbox is None else inbox.on_its_way + inbox.behind)

    @property
    def draining(self) -> bool:
        """Whether new messages are refused."""
        return self.admission.draining

    def stop(self, now: float) -> None:
        """Refuse new messages from now on; senders that wait are told so."""
        if not self.admission.draining:
            self.admission.draining = True
            self._bus.publish(events.DrainStarted(now))
            self.line.let_in(now)

    def accept(self, message: Message, now: float, *, asked: bool) -> TurnRecord | Pending | None:
        """Take the message in (None: its sender has to wait). The order is fixed here, before any await.

        With a storage, what is returned is on its way there.
        """
        if type(message) is not Message:
            raise TypeError(f"message must be a ccm.Message, got {message!r}; build one first")
        if self.closed or get_ident() != self._thread:
            self._refuse_use()
        if now >= self._timeline.edge:
            self._dispatcher.recorder.close(now)
        scheduler, admission = self._scheduler, self.admission
        if now >= scheduler.timers.next:
            self._dispatcher.dispatch(now)
        if not message.generated_id or admission.draining or len(message.text) > self._surely_short:
            refusal = admission.message(message, now)
            if refusal is not None:
                self._reject(message, refusal, now)
        route = self._only
        sides: Sequence[tuple[Route, int]] = ()
        if route is None:
            route, others = select(self.routes, message)
            if route is None:
                self._reject(message, Refuse(Reason.NO_ROUTE), now)
            # Rules are the user's code and may raise: ask them all before anything is changed.
            sides = [(side, _PLAIN[side.priority_of(message, self.session_of)]) for side in others]
        priority = _PLAIN[route.priority_of(message, self.session_of)]
        limited = self._limited and route.rate_limited
        decision: Decision | None = None
        verdict: Verdict | Pending
        if route is self._simple and message.on_busy is None:
            # What nearly every message meets, without the questions below.
            verdict = admission.turn(message, priority, route.ordered, limited, now)
        elif self.inbox is not None:
            verdict = self.inbox.accept(message, route, sides, priority, limited, asked, now)
        else:
            verdict, decision = self.judge(message, route, priority, limited, now)
        if verdict is not None:
            if isinstance(verdict, Prompt):
                return verdict
            if isinstance(verdict, Wait):
                return None
            if isinstance(verdict, Refuse):
                barred = verdict.reason is Reason.RATE_LIMITED
                for side, urgency in sides:
                    self._accept_side(side, message, urgency, barred, now)
                self._dispatcher.changed(now)
                self._reject(message, verdict, now)
            self._displace(verdict, now)
        record = self.record_of(message, route, priority, self._books.messages, now, now)
        if decision is None:
            self.let_in(record, now)
        else:
            self.place(record, decision, now)
        record.asked = asked
        if not message.generated_id and admission.window is not None:
            admission.window.put((message.tenant, message.id), record, now)
        if sides:
            self.accept_sides(message, sides, limited, now)
        dispatcher = self._dispatcher
        if dispatcher.watched or scheduler.timers.next < dispatcher.wake:
            dispatcher.changed(now)
        return record

    def judge(
        self, message: Message, route: Route, priority: int, limited: bool, now: float
    ) -> tuple[Verdict, Decision | None]:
        """Whether a message may come in, and what it does to its conversation; counts in its user's rate."""
        if (route.busy is _ENQUEUE and message.on_busy is None) or not route.ordered:
            return self.admission.turn(message, priority, route.ordered, limited, now), None
        decision = self.meet(message, route, now)
        return self._judge(message, priority, limited, decision, now), decision

    def accept_sides(
        self, message: Message, sides: Sequence[tuple[Route, int]], limited: bool, now: float
    ) -> None:
        """Let in the turns beside the answering one of a message that has been accepted."""
        if sides:
            barred = self._limited and not limited and self.admission.barred(message, now)
            for side, urgency in sides:
                self._accept_side(side, message, urgency, barred, now)

    def accept_edit(self, message: Message, now: float) -> None:
        """Start a turn on each side route that wants edited messages, and this one with its new text."""
        if self.closed or self.admission.draining:
            return  # nothing new begins
        wanted = [
            route for route in self.routes if route.edits and (route.when is None or route.when(message))
        ]
        if wanted:
            sides = [(route, _PLAIN[route.priority_of(message, self.session_of)]) for route in wanted]
            self.accept_sides(message, sides, False, now)
            self._dispatcher.changed(now)

    def _accept_side(self, route: Route, message: Message, priority: int, barred: bool, now: float) -> None:
        """A turn beside the answering one: judged and counted on its own, but one message is one message
        to the rate limit."""
        verdict: Verdict = Refuse(Reason.RATE_LIMITED)
        if not (barred and route.rate_limited):
            verdict = self.admission.turn(message, priority, route.ordered, False, now)
        if isinstance(verdict, Displace):
            self._displace(verdict, now)
        elif verdict is not None:
            reason = verdict.reason if isinstance(verdict, Refuse) else Reason.OVERLOADED
            self._books.sides.reject(reason)
            self._publish_refusal(message, reason, now)
            return
        record = self.record_of(message, route, priority, self._books.sides, now, now)
        if self.inbox is not None:
            record.turn_id = -record.id  # the numbers above 0 are the storage's
        self.let_in(record, now)
        record.asked = True  # its reply, if any, goes to nobody

    def session_of(self, conversation: str) -> Session | None:
        entry = self._sessions.get(conversation)
        return None if entry is None else Session(entry)

    def meet(self, message: Message, route: Route, now: float) -> Decision:
        """What the message does to its conversation, if that is busy."""
        policy = message.on_busy or route.busy
        running, waiting = self._changes.company(message.conversation)
        decision = decide(
            policy, running, waiting, now, joinable=self._changes.joinable(waiting, route.name),
            settle=route.settle, max_settle=route.max_settle,
        )  # fmt: skip
        if isinstance(decision, Hand) and (running is None or not running.reads(route.name)):
            return Proceed()
        return decision

    def _judge(
        self, message: Message, priority: int, limited: bool, decision: Decision, now: float
    ) -> Verdict:
        key, reason = message.conversation, None
        replaces = isinstance(decision, Supersede) and bool(decision.waiting)
        if isinstance(decision, Bounce):
            reason = Reason.BUSY
        elif not replaces and self._changes.crowded(key, isinstance(decision, Hand)):
            reason = Reason.CONVERSATION_FULL
        if reason is not None:
            wait = self.limiter.check(message.tenant, message.user, now) if limited else 0.0
            return Refuse(Reason.RATE_LIMITED, wait) if wait else Refuse(reason)
        own = not (replaces or isinstance(decision, (Join, Hand)))
        if self.admission.senders and any(s.message.conversation == key for s in self.senders):
            own = True  # an earlier message of the conversation waits outside: behind it
        return self.admission.turn(message, priority, True, limited, now, own)

    def record_of(
        self, message: Message, route: Route, priority: int, ledger: Ledger, now: float, arrived: float
    ) -> TurnRecord:  # fmt: skip
        """Count an admitted message in and make the record of its turn; it may have arrived before now."""
        books = self._books
        session = self._sessions.enter(
            message.conversation, message.tenant, message.channel, message.user, now
        )
        if message.channel:
            books.count_channel(message.channel)
        books.arrivals.add(now)
        self._last_id += 1
        wait = route.max_wait if route.max_wait is not None else self._max_wait[priority]
        expires = arrived + wait
        if message.deadline is not None and message.deadline < expires:
            expires = message.deadline
        return TurnRecord(
            self._last_id, message, books.routes[route.name], priority, ledger, session, arrived, expires
        )

    def place(self, record: TurnRecord, decision: Decision, now: float) -> None:
        """Let an admitted message do to its conversation what was decided."""
        changes: Any = self._changes
        if isinstance(decision, (Proceed, Bounce)):  # what has been accepted is not refused any more
            record.not_before = 0.0 if isinstance(decision, Bounce) else decision.not_before
            self.let_in(record, now)
        elif isinstance(decision, Join):
            changes.join(decision.host, record, decision.not_before, now)
            self._announce(record, now)
            self._dispatcher.dispatch(now)
        elif isinstance(decision, Hand):
            changes.hand(decision.host, record)
            self._announce(record, now)
        else:
            assert isinstance(decision, Supersede)
            by = record.message.id
            changes.supersede(decision.running, decision.waiting, by, decision.rollback, now)
            self._enter(record, now)

    # -- for the inbox ---------------------------------------------------------------------------

    def remember(self, record: TurnRecord, now: float) -> None:
        """Recognise repetitions of this message from now on. O(1)."""
        message, window = record.message, self.admission.window
        if not message.generated_id and window is not None:
            window.put((message.tenant, message.id), record, now)

    def make_room(self, priority: int, now: float) -> None:
        """Shed what is less urgent, if anything is, for a turn that was promised its place. O(1)."""
        victim = self._scheduler.victim(priority)
        if victim is not None:
            self._displace(Displace(victim), now)

    def _enter_unless_shed(self, record: TurnRecord, now: float) -> None:
        """Let a turn in, unless it is given up because too much waits already."""
        assert self._load is not None
        shed = self._load.arrives(record.message, record.priority, record.ordered, now)
        if shed is None:
            self._enter(record, now)
            return
        record.place = WAITING
        record.ledger.accept(WAITING)
        self._announce(record, now)
        self._dispatcher.degrade(record, shed, "shed", now)

    def _enter(self, record: TurnRecord, now: float) -> None:
        """Put a turn where it belongs: to a worker, or into its lane."""
        started = self._scheduler.add(record, now)
        record.place = RUNNING if started else WAITING
        ledger = record.ledger
        ledger.received += 1
        ledger.places[record.place] += 1
        if self._bus.active:
            self._announce(record, now)
        if started:
            self._dispatcher.launch(record, now)
            return
        if record.previous is not None and self._scheduler.lifted(record):
            self._dispatcher.dispatch(now)
        if self._preempts and record.priority == Priority.CRITICAL:
            self._preempt(record, now)

    def check_text(self, text: str) -> None:
        """Raise unless `text` may be a message's text."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, got {text!r}; convert it first")
        self.admission.check_size(text)

    def find(self, tenant: str, message_id: str) -> TurnRecord | None:
        """The record of a live or remembered message. O(1) for ids that were given, else O(live turns)."""
        window = self.admission.window
        known = None if window is None else window.get((tenant, message_id), self._dispatcher.now())
        answering = (r for r in self._changes.live() if r.ledger is self._books.messages)
        return known or next(
            (r for r in answering if r.message.id == message_id and r.tenant == tenant), None
        )

    def _preempt(self, record: TurnRecord, now: float) -> None:
        """A CRITICAL turn found no slot: the youngest LOW turn gives its own back."""
        lane = record.lane
        if lane is None or lane.running is not None or lane.head is not record:
            return
        for candidate in self._scheduler.preemptible():
            assert isinstance(candidate, TurnRecord)
            shielded = candidate.extras is not None and candidate.extras.shields > 0
            free = candidate.cancel_by is None and candidate.degraded is None and not shielded
            if free and candidate.worker is not None:
                self._dispatcher.interrupt(candidate, "preempt", now)
                return

    def _displace(self, verdict: Displace, now: float) -> None:
        victim = verdict.victim
        assert isinstance(victim, TurnRecord)
        self._scheduler.cancel(victim, now)
        self._dispatcher.degrade(victim, Shed(Reason.DISPLACED, self._dispatcher.patience()), "shed", now)

    # -- messages that do not come in ------------------------------------------------------------

    def repetition(self, message: Message, first: Any, said: str, now: float) -> Duplicate:
        """Count a message that repeats `first`, of which `said` is the digest; the error for its sender."""
        repeat = Duplicate(Reason.DUPLICATE)
        repeat.receipt = Receipt(first, self._dispatcher)
        repeat.differs = bool(said) and said != digest(message)
        self.count_refusal(message, Reason.DUPLICATE, now)
        return repeat

    def count_refusal(self, message: Message, reason: Reason, now: float) -> None:
        """A message is refused. O(1)."""
        self._books.messages.reject(reason)
        self._publish_refusal(message, reason, now)

    def _reject(self, message: Message, refusal: Refuse | Repeat, now: float) -> NoReturn:
        if isinstance(refusal, Repeat):
            raise self.repetition(message, refusal.first, said_at_first(refusal.first), now)
        self.count_refusal(message, refusal.reason, now)
        retry_after = refusal.retry_after
        if retry_after is None and refusal.reason not in (Reason.DRAINING, Reason.NO_ROUTE):
            retry_after = self._dispatcher.patience()
        raise Rejected.because(refusal.reason, retry_after)

    def _publish_refusal(self, message: Message, reason: Reason, now: float) -> None:
        if self._bus.active:
            self._bus.publish(events.Refused(now, message.id, message.conversation, message.tenant, reason))

    def _announce(self, record: TurnRecord, now: float) -> None:
        if not self._bus.active:
            return
        session = record.session
        for gone in self._sessions.take_evicted():
            self._bus.publish(events.SessionEnded(now, gone.conversation, "evicted"))
        if session.messages == 1:
            self._bus.publish(events.SessionStarted(now, session.conversation))
        self._bus.publish(
            events.Accepted(now, record.turn_id, record.key, record.tenant, record.route.name, record.klass)
        )

    def _refuse_use(self) -> NoReturn:
        if self.closed:
            raise trio.ClosedResourceError("this manager is closed; open a new one with open_manager")
        raise RuntimeError("this manager belongs to another Trio run; open one in this run")

    async def arrive(self, found: Pending | Sender) -> TurnRecord:
        """Wait until a message that `accept` has not let in at once has its place.

        Raises as `accept` does, and `StorageError`: it could not be written, or nobody knows. When cancelled
        before it is being written, nothing has happened.
        """
        if isinstance(found, Sender):
            return await self.line.wait(found)
        entered: TurnRecord = await found.wait()
        return entered
