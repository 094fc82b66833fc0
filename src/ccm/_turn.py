"""`Turn`: what a handler gets."""

from __future__ import annotations

from typing import final

from ._message import Message
from ._record import TurnRecord
from ._sessions import Session


@final
class Turn:
    """One attempt at handling one message. Made by the manager; valid while the handler runs.

    Attributes:
        message: what was said.
        attempt: 1 for the first attempt, 2 for the first retry, and so on. A handler with side effects
            looks here: an attempt above 1 may be repeating what an earlier one did before it failed.
        deadline: when this attempt is cancelled, on Trio's clock.
    """

    __slots__ = ("_record", "attempt", "deadline", "message")

    def __init__(self, record: TurnRecord) -> None:
        self._record = record
        self.message: Message = record.message
        self.attempt = record.attempt
        self.deadline = record.deadline

    @property
    def id(self) -> int:
        """The turn's id, the same in every attempt and so usable as an idempotency key."""
        return self._record.id

    @property
    def degraded(self) -> str | None:
        """None in a normal handler; "failed", "shed" or "expired" in a fallback handler."""
        return self._record.degraded

    @property
    def text(self) -> str:
        """The text of the message."""
        return self.message.text

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages this turn answers, in the order of arrival."""
        return (self.message,)

    @property
    def route(self) -> str:
        """The name of the route that handles it."""
        return self._record.route.name

    @property
    def session(self) -> Session:
        """The live side of the conversation (read-only)."""
        return Session(self._record.session)

    def __repr__(self) -> str:
        return f"<Turn {self.id} of {self.message.conversation!r}, attempt {self.attempt}>"
