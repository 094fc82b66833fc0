"""`Receipt`: what the sender gets when a message is accepted."""

from __future__ import annotations

from typing import Protocol, final

from ._errors import Outcome
from ._record import TurnRecord


class Queue(Protocol):
    """What a receipt asks for its place."""

    def position(self, record: TurnRecord) -> int:
        """Turns ahead of `record`."""

    def estimated_wait(self, record: TurnRecord) -> float:
        """Seconds until `record` starts."""


@final
class Receipt:
    """Proof that a message was accepted, and the way to its outcome. Made by the manager.

    Attributes:
        turn_id: the turn that decides the message's outcome.
    """

    __slots__ = ("_queue", "_record", "turn_id")

    def __init__(self, record: TurnRecord, queue: Queue) -> None:
        self._record = record
        self._queue = queue
        self.turn_id = record.id

    @property
    def position(self) -> int:
        """Turns that are ahead of it now; 0 when it runs, is next, or has ended.

        Those of its conversation, or those waiting in its class and above, whichever are more.
        """
        return self._queue.position(self._record)

    @property
    def estimated_wait(self) -> float:
        """Seconds until it starts, estimated from recent turns; 0 when it runs or has ended."""
        return self._queue.estimated_wait(self._record)

    async def outcome(self) -> Outcome:
        """Wait for the message's outcome; any number of tasks may, also after the fact.

        Errors are returned, not raised: `ccm.Replied`, `ccm.Shed`, `ccm.Expired`, ... When cancelled, only
        this waiting ends; the turn goes on.
        """
        return await self._record.wait()

    def __repr__(self) -> str:
        state = self._record.outcome.name if self._record.outcome else "open"
        return f"<Receipt of turn {self.turn_id}: {state}>"
