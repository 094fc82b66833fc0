"""`ConversationManager`: messages in, one outcome each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, Self, final

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
from ._config import Config
from ._core.lanes import DONE
from ._core.scheduler import Scheduler
from ._dispatcher import GRACE, Dispatcher
from ._intake import Intake
from ._message import Message, Reply
from ._receipt import Receipt
from ._record import TurnRecord
from ._report import picture
from ._sessions import Session
from ._statistics import Statistics


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
            record.waiters = waiters = [task]

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

    def events(self, buffer: int = 1000) -> AbstractAsyncContextManager[EventStream]:
        """What happens from now on: `async with manager.events() as stream: async for event in stream`.

        The manager never waits for a reader: one that falls more than `buffer` events behind loses some
        and is told how many (`Lagged`).
        """
        return self._dispatcher.bus.listen(buffer)

    def dead_letters(self) -> list[DeadLetter]:
        """Messages whose handling failed for good, oldest first; at most 1000 are kept in memory."""
        return list(self._dispatcher.books.dead.values())

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
        """Wait until no message waits, runs or waits for a retry."""
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
        """Take no more messages and wait until those accepted have their outcomes.

        When cancelled, the manager goes on refusing messages.
        """
        self._intake.stop(self._now())
        await self.wait_idle()

    async def _shut_down(self, *, at_once: bool) -> None:
        """Law G12: drain until the deadline, cancel what is left, give handlers a moment to clean up."""
        dispatcher = self._dispatcher
        try:
            self._intake.stop(self._now())
            for seconds in (0.0 if at_once else self._config.drain, GRACE):
                with trio.CancelScope(shield=True, deadline=self._now() + seconds):
                    if seconds:
                        await self.wait_idle()
                if not dispatcher.busy:
                    break
                dispatcher.abort("drain", self._now())
        finally:
            self._intake.closed = True
            dispatcher.close()
            dispatcher.bus.close()
