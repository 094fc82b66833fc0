"""`Receipt`: what the sender gets when a message is accepted."""

from __future__ import annotations

from typing import final

from ._errors import Outcome
from ._record import TurnRecord


@final
class Receipt:
    """Proof that a message was accepted, and the way to its outcome. Made by the manager.

    Attributes:
        turn_id: the turn that decides the message's outcome.
        position: turns that were ahead of it when it was accepted: those of its conversation, or those
            waiting in its class and above, whichever are more. 0: it started at once or is next.
        estimated_wait: seconds until it starts, estimated from recent turns when it was accepted.
    """

    __slots__ = ("_record", "estimated_wait", "position", "turn_id")

    def __init__(self, record: TurnRecord, position: int, estimated_wait: float) -> None:
        self._record = record
        self.turn_id = record.id
        self.position = position
        self.estimated_wait = estimated_wait

    async def outcome(self) -> Outcome:
        """Wait for the message's outcome; any number of tasks may, also after the fact.

        Errors are returned, not raised: `ccm.Replied`, `ccm.Shed`, `ccm.Expired`, ... When cancelled, only
        this waiting ends; the turn goes on.
        """
        return await self._record.wait()

    def __repr__(self) -> str:
        state = self._record.outcome.name if self._record.outcome else "open"
        return f"<Receipt of turn {self.turn_id}: {state}>"
