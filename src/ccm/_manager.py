"""`ConversationManager`: messages in, one outcome each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, Self, final

import attrs
import trio
from trio.lowlevel import (
    Abort,
    cancel_shielded_checkpoint,
    checkpoint,
    checkpoint_if_cancelled,
    current_task,
    wait_task_rescheduled,
)

from ._books import DeadLetter
from ._bus import EventStream
from ._changes import Change, Changes, Stopped
from ._config import Config
from ._core.alerts import Alert
from ._core.lanes import DONE
from ._core.scheduler import Scheduler
from ._core.trends import Trends
from ._dispatcher import GRACE, Dispatcher
from ._intake import Intake
from ._message import Message, Priority, Reply
from ._policies import RetryPolicy
from ._receipt import Receipt
from ._record import TurnRecord
from ._report import picture
from ._services import Service, Services
from ._sessions import Session
from ._statistics import Statistics
from ._streaming import ReplyStream


class Accept(Protocol):
    """`Intake.accept`."""

    def __call__(self, message: Message, now: float, *, asked: bool) -> TurnRecord | None: ...


@final
class ConversationManager:
    """Decides which message is answered next, and gives each message one outcome.

    Made by `open_manager`. All methods must be called from the Trio run that opened it.
    """

    _config: Config
    _dispatcher: Dispatcher
    _scheduler: Scheduler
    _changes: Changes
    _intake: Intake
    _accept: Accept
    _now: Callable[[], float]

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
        manager._now = dispatcher.now
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
        if record is None:
            record = await self._intake.wait_for_room(message, asked=True)
        if record.place != DONE:
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

            await wait_task_rescheduled(abort)
        outcome: Any = record.fate
        if outcome is not None and (error := outcome.error()) is not None:
            raise error
        return record.answer() if outcome is None else outcome.reply

    async def submit(self, message: Message) -> Receipt:
        """Hand in a message and return as soon as it is accepted.

        With `Overflow.WAIT` this waits for room, first come, first served. The reply goes to `deliver`.
        Raises as `ask` does for messages that are not accepted. When cancelled before the message is
        accepted, nothing has happened; after that, the receipt is returned.
        """
        await checkpoint_if_cancelled()
        record = self._accept(message, self._now(), asked=False)
        if record is None:
            record = await self._intake.wait_for_room(message, asked=False)
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

    @asynccontextmanager
    async def stream(self, message: Message) -> AsyncIterator[ReplyStream]:
        """Hand in a message and read the reply as it is written.

        Use: `async with manager.stream(message) as chunks: async for text in chunks: ...`. A `Restarted`
        among the pieces voids the text so far. The handler waits for the reader; leaving the block before
        the end cancels the turn. Raises as `ask` does: on entering while the message is refused, in the
        iteration for what becomes of it.
        """
        await checkpoint_if_cancelled()
        record = self._accept(message, self._now(), asked=True)
        if record is None:
            record = await self._intake.wait_for_room(message, asked=True)
        chunks = ReplyStream(record)
        if record.place == DONE:
            chunks.ended(record)
        else:
            record.more.stream = chunks
        try:
            yield chunks
        finally:
            self._dispatcher.cancel(record, "caller", self._now())
            chunks.close()

    async def edit(self, message_id: str, text: str, *, tenant: str = "") -> Change:
        """Give a message a new text: one that waits is replaced, a turn that runs starts again.

        The message keeps its place and its class.

        Returns:
            `REPLACED`, `RESTARTED`, `ENDED` (too late) or `UNKNOWN`.

        Raises:
            ValueError, TypeError: the text is not valid; nothing was changed.
        """
        self._intake.check_text(text)
        record = self._intake.find(tenant, message_id)
        change = Change.UNKNOWN if record is None else self._changes.edit(record, text, self._now())
        await cancel_shielded_checkpoint()
        return change

    async def retract(self, message_id: str, *, tenant: str = "") -> Change:
        """Take a message back: its turn is cancelled, or its reply is retracted.

        Waits until a running turn has cleaned up. A reply that was given already is taken out of the
        history, and a `Retracted` event tells front ends to take it back.

        Returns:
            `CANCELLED`, `INTERRUPTED`, `WITHDRAWN` (it shared a turn), `RETRACTED`, `ENDED` or `UNKNOWN`.

        When cancelled, the turn is cancelled all the same.
        """
        record = self._intake.find(tenant, message_id)
        if record is None:
            await checkpoint()
            return Change.UNKNOWN
        return await self._changes.retract(record, self._now())

    async def stop(self, conversation: str) -> Stopped:
        """End all turns of a conversation: first what waits, so that nothing starts, then what runs.

        Senders that wait for room with a message of the conversation get `TurnCancelled(by="stop")`, and
        count as waiting here. Turns of side routes go on: nobody stops the moderation of what he said.

        Waits for the cleanup of running turns, at most a second; what has not ended by then is counted as
        stuck and goes on to hold its slot and its conversation. Later messages are handled as usual.
        """
        dismissed = self._intake.dismiss(conversation, self._now())
        stopped = await self._changes.stop(conversation, GRACE)
        return attrs.evolve(stopped, waiting=stopped.waiting + dismissed)

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

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The active alerts, critical ones first, then the oldest; none without rules. O(n log n)."""
        watch = self._dispatcher.books.tools.watch
        return () if watch is None else watch.active

    # -- services --------------------------------------------------------------------------------

    @property
    def _services(self) -> Services:
        return self._dispatcher.books.tools.services

    def service(
        self, name: str, fn: Callable[[Any], Awaitable[Any]], *, concurrency: int = 1, queue: int = 100,
        retry: RetryPolicy | None = None,
    ) -> Service:  # fmt: skip
        """Make a named background worker, which handles `data` by `await fn(data)`.

        More urgent items are taken first, those of one class in the order in which they were handed in; an
        item that is tried again keeps its place. What `fn` raises harms nothing else: the item is tried
        again, at last it becomes a dead letter (`Busy` and `Permanent` mean what they mean in a handler).
        `Service.current()` tells `fn` which attempt it is. Services outlive the turns: when the manager
        closes, they work off what they have within what is left of `config.drain` seconds, then they are
        cancelled.

        Args:
            name: 1 to 512 characters, unique in the manager.
            fn: async function of one argument.
            concurrency: instances that share the load, 1 to 10,000.
            queue: items that may wait, 1 to 10,000,000.
            retry: attempts and their delays; None is `config.retry`.

        Raises:
            TypeError, ValueError: an argument is not what it must be; the text names it.
            trio.ClosedResourceError: the manager is closing.
        """
        policy = self._config.retry if retry is None else retry
        return self._services.add(name, fn, concurrency, queue, policy)

    async def send(
        self, name: str, data: Any, *, source: str = "", priority: Priority = Priority.NORMAL
    ) -> None:  # fmt: skip
        """Hand an item to a service and return once it is accepted.

        At the bound of its queue this waits for room, the more urgent first, then first come, first served.
        When cancelled before the item is accepted, nothing has happened.

        Args:
            name: the service.
            data: what `fn` gets.
            source: who sends it, for `Service.current()` and dead letters.
            priority: its class.

        Raises:
            KeyError: there is no such service; the text names those there are.
            ServiceCycle: a service would wait for room that only it, or who waits for it, can make.
            trio.ClosedResourceError: the manager is closed, or is closing and this is no service's task.
        """
        await self._services.get(name).send(data, source=source, priority=priority)

    def send_nowait(
        self, name: str, data: Any, *, source: str = "", priority: Priority = Priority.NORMAL
    ) -> None:  # fmt: skip
        """`send`, but never waits.

        Raises:
            trio.WouldBlock: `send` would have to wait for room; nothing has happened.
        """
        self._services.get(name).send_nowait(data, source=source, priority=priority)

    async def call(
        self, name: str, data: Any, *, source: str = "", priority: Priority = Priority.NORMAL
    ) -> Any:  # fmt: skip
        """Have a service handle `data` and wait for what its function returns.

        Raises as `send` does, and:
            HandlerFailed: it failed for good; `__cause__` is its last error, `dead_letter` where it is kept.

        When cancelled, so is the item: at once if it waits, else the function is.
        """
        return await self._services.get(name).call(data, source=source, priority=priority)

    # -- what failed for good --------------------------------------------------------------------

    def dead_letters(self) -> list[DeadLetter]:
        """What failed for good, messages and items of services, oldest first; at most 1000 are kept."""
        return list(self._dispatcher.books.dead.values())

    async def replay(self, id: int) -> Receipt | None:
        """Hand a dead letter in again: a message with a new id and without its deadline, or an item.

        Returns:
            The receipt of the message; None for an item. The letter is gone once it is accepted.

        Raises:
            KeyError: there is no such letter (the text names those there are), or its service is gone.
            Exception: what `submit` or `send` raises when it is not accepted; the letter is kept.

        When cancelled before it is accepted, the letter is kept.
        """
        books = self._dispatcher.books
        letter = books.take_letter(id)
        try:
            if letter.message is not None:
                return await self.submit(letter.message.replace(id=None, deadline=None))
            await self.send(letter.service, letter.data, source=letter.source, priority=letter.priority)
        except BaseException:
            books.put_back(letter)
            raise
        return None

    def discard(self, id: int) -> DeadLetter:
        """Forget a dead letter; returns it.

        Raises:
            KeyError: there is no such letter; the text names those there are.
        """
        return self._dispatcher.books.take_letter(id)

    # -- cached contexts -------------------------------------------------------------------------

    def invalidate(
        self, *, conversation: str | None = None, name: str | None = None, prefix: str | None = None
    ) -> int:
        """Forget values of `Turn.context`; a load on its way answers those who wait but is not kept.

        Args:
            conversation: of this conversation only; None is of all.
            name: of this name only.
            prefix: of names that begin so, instead of `name`; "" is every name.

        Returns:
            How many values were forgotten.

        Raises:
            TypeError: none of the three is given, both `name` and `prefix` are, or one is no string.

        O(1) with conversation and name, O(names of the conversation) with it, else O(values).
        """
        return self._dispatcher.books.tools.contexts.invalidate(conversation, name, prefix)

    # -- the end ---------------------------------------------------------------------------------

    async def wait_idle(self) -> None:
        """Wait until no message, and no item of a service, waits, runs or waits for a retry."""
        await self._turns_idle()
        while self._services.busy:
            await self._services.wait_idle()
            await self._turns_idle()

    async def _turns_idle(self) -> None:
        await checkpoint()
        while self._dispatcher.busy or self._intake.senders:
            event = trio.Event()
            self._dispatcher.idlers.append(event)
            self._dispatcher.watch()
            try:
                await event.wait()
            finally:
                if event in self._dispatcher.idlers:
                    self._dispatcher.idlers.remove(event)

    async def drain(self) -> None:
        """Take no more messages and wait until those accepted have their outcomes, and services are idle.

        When cancelled, the manager goes on refusing messages.
        """
        self._intake.stop(self._now())
        await self.wait_idle()

    async def _shut_down(self, *, at_once: bool) -> None:
        """Law G12: drain until the deadline, cancel what is left, give handlers a moment to clean up."""
        dispatcher, services = self._dispatcher, self._services
        until = self._now() + (0.0 if at_once else self._config.drain)
        try:
            self._intake.stop(self._now())
            for seconds in (0.0 if at_once else self._config.drain, GRACE):
                with trio.CancelScope(shield=True, deadline=self._now() + seconds):  # noqa: ASYNC912
                    if seconds:
                        await self._turns_idle()
                if not dispatcher.busy:
                    break
                dispatcher.abort("drain", self._now())
            # Turns use services, so these come after them.
            await services.close(until)
        finally:
            self._intake.closed = True
            services.abort()
            if (watch := dispatcher.books.tools.watch) is not None:
                watch.close()
            dispatcher.close()
