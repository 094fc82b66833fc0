"""`ConversationManager`: messages in, one outcome each; and `open_manager`, which owns its tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from threading import get_ident
from typing import Any, NoReturn, final

import attrs
import outcome as outcome_lib
import trio
from trio.lowlevel import (
    Abort,
    cancel_shielded_checkpoint,
    checkpoint,
    checkpoint_if_cancelled,
    current_task,
    wait_task_rescheduled,
)

from . import _events as events
from ._books import Books, DeadLetter
from ._bus import Bus, EventStream
from ._config import Config
from ._core.admission import Admission, Displace, Refuse, Repeat, Wait
from ._core.dedupe import DedupeWindow
from ._core.lanes import DONE, INF, RUNNING, WAITING
from ._core.ratelimit import RateLimiter
from ._core.routes import Handler, Route, Router, check_handler, select
from ._core.scheduler import Scheduler
from ._core.sessions import SessionTable
from ._dispatcher import GRACE, Dispatcher
from ._errors import Duplicate, HandlerFailed, Reason, Rejected, Shed
from ._message import Message, Priority, Reply
from ._receipt import Receipt
from ._record import TurnRecord
from ._report import picture
from ._sessions import Session
from ._statistics import Statistics
from ._worker import Deliver

_UNBOUNDED = 10_000_000
_KEY = object()
# Plain numbers index lists faster than an enum's members do.
_PLAIN = tuple(range(len(Priority)))


@attrs.define(eq=False)
class _Sender:
    """A task that waits in `submit` or `ask` until there is room for its message."""

    task: trio.lowlevel.Task
    message: Message
    asked: bool


@final
class ConversationManager:
    """Decides which message is answered next, and gives each message one outcome.

    Made by `open_manager`. All methods must be called from the Trio run that opened it.
    """

    def __init__(
        self, routes: tuple[Route, ...], config: Config, deliver: Deliver | None, nursery: trio.Nursery,
        key: object = None,
    ) -> None:  # fmt: skip
        if key is not _KEY:
            raise TypeError("ConversationManager has no public constructor; use 'async with open_manager(...)'")
        self._config = config
        self._routes = routes
        self._only = routes[0] if len(routes) == 1 and routes[0].when is None else None
        scheduler = _scheduler(config)
        self._sessions = SessionTable(
            max_sessions=config.max_sessions if config.enabled else _UNBOUNDED,
            timeout=config.session_timeout,
        )
        window = DedupeWindow[TurnRecord](window=config.dedupe_window) if config.dedupe_window else None
        self._limiter = RateLimiter(default=config.rate_limit if config.enabled else None)
        self._admission = Admission(
            scheduler=scheduler, sessions=self._sessions, limiter=self._limiter, window=window,
            overflow=config.overflow, max_text=config.max_text,
        )  # fmt: skip
        self._books = Books(routes)
        self._bus = Bus()
        self._scheduler = scheduler
        self._dispatcher = Dispatcher(
            config, scheduler, self._sessions, self._books, self._bus, nursery, deliver
        )
        self._max_wait = tuple(config.max_wait.get(p, INF) for p in Priority)
        self._limited = config.enabled and config.rate_limit is not None
        self._now = self._dispatcher.now
        self._thread = get_ident()
        self._senders: deque[_Sender] = deque()
        self._last_id = 0
        self._closed = False

    # -- messages in -----------------------------------------------------------------------------

    async def ask(self, message: Message) -> Reply:
        """Hand in a message and wait for the answer.

        Returns:
            The reply; its text is empty when the handler returned None.

        Raises:
            Rejected: it was not accepted (`RateLimited`, `Overloaded`, ...: see `reason`, `retry_after`).
            Shed, Expired, Superseded, TurnCancelled, HandlerFailed: its outcome, when it is not an answer.
            ValueError, TypeError: it is no valid message; the text names field and value.
            trio.ClosedResourceError: the manager is closed.

        When cancelled, the turn is cancelled too: at once if it waits, else the handler is.
        """
        await checkpoint_if_cancelled()
        record = self._accept(message, self._now(), asked=True)
        if record is None:
            record = await self._wait_for_room(message, asked=True)
        if record.place != DONE:
            task = current_task()
            record.waiters = waiters = [task]

            def abort(_: Any) -> Abort:
                waiters.remove(task)
                self._dispatcher.cancel(record, "caller", self._now())
                return Abort.SUCCEEDED

            await wait_task_rescheduled(abort)
        outcome: Any = record.fate
        if outcome is not None and (error := outcome.error()) is not None:
            raise error
        return record.answer() if outcome is None else outcome.reply  # type: ignore[no-any-return]

    async def submit(self, message: Message) -> Receipt:
        """Hand in a message and return as soon as it is accepted.

        With `Overflow.WAIT` this waits for room, first come, first served. The reply goes to `deliver`.
        Raises as `ask` does for messages that are not accepted. When cancelled before the message is
        accepted, nothing has happened; after that, the receipt is returned.
        """
        await checkpoint_if_cancelled()
        record = self._accept(message, self._now(), asked=False)
        if record is None:
            record = await self._wait_for_room(message, asked=False)
        receipt = Receipt(record, self._dispatcher)
        await cancel_shielded_checkpoint()
        return receipt

    def submit_nowait(self, message: Message) -> Receipt:
        """`submit`, but never waits.

        Raises:
            trio.WouldBlock: `submit` would have to wait for room; nothing has happened.
        """
        record = self._accept(message, self._now(), asked=False)
        if record is None:
            raise trio.WouldBlock
        return Receipt(record, self._dispatcher)

    async def _wait_for_room(self, message: Message, *, asked: bool) -> TurnRecord:
        """Queue up behind the senders that wait already. When cancelled, nothing has happened."""
        sender = _Sender(current_task(), message, asked)
        self._senders.append(sender)
        self._senders_changed()

        def abort(_: Any) -> Abort:
            self._senders.remove(sender)
            self._senders_changed()
            return Abort.SUCCEEDED

        entered: TurnRecord = await wait_task_rescheduled(abort)
        return entered

    def _accept(self, message: Message, now: float, *, asked: bool) -> TurnRecord | None:
        """Take the message in (None: its sender has to wait). The order is fixed here, before any await."""
        if type(message) is not Message:
            raise TypeError(f"message must be a ccm.Message, got {message!r}; build one first")
        if self._closed or get_ident() != self._thread:
            self._refuse_use()
        scheduler, admission = self._scheduler, self._admission
        if now >= scheduler.timers.next:
            self._dispatcher.dispatch(now)
        refusal = admission.message(message, now)
        if refusal is not None:
            self._reject(message, refusal, now)
        route = self._only
        sides: Sequence[tuple[Route, int]] = ()
        if route is None:
            route, others = select(self._routes, message)
            if route is None:
                self._reject(message, Refuse(Reason.NO_ROUTE), now)
            # Rules are the user's code and may raise: ask them all before anything is changed.
            sides = [(side, _PLAIN[side.priority_of(message, None)]) for side in others]
        priority = _PLAIN[route.priority_of(message, None)]
        limited = self._limited and route.rate_limited
        verdict = admission.turn(message, priority, route.ordered, limited, now)
        if verdict is not None:
            if isinstance(verdict, Wait):
                return None
            if isinstance(verdict, Refuse):
                for side, urgency in sides:
                    self._accept_side(side, message, urgency, now)
                self._dispatcher.changed(now)
                self._reject(message, verdict, now)
            self._displace(verdict, now)
        if limited:
            self._limiter.record(message.tenant, message.user, now)
        record = self._add(message, route, priority, self._books.messages, now)
        record.asked = asked
        if not message.generated_id and admission.window is not None:
            admission.window.put((message.tenant, message.id), record, now)
        for side, urgency in sides:
            self._accept_side(side, message, urgency, now)
        dispatcher = self._dispatcher
        if dispatcher.watched or scheduler.timers.next < dispatcher.wake:
            dispatcher.changed(now)
        return record

    def _accept_side(self, route: Route, message: Message, priority: int, now: float) -> None:
        """A turn beside the answering one: judged and counted on its own."""
        limited = self._limited and route.rate_limited
        verdict = self._admission.turn(message, priority, route.ordered, limited, now)
        if isinstance(verdict, Displace):
            self._displace(verdict, now)
        elif verdict is not None:
            reason = verdict.reason if isinstance(verdict, Refuse) else Reason.OVERLOADED
            self._books.sides.reject(reason)
            self._publish_refusal(message, reason, now)
            return
        record = self._add(message, route, priority, self._books.sides, now)
        record.asked = True  # its reply, if any, goes to nobody

    def _add(self, message: Message, route: Route, priority: int, ledger: Any, now: float) -> TurnRecord:
        """Put an admitted turn where it belongs: to a worker, or into its lane."""
        books = self._books
        session = self._sessions.enter(
            message.conversation, message.tenant, message.channel, message.user, now
        )
        if message.channel:
            books.count_channel(message.channel)
        books.arrivals.add(now)
        self._last_id += 1
        wait = route.max_wait if route.max_wait is not None else self._max_wait[priority]
        expires = now + wait
        if message.deadline is not None and message.deadline < expires:
            expires = message.deadline
        record = TurnRecord(
            self._last_id, message, books.routes[route.name], priority, ledger, session, now, expires
        )
        started = self._scheduler.add(record, now)
        record.place = RUNNING if started else WAITING
        ledger.accept(record.place)
        if self._bus.active:
            self._publish_acceptance(record, session, now)
        if started:
            self._dispatcher.launch(record, now)
        elif self._config.preempt and priority == Priority.CRITICAL:
            self._preempt(record, now)
        return record

    def _preempt(self, record: TurnRecord, now: float) -> None:
        """A CRITICAL turn found no slot: the youngest LOW turn gives its own back."""
        lane = record.lane
        if lane is None or lane.running is not None or lane.head is not record:
            return
        for candidate in self._scheduler.preemptible():
            assert isinstance(candidate, TurnRecord)
            if candidate.cancel_by is None and candidate.degraded is None and candidate.worker is not None:
                self._dispatcher.interrupt(candidate, "preempt", now)
                return

    def _displace(self, verdict: Displace, now: float) -> None:
        victim = verdict.victim
        assert isinstance(victim, TurnRecord)
        self._scheduler.cancel(victim, now)
        self._dispatcher.degrade(victim, Shed(Reason.DISPLACED, self._patience()), "shed", now)

    # -- messages that do not come in ------------------------------------------------------------

    def _reject(self, message: Message, refusal: Refuse | Repeat, now: float) -> NoReturn:
        if isinstance(refusal, Repeat):
            repeat = Duplicate(Reason.DUPLICATE)
            repeat.receipt = Receipt(refusal.first, self._dispatcher)
            self._books.messages.reject(Reason.DUPLICATE)
            self._publish_refusal(message, Reason.DUPLICATE, now)
            raise repeat
        self._books.messages.reject(refusal.reason)
        self._publish_refusal(message, refusal.reason, now)
        retry_after = refusal.retry_after
        if retry_after is None and refusal.reason not in (Reason.DRAINING, Reason.NO_ROUTE):
            retry_after = self._patience()
        raise Rejected.because(refusal.reason, retry_after)

    def _publish_refusal(self, message: Message, reason: Reason, now: float) -> None:
        if self._bus.active:
            self._bus.publish(events.Refused(now, message.id, message.conversation, message.tenant, reason))

    def _publish_acceptance(self, record: TurnRecord, session: Any, now: float) -> None:
        for gone in self._sessions.take_evicted():
            self._bus.publish(events.SessionEnded(now, gone.conversation, "evicted"))
        if session.messages == 1:
            self._bus.publish(events.SessionStarted(now, session.conversation))
        self._bus.publish(
            events.Accepted(now, record.id, record.key, record.tenant, record.route.name, record.klass)
        )

    def _patience(self) -> float:
        """Seconds after which half of what waits now should be gone."""
        scheduler = self._scheduler
        return max(0.1, self._books.mean_service * (scheduler.waiting / scheduler.limit + 1) / 2)

    def _refuse_use(self) -> NoReturn:
        if self._closed:
            raise trio.ClosedResourceError("this manager is closed; open a new one with open_manager")
        raise RuntimeError("this manager belongs to another Trio run; open one in this run")

    def _let_senders_in(self, now: float) -> None:
        """Admit waiting senders in order while there is room, on their behalf: nobody overtakes them."""
        self._dispatcher.on_room = None
        self._admission.senders = 0
        result: outcome_lib.Outcome[TurnRecord]
        while self._senders:
            sender = self._senders[0]
            try:
                record = self._accept(sender.message, now, asked=sender.asked)
            except (Rejected, ValueError) as error:
                result = outcome_lib.Error(error)
            else:
                if record is None:
                    break
                result = outcome_lib.Value(record)
            self._senders.popleft()
            trio.lowlevel.reschedule(sender.task, result)
        self._senders_changed()

    def _senders_changed(self) -> None:
        self._admission.senders = len(self._senders)
        self._dispatcher.on_room = self._let_senders_in if self._senders else None
        self._dispatcher.watch()

    # -- looking at it ---------------------------------------------------------------------------

    @property
    def config(self) -> Config:
        """The settings it was opened with."""
        return self._config

    def session(self, conversation: str) -> Session | None:
        """The live side of a conversation, or None when it is not live."""
        entry = self._sessions.get(conversation)
        return None if entry is None else Session(entry)

    def sessions(self) -> list[Session]:
        """All live conversations, oldest first. O(sessions)."""
        return [Session(entry) for entry in self._sessions]

    def statistics(self) -> Statistics:
        """One consistent picture. Its cost does not depend on the number of sessions or messages."""
        return picture(self._dispatcher, len(self._senders), self._now())

    def events(self, buffer: int = 1000) -> AbstractAsyncContextManager[EventStream]:
        """What happens from now on: `async with manager.events() as stream: async for event in stream`.

        The manager never waits for a reader: one that falls more than `buffer` events behind loses some
        and is told how many (`Lagged`).
        """
        return self._bus.listen(buffer)

    def dead_letters(self) -> list[DeadLetter]:
        """Messages whose handling failed for good, oldest first; at most 1000 are kept in memory."""
        return list(self._books.dead.values())

    # -- the end ---------------------------------------------------------------------------------

    async def wait_idle(self) -> None:
        """Wait until no message waits, runs or waits for a retry."""
        await checkpoint()
        while self._dispatcher.busy or self._senders:
            event = trio.Event()
            self._dispatcher.idlers.append(event)
            self._dispatcher.watch()
            try:
                await event.wait()
            finally:
                if event in self._dispatcher.idlers:
                    self._dispatcher.idlers.remove(event)

    async def drain(self) -> None:
        """Take no more messages and wait until those accepted have their outcomes.

        When cancelled, the manager goes on refusing messages.
        """
        self._stop_intake()
        await self.wait_idle()

    def _stop_intake(self) -> None:
        if not self._admission.draining:
            self._admission.draining = True
            self._bus.publish(events.DrainStarted(self._now()))
            self._let_senders_in(self._now())

    async def _shut_down(self, *, at_once: bool) -> None:
        """Law G12: drain until the deadline, cancel what is left, give handlers a moment to clean up."""
        self._stop_intake()
        for seconds in (0.0 if at_once else self._config.drain, GRACE):
            with trio.CancelScope(shield=True, deadline=self._now() + seconds):
                if seconds:
                    await self.wait_idle()
            if not self._dispatcher.busy:
                break
            self._dispatcher.abort("drain", self._now())
        self._closed = True
        self._dispatcher.close()
        self._bus.close()


def _scheduler(config: Config) -> Scheduler:
    if not config.enabled:
        return Scheduler(limit=_UNBOUNDED, queue_limit=_UNBOUNDED, conversation_limit=_UNBOUNDED)
    return Scheduler(
        limit=config.limit, headroom=[config.headroom_of(p) for p in Priority],
        queue_limit=config.queue_limit, conversation_limit=config.conversation_limit,
        ageing=config.ageing, weights=config.weights, by_seconds=config.charge == "seconds",
    )  # fmt: skip


def _routes(handler: Handler | Router, config: Config, fallback: Handler | None) -> tuple[Route, ...]:
    router = handler
    if not isinstance(router, Router):
        check_handler("handler", handler)
        router = Router()
        router.route("chat", fallback=fallback)(handler)  # type: ignore[arg-type]
    elif fallback is not None:
        raise TypeError(f"fallback belongs to a route when there is a Router, got {fallback!r}")
    routes = router.routes(config)
    if not routes:
        raise ValueError(f"the router has no route, got {router!r}; add one with @router.route(name)")
    if not config.enabled:
        once = attrs.evolve(config.retry, attempts=1)
        routes = tuple(attrs.evolve(r, ordered=False, retry=once, max_wait=None) for r in routes)
    return routes


@asynccontextmanager
async def open_manager(
    handler_or_router: Handler | Router, *, config: Config | None = None, storage: None = None,
    deliver: Deliver | None = None, fallback: Handler | None = None,
) -> AsyncIterator[ConversationManager]:  # fmt: skip
    """Open a manager: `async with ccm.open_manager(handler) as manager: ...`.

    Leaving the block stops the intake, lets accepted messages be answered within `config.drain` seconds
    and cancels what is left; so does a surrounding cancellation.

    Args:
        handler_or_router: an async function that takes a `Turn` and returns the reply's text (or None), or a
            `Router` with several of them.
        config: settings; None is `Config()`.
        storage: None keeps everything in memory.
        deliver: async function called as `deliver(reply, message)` for replies nobody waits for. It is
            tried again under the route's retry policy, in the order of the conversation.
        fallback: async handler that answers for turns that were shed, expired or failed for good.

    Raises:
        TypeError, ValueError: an argument is not what it must be; the text names it.

    A handler that raises a `BaseException` other than `trio.Cancelled` ends the manager: the block is
    cancelled and the error comes out of it.
    """
    config = Config() if config is None else config
    if not isinstance(config, Config):
        raise TypeError(f"config must be a ccm.Config, got {config!r}")
    if storage is not None:
        raise TypeError(f"storage must be None (memory) in this version, got {storage!r}")
    if deliver is not None:
        check_handler("deliver", deliver)
    routes = _routes(handler_or_router, config, fallback)
    only: BaseException
    try:
        async with trio.open_nursery() as nursery:
            manager = ConversationManager(routes, config, deliver, nursery, _KEY)
            try:
                yield manager
            finally:
                await manager._shut_down(at_once=nursery.cancel_scope.cancel_called)
    except BaseExceptionGroup as group:
        # The nursery wraps even a single error; whoever uses the block should see their own. Who asked in
        # the block and was told of the error that ended the manager has nothing to add to it.
        all_ = group.exceptions
        errors = [e for e in all_ if not isinstance(e, HandlerFailed) or e.__cause__ not in all_]
        if len(errors) > 1:
            raise
        only = errors[0]
    else:
        return
    raise only
