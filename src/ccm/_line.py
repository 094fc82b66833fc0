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


@final
@attrs.define(eq=False)
class Sender:
    """Somebody who waits in `submit` or `ask` until there is room for the message.

    Attributes:
        task: waits for `result`; None: not yet.
        pending: the message, when there is room and it is on its way into the storage.
        result: the record, or why there will be none.
    """

    message: Message
    asked: bool
    task: trio.lowlevel.Task | None = None
    pending: Pending | None = None
    result: outcome_lib.Outcome[TurnRecord] | None = None

    def tell(self, result: outcome_lib.Outcome[TurnRecord]) -> None:
        """Let it go on. O(1)."""
        self.result = result
        if self.task is not None:
            reschedule(self.task)


@final
class Line:
    """Senders that wait for room, first come, first served.

    Invariant: with senders waiting, or with messages in the storage that have not been taken up, nobody else
    is let in before them.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._dispatcher = intake._dispatcher
        self.senders: deque[Sender] = deque()

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
            sender.tell(result)
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
            sender.tell(outcome_lib.Error(TurnCancelled("stop")))
        self.changed()
        return len(gone)

    def changed(self) -> None:
        """Note whether somebody wants to know of room."""
        intake = self._intake
        intake.admission.senders = len(self.senders)
        behind = intake.inbox is not None and intake.inbox.behind
        self._dispatcher.on_room = self.let_in if self.senders or behind else None
        self._dispatcher.watch()

    def join(self, message: Message, *, asked: bool) -> Sender:
        """Queue up behind the senders that wait already; `wait` has to follow. O(1)."""
        sender = Sender(message, asked)
        self.senders.append(sender)
        self.changed()
        return sender

    async def wait(self, sender: Sender) -> TurnRecord:
        """Wait until there is room. When cancelled, nothing has happened.

        With a storage, a sender that is cancelled while its message is being written waits for that.
        """
        if sender.result is not None:  # it stands, also for a task that has been cancelled
            await trio.lowlevel.cancel_shielded_checkpoint()
            return sender.result.unwrap()
        if sender.pending is not None and sender.pending.task is None:
            entered: TurnRecord = await sender.pending.wait()
            return entered
        sender.task = current_task()

        def abort(_: Any) -> Abort:
            if sender.pending is not None:
                return sender.pending.abort(None)
            self.senders.remove(sender)
            # Whoever stood behind it may have room where it had none.
            self.let_in(self._dispatcher.now())
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)
        if sender.pending is not None:
            entered = sender.pending.outcome()
            return entered
        assert sender.result is not None
        return sender.result.unwrap()
