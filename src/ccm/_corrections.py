"""What is done to messages after they were handed in: `edit`, `retract` and `stop` of a manager."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint

from ._changes import Change, Changes, Stopped
from ._dispatcher import GRACE, Dispatcher
from ._intake import Intake
from ._message import Message
from ._record import TurnRecord

if TYPE_CHECKING:
    from ._durable import Durable


class Corrections(ABC):
    """The part of a `ConversationManager` that changes what was said."""

    _changes: Changes
    _dispatcher: Dispatcher
    _intake: Intake
    _now: Callable[[], float]

    @property
    def _durable(self) -> Durable | None:
        return self._dispatcher.books.tools.durable

    async def edit(
        self, message_id: str, text: str, *, tenant: str = "", whole: Message | None = None
    ) -> Change:
        """Give a message a new text: one that waits is replaced, a turn that runs starts again.

        The message keeps its place and its class. Side routes with `edits=True` get a turn with the new text,
        if it matches; also when it comes too late for the answer.

        Args:
            message_id, tenant: which message.
            text: what it says now.
            whole: the message as it is now, for those side routes when the manager does not know it any more.

        Returns:
            `REPLACED`, `RESTARTED`, `ENDED` (too late) or `UNKNOWN`.

        Raises:
            ValueError, TypeError: the text is not valid; nothing was changed.
            StorageError: the message has its new text, but not in the storage: after a restart it has the
                old one.
        """
        self._intake.check_text(text)
        record = self._intake.find(tenant, message_id)
        known = whole if record is None else record.message
        if known is not None and (record is None or known.text != text):
            self._intake.accept_edit(known.replace(text=text), self._now())
        change = Change.UNKNOWN if record is None else self._edit(record, text)
        if record is not None and record.sealed is False and change is not Change.ENDED:
            assert self._durable is not None
            await self._durable.rewrite(record)
        else:
            await cancel_shielded_checkpoint()
        return change

    def _edit(self, record: TurnRecord, text: str) -> Change:
        if record.sealed is False and self._durable is not None:
            self._durable.check(record.message.replace(text=text))
        return self._changes.edit(record, text, self._now())

    async def retract(self, message_id: str, *, tenant: str = "", conversation: str = "") -> Change:
        """Take a message back: its turn is cancelled, or its reply is retracted.

        Waits until a running turn has cleaned up. A reply that was given already is taken out of the
        history, and a `Retracted` event tells front ends to take it back.

        Args:
            message_id, tenant: which message.
            conversation: where it was said. With a storage, one that was answered by an earlier process, or
                long ago, is found by it among the last 200 lines.

        Returns:
            `CANCELLED`, `INTERRUPTED`, `WITHDRAWN` (it shared a turn), `RETRACTED`, `ENDED` or `UNKNOWN`.

        When cancelled, the turn is cancelled all the same.

        Raises:
            StorageError: it is not taken out of the storage.
        """
        record = self._intake.find(tenant, message_id)
        if record is None:
            await checkpoint()
            if self._durable is None or not conversation:
                return Change.UNKNOWN
            return await self._durable.retract_kept(conversation, message_id)
        change = await self._changes.retract(record, self._now())
        sealed = self._durable is not None and record.sealed is True
        if sealed and change in (Change.RETRACTED, Change.WITHDRAWN):
            await self._durable.retract(record, whole=change is Change.RETRACTED)  # type: ignore[union-attr]
        return change

    async def stop(self, conversation: str) -> Stopped:
        """End all turns of a conversation: first what waits, so that nothing starts, then what runs.

        Senders that wait for room with a message of the conversation get `TurnCancelled(by="stop")`, and
        count as waiting here. Turns of side routes go on: nobody stops the moderation of what he said.

        Waits for the cleanup of running turns, at most a second; what has not ended by then is counted as
        stuck and goes on to hold its slot and its conversation. Later messages are handled as usual.
        """
        dismissed = self._intake.line.dismiss(conversation, self._now())
        stopped = await self._changes.stop(conversation, GRACE)
        return attrs.evolve(stopped, waiting=stopped.waiting + dismissed)
