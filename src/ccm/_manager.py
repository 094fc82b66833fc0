"""`ConversationManager`: messages in, one outcome each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, Self, final

import trio
from trio.lowlevel import (
    Abort,
    cancel_shielded_checkpoint,
    checkpoint,
    checkpoint_if_cancelled,
    current_task,
    wait_task_rescheduled,
)

from ._bus import EventStream
from ._changes import Changes
from ._checks import refuse
from ._config import Config
from ._core.lanes import DONE
from ._core.scheduler import Scheduler
from ._core.trends import Trends
from ._corrections import Corrections
from ._dispatcher import GRACE, Dispatcher
from ._facilities import Facilities
from ._intake import Intake
from ._line import Sender
from ._message import Message, Reply
from ._receipt import Receipt
from ._record import TurnRecord
from ._report import picture
from ._sessions import Session
from ._statistics import Statistics
from ._streaming import ReplyStream

if TYPE_CHECKING:
    from ._inbox import Pending


class Accept(Protocol):
    """`Intake.accept`."""

    def __call__(self, message: Message, now: float, *, asked: bool) -> TurnRecord | Pending | None: ...


def _would_block(message: Message, now: float, *, asked: bool) -> None:
    """Stands for `Intake.accept` where `submit_nowait` would always have to wait."""


@final
class ConversationManager(Corrections, Facilities):
    """Decides which message is answered next, and gives each message one outcome.

    Made by `open_manager`. All methods must be called from the Trio run that opened it.
    """

    _scheduler: Scheduler
    _changes: Changes
    _intake: Intake
    _accept: Accept
    _accept_now: Accept
    _now: Callable[[], float]
    _until: float  # when a drain that has an end will be over

    def __init__(self, *_: object, **__: object) -> None:
        raise TypeError("ConversationManager has no public constructor; use 'async with open_manager(...)'")

    @classmethod
    def _create(cls, config: Config, dispatcher: Dispatcher, intake: Intake) -> Self:
        manager = cls.__new__(cls)
        manager._config = config
        manager._dispatcher = dispatcher
        manager._scheduler = dispatcher.scheduler
        manager._changes = dispatcher.changes
        manager._intake = intake
        manager._accept = intake.accept
        manager._accept_now = intake.accept if intake.inbox is None else _would_block
        manager._now = dispatcher.now
        manager._until = inf
        return manager

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
        if isinstance(record, TurnRecord):
            pass
        elif record is None:
            record = await self._intake.arrive(self._intake.line.join(message, asked=True))
        else:
            await wait_task_rescheduled(record.expect())
            record = record.outcome()
        if record.place != DONE or record.sealed is False:
            await wait_task_rescheduled(self._expect(record))
        return self._reply(record)

    def _begin(self, message: Message, *, asked: bool) -> TurnRecord | Pending | Sender:
        """Take a message in, or to where it has to wait: its place among the others is fixed here."""
        found = self._accept(message, self._now(), asked=asked)
        return self._intake.line.join(message, asked=asked) if found is None else found

    async def _entered(self, found: TurnRecord | Pending | Sender) -> TurnRecord:
        """The record of a message that `_begin` has taken in, once it is accepted."""
        if isinstance(found, TurnRecord):
            return found  # noqa: ASYNC910 - its callers checkpoint
        return await self._intake.arrive(found)

    async def _answer(  # noqa: ASYNC910 - for a task of its own
        self, found: TurnRecord | Pending | Sender
    ) -> Reply:  # fmt: skip
        """Wait for the answer to a message that `_begin` has taken in."""
        record = await self._entered(found)
        if record.place != DONE or record.sealed is False:
            await wait_task_rescheduled(self._expect(record))
        return self._reply(record)  # noqa: ASYNC910

    def _expect(self, record: TurnRecord) -> Callable[[Any], Abort]:
        """Have this task woken with the outcome; what to do when it is cancelled."""
        task = current_task()
        waiters = record.waiters
        if waiters is None:
            record.waiters = waiters = [task]
        else:
            waiters.append(task)  # who repeated the message may be waiting already

        def abort(_: Any) -> Abort:
            waiters.remove(task)
            self._dispatcher.cancel(record, "caller", self._now())
            return Abort.SUCCEEDED

        return abort

    @staticmethod
    def _reply(record: TurnRecord) -> Reply:
        """What the turn was answered, or the error for whoever asked."""
        outcome: Any = record.fate
        if outcome is not None and (error := outcome.error()) is not None:
            raise error
        return record.answer() if outcome is None else outcome.reply

    async def submit(self, message: Message) -> Receipt:
        """Hand in a message and return as soon as it is accepted.

        With `Overflow.WAIT` this waits for room, first come, first served. The reply goes to `deliver`.
        Raises as `ask` does for messages that are not accepted. When cancelled before the message is
        accepted, nothing has happened; after that, the receipt is returned. With a storage, it is
        accepted when it is durable; while it is being written, cancellation waits.
        """
        await checkpoint_if_cancelled()
        found = self._accept(message, self._now(), asked=False)
        # As `_taken` does, in as few frames as can be: this is done for each message.
        if isinstance(found, TurnRecord):
            await cancel_shielded_checkpoint()
            return Receipt(found, self._dispatcher)
        if found is None:
            sender = self._intake.line.join(message, asked=False)
            return Receipt(await self._intake.arrive(sender), self._dispatcher)
        await wait_task_rescheduled(found.expect())
        return Receipt(found.outcome(), self._dispatcher)

    async def _resubmit(self, message: Message, letter: int) -> Receipt:
        self._intake.replayed = letter
        try:
            found = self._begin(message, asked=False)
        finally:
            self._intake.replayed = None
        return await self._taken(found)

    async def _taken(self, found: TurnRecord | Pending | Sender) -> Receipt:
        """Wait until a message that `_begin` has taken in is accepted."""
        if isinstance(found, TurnRecord):
            await cancel_shielded_checkpoint()
            return Receipt(found, self._dispatcher)
        return Receipt(await self._intake.arrive(found), self._dispatcher)

    def submit_nowait(self, message: Message) -> Receipt:
        """`submit`, but never waits.

        Raises:
            trio.WouldBlock: `submit` would have to wait for room; nothing has happened.
        """
        record = self._accept_now(message, self._now(), asked=False)
        if type(record) is not TurnRecord:
            raise trio.WouldBlock
        return Receipt(record, self._dispatcher)

    @asynccontextmanager
    async def stream(self, message: Message) -> AsyncIterator[ReplyStream]:
        """Hand in a message and read the reply as it is written.

        Use: `async with manager.stream(message) as chunks: async for text in chunks: ...`. A `Restarted`
        among the pieces voids the text so far. The handler waits for the reader; leaving the block before
        the end cancels the turn. Raises as `ask` does: on entering while the message is refused, in the
        iteration for what becomes of it.
        """
        await checkpoint_if_cancelled()
        async with self._chunks(self._begin(message, asked=True)) as chunks:
            yield chunks

    @asynccontextmanager
    async def _chunks(self, found: TurnRecord | Pending | Sender) -> AsyncIterator[ReplyStream]:
        """The stream of a message that `_begin` has taken in."""
        record = await self._entered(found)
        chunks = ReplyStream(record)
        chunks.receipt = Receipt(record, self._dispatcher)
        if record.place == DONE:
            chunks.ended(record)
        else:
            record.more.stream = chunks
        try:
            yield chunks
        finally:
            self._dispatcher.cancel(record, "caller", self._now())
            chunks.close()

    @asynccontextmanager
    async def expect(self, message: Message) -> AsyncIterator[Receipt]:
        """Hand in a message that somebody waits for: `async with manager.expect(message) as receipt: ...`.

        Like `ask`, for who also wants the receipt: leaving the block before the outcome cancels the turn,
        and the reply goes to nobody else. Raises as `submit` does for messages that are not accepted.
        """
        await checkpoint_if_cancelled()
        found = self._begin(message, asked=True)
        record = await self._entered(found)
        try:
            yield Receipt(record, self._dispatcher)
        finally:
            self._dispatcher.cancel(record, "caller", self._now())

    # -- looking at it ---------------------------------------------------------------------------

    @property
    def config(self) -> Config:
        """The settings it was opened with."""
        return self._config

    def session(self, conversation: str) -> Session | None:
        """The live side of a conversation, or None when it is not live."""
        entry = self._dispatcher.sessions.get(conversation)
        return None if entry is None else Session(entry)

    def sessions(self) -> list[Session]:
        """All live conversations, oldest first. O(sessions)."""
        return [Session(entry) for entry in self._dispatcher.sessions]

    def statistics(self) -> Statistics:
        """One consistent picture. Its cost does not depend on the number of sessions or messages."""
        return picture(self._dispatcher, len(self._intake.senders), self._now())

    def trends(self, step: int = 1) -> Trends:
        """What happened lately: the last 300 seconds, or the last 1440 minutes. O(rows).

        Only seconds and minutes that are over have a row, also those in which nothing happened.

        Args:
            step: seconds in a row, 1 or 60.

        Raises:
            ValueError: `step` is neither 1 nor 60.
        """
        return self._dispatcher.recorder.trends(step, self._now())

    def events(self, buffer: int = 1000) -> AbstractAsyncContextManager[EventStream]:
        """What happens from now on: `async with manager.events() as stream: async for event in stream`.

        The manager never waits for a reader: one that falls more than `buffer` events behind loses some
        and is told how many (`Lagged`).
        """
        return self._dispatcher.bus.listen(buffer)

    # -- the end ---------------------------------------------------------------------------------

    async def wait_idle(self) -> None:
        """Wait until no message, and no item of a service, waits, runs or waits for a retry.

        With a storage, also until everything is written and every reply delivered or given up.
        """
        await self._turns_idle()
        while self._services.busy:
            await self._services.wait_idle()
            await self._turns_idle()
        if self._durable is not None:
            await self._durable.wait_idle()

    async def _turns_idle(self) -> None:
        await checkpoint()
        while self._dispatcher.busy or self._intake.expected:
            event = trio.Event()
            self._dispatcher.idlers.append(event)
            self._dispatcher.watch()
            try:
                await event.wait()
            finally:
                if event in self._dispatcher.idlers:
                    self._dispatcher.idlers.remove(event)

    async def drain(self, *, within: float | None = None) -> None:
        """Take no more messages and wait until those accepted have their outcomes, and services are idle.

        When cancelled, the manager goes on refusing messages.

        Args:
            within: seconds, >= 0, after which the turns that are left are cancelled; then it returns as soon
                as they have cleaned up, or after one more second. Leaving the manager's block later waits for
                no longer than what is left of this time. None waits as long as it takes.

        Raises:
            ConfigError: `within` is negative, infinite or no number.
        """
        if within is not None:
            if isinstance(within, bool) or not isinstance(within, (int, float)) or not 0 <= within < inf:
                raise refuse("within", within, "finite seconds >= 0, or None")
            self._until = min(self._until, self._now() + within)
        self._intake.stop(self._now())
        with trio.CancelScope(deadline=self._until) as scope:
            await self.wait_idle()
        if scope.cancelled_caught:
            self._dispatcher.abort("drain", self._now())
            with trio.move_on_after(GRACE):
                await self._turns_idle()

    async def _shut_down(self, *, at_once: bool) -> None:
        """Law G12: drain until the deadline, cancel what is left, give handlers a moment to clean up."""
        dispatcher, services = self._dispatcher, self._services
        left = max(0.0, min(self._config.drain, self._until - self._now()))
        until = self._now() + (0.0 if at_once else left)
        try:
            self._intake.stop(self._now())
            for seconds in (0.0 if at_once else left, GRACE):
                with trio.CancelScope(shield=True, deadline=self._now() + seconds):  # noqa: ASYNC912
                    if seconds:
                        await self._turns_idle()
                if not dispatcher.busy:
                    break
                dispatcher.abort("drain", self._now())
            # Turns use services, so these come after them.
            await services.close(until)
            if self._durable is not None:
                await self._durable.shut_down(until, GRACE)
        finally:
            self._intake.closed = True
            services.abort()
            if (watch := dispatcher.books.tools.watch) is not None:
                watch.close()
            dispatcher.close()
            if self._durable is not None:
                self._durable.abort()
