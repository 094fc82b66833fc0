"""The outcomes that are not errors by themselves, and their names in the order of law G1."""

from __future__ import annotations

from typing import Any

import attrs

from ._errors import Expired, HandlerFailed, Outcome, Rejected, Shed, Superseded, TurnCancelled
from ._message import Reply

OUTCOMES = ("replied", "rejected", "merged", "superseded", "shed", "expired", "cancelled", "failed")
"""Names of the outcomes: the keys of `Statistics.outcomes`."""


@attrs.frozen(slots=True)
class Replied(Outcome):
    """The message was answered.

    Attributes:
        reply: the answer; its text is empty when the handler returned None.
        dead_letter: set when the handler failed for good and a fallback answered instead.
    """

    name = "replied"
    reply: Reply
    dead_letter: int | None = None


@attrs.frozen(slots=True)
class Merged(Outcome):
    """The message joined another turn and was answered with it.

    Attributes:
        into: id of the turn that answered.
        reply: its answer.
    """

    name = "merged"
    into: int
    reply: Reply


@attrs.frozen(slots=True)
class Cancelled(Outcome):
    """The turn was cancelled.

    Attributes:
        by: "caller", "stop", "retract" or "drain".
    """

    name = "cancelled"
    by: str

    def error(self) -> BaseException:
        return TurnCancelled(self.by)


@attrs.frozen(slots=True)
class Failed(Outcome):
    """The handler failed for good.

    Attributes:
        dead_letter: id under which the message is kept.
        exception: the handler's last error.
    """

    name = "failed"
    dead_letter: int
    exception: Any = attrs.field(eq=False)

    def error(self) -> BaseException:
        error = HandlerFailed(self.dead_letter)
        error.__cause__ = self.exception
        return error


__all__ = [
    "OUTCOMES",
    "Cancelled",
    "Expired",
    "Failed",
    "Merged",
    "Outcome",
    "Rejected",
    "Replied",
    "Shed",
    "Superseded",
]
