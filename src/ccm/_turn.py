"""`Turn`: what a handler gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, final

from ._message import Message
from ._record import TurnRecord
from ._sessions import Session

T = TypeVar("T")


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

    async def context(
        self, name: str, loader: Callable[[Turn], Awaitable[T]], *, ttl: float | None = None
    ) -> T:  # fmt: skip
        """What `loader(turn)` returned for this conversation and `name` lately; else it is called now.

        Calls at the same time share one load: its value, or its error, is for all of them. A value is
        fresh for `ttl` seconds after its load. When the loader of an expired one fails, the expired one
        is returned for up to 600 seconds more; who must not get it invalidates it first. Errors and None
        are not kept. Values go with the session, and the least recently used ones when there are more
        than `Config.cache_size`.

        Args:
            name: what it is. Conversations never share a value, people in one conversation do: what
                differs between them needs the user in its name, as in `f"profile:{turn.message.user}"`.
            loader: async function that takes this turn. It runs in the task of a caller and ends with it.
            ttl: how old a value may be for this call, seconds >= 0; None is `Config.cache_ttl`.

        Raises:
            RuntimeError: the turn has ended, or the loader needs, by way of others, its own value.
            Exception: whatever the loader raised.

        When cancelled, callers who wait for the same load are not: one of them loads instead. A value
        that is there is returned without letting other tasks run, most of the time.
        """
        record = self._record
        return await record.book.tools.contexts.get(self, record, name, loader, ttl)

    def invalidate(self, name: str) -> int:
        """Forget the value of `name` in this conversation; returns how many were forgotten, 0 or 1.

        A load on its way still answers those who wait for it, but is not kept: whoever asks after this
        gets a newer one.
        """
        record = self._record
        return record.book.tools.contexts.invalidate(record.message.conversation, name, None)

    def __repr__(self) -> str:
        return f"<Turn {self.id} of {self.message.conversation!r}, attempt {self.attempt}>"
