"""`Receipt`: what the sender gets when a message is accepted."""

from __future__ import annotations

from typing import Any, Literal, Protocol, final

import trio

from ._core.lanes import DONE, RETRYING, RUNNING
from ._errors import Outcome, StorageError
from ._message import Message
from ._record import TurnRecord


class Queue(Protocol):
    """What a receipt asks for its place."""

    def position(self, record: TurnRecord) -> int:
        """Turns ahead of `record`."""

    def estimated_wait(self, record: TurnRecord) -> float:
        """Seconds until `record` starts."""


@final
class Settled:
    """Stands for a turn of which only the storage knows: what a repeated message's receipt refers to."""

    def __init__(self, turn_id: int, outcome: Outcome | None) -> None:
        self.turn_id = turn_id
        self.outcome = outcome
        self.place = self.state = DONE
        self.waited = -1.0

    async def wait(self) -> Outcome:
        """The outcome, at once.

        Raises:
            StorageError: it is not there; it was erased, or the message has not been taken up yet.
        """
        await trio.lowlevel.checkpoint()
        if self.outcome is None:
            raise StorageError(f"the outcome of turn {self.turn_id} is not known here; ask again later")
        return self.outcome


@final
class Receipt:
    """Proof that a message was accepted, and the way to its outcome. Made by the manager.

    Attributes:
        turn_id: the turn that decides the message's outcome.
    """

    __slots__ = ("_queue", "_record", "turn_id")

    def __init__(self, record: Any, queue: Queue) -> None:
        self._record = record
        self._queue = queue
        self.turn_id: int = record.turn_id

    @property
    def message(self) -> Message:
        """The message that was accepted.

        Raises:
            AttributeError: it repeats one of an earlier process, of which only the outcome is known.
        """
        message: Message = self._record.message
        return message

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

    @property
    def state(self) -> Literal["waiting", "running", "retrying", "done"]:
        """Where the message is now; "done" as soon as its outcome is decided, if not yet told. O(1)."""
        place = self._record.place
        if place == DONE:
            return "done"
        return "running" if place == RUNNING else "retrying" if place == RETRYING else "waiting"

    @property
    def waited(self) -> float | None:
        """Seconds until its first attempt began, or None when none has."""
        waited: float = self._record.waited
        return None if waited < 0.0 else waited

    @property
    def answers(self) -> bool:
        """Whether anybody answers it; False when only side routes take the message. O(1)."""
        answers: bool = self._record.route.answers
        return answers

    @property
    def written(self) -> str:
        """What `Turn.send` has said of the reply so far, in the present attempt. O(pieces).

        For whoever looks now and then: unlike `stream`, it makes nobody wait.
        """
        extras = self._record.extras
        if extras is not None and extras.host is not None:
            extras = extras.host.extras
        return "" if extras is None else "".join(extras.pieces)

    async def outcome(self) -> Outcome:
        """Wait for the message's outcome; any number of tasks may, also after the fact.

        Errors are returned, not raised: `ccm.Replied`, `ccm.Shed`, `ccm.Expired`, ... When cancelled, only
        this waiting ends; the turn goes on.
        """
        outcome: Outcome = await self._record.wait()
        return outcome

    def __repr__(self) -> str:
        state = self._record.outcome.name if self._record.outcome else "open"
        return f"<Receipt of turn {self.turn_id}: {state}>"
