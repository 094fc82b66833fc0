"""The line at the door: tasks that wait until there is room for their messages."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, final

import attrs
import outcome as outcome_lib
import trio
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

from ._errors import Rejected, TurnCancelled
from ._message import Message
from ._record import TurnRecord

if TYPE_CHECKING:
    from ._inbox import Pending
    from ._intake import Intake


@attrs.define(eq=False)
class _Sender:
    """A task that waits in `submit` or `ask` until there is room for its message."""

    task: trio.lowlevel.Task
    message: Message
    asked: bool
    pending: Pending | None = None


@final
class Line:
    """Senders that wait for room, first come, first served.

    Invariant: with senders waiting, or with messages in the storage that have not been taken up, nobody else
    is let in before them.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._dispatcher = intake._dispatcher
        self.senders: deque[_Sender] = deque()

    def let_in(self, now: float) -> None:
        """Admit in order while there is room, on the senders' behalf: nobody overtakes them."""
        intake = self._intake
        self._dispatcher.on_room = None
        if intake.inbox is not None:
            intake.inbox.take_up(now)
        intake.admission.senders = 0
        while self.senders:
            sender = self.senders[0]
            result: outcome_lib.Outcome[TurnRecord]
            try:
                record = intake.accept(sender.message, now, asked=sender.asked)
            except (Rejected, ValueError, TypeError) as error:
                result = outcome_lib.Error(error)
            else:
                if record is None:
                    break
                if type(record) is not TurnRecord:
                    sender.pending = record  # type: ignore[assignment]
                    sender.pending.task = sender.task  # type: ignore[union-attr]
                    self.senders.popleft()
                    continue
                result = outcome_lib.Value(record)
            self.senders.popleft()
            reschedule(sender.task, result)
        self.changed()

    def dismiss(self, conversation: str, now: float) -> int:
        """Send away those who wait for room for this conversation; how many. O(senders).

        Their messages have reached the manager, so each has its outcome in the books. Who stood behind them
        is let in by the step that called this.
        """
        self._dispatcher.recorder.close(now)
        gone = [sender for sender in self.senders if sender.message.conversation == conversation]
        for sender in gone:
            self.senders.remove(sender)
            ledger = self._dispatcher.books.messages
            ledger.received += 1
            ledger.outcomes["cancelled"] += 1
            reschedule(sender.task, outcome_lib.Error(TurnCancelled("stop")))
        self.changed()
        return len(gone)

    def changed(self) -> None:
        """Note whether somebody wants to know of room."""
        intake = self._intake
        intake.admission.senders = len(self.senders)
        behind = intake.inbox is not None and intake.inbox.behind
        self._dispatcher.on_room = self.let_in if self.senders or behind else None
        self._dispatcher.watch()

    async def wait(self, message: Message, *, asked: bool) -> TurnRecord:
        """Queue up behind the senders that wait already. When cancelled, nothing has happened.

        With a storage, a sender that is cancelled while its message is being written waits for that.
        """
        sender = _Sender(current_task(), message, asked)
        self.senders.append(sender)
        self.changed()

        def abort(_: Any) -> Abort:
            if sender.pending is not None:
                return sender.pending.abort(self._intake.journal)
            self.senders.remove(sender)
            # Whoever stood behind it may have room where it had none.
            self.let_in(self._dispatcher.now())
            return Abort.SUCCEEDED

        entered: TurnRecord = await wait_task_rescheduled(abort)
        return entered if sender.pending is None else sender.pending.outcome()
