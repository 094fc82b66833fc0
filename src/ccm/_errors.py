"""Errors of ccm, and the outcomes that are errors for whoever asked.

Four fates of a message are bad news for its sender: rejected, shed, expired, superseded. Each is one
class that is both: the value `Receipt.outcome()` returns, and the exception `ask()` raises.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar


class Reason(enum.StrEnum):
    """Why a message was rejected or shed: machine-readable, with a sentence for people."""

    DRAINING = "draining"
    NO_ROUTE = "no_route"
    DUPLICATE = "duplicate"
    RATE_LIMITED = "rate_limited"
    CONVERSATION_FULL = "conversation_full"
    TOO_MANY_SESSIONS = "too_many_sessions"
    OVERLOADED = "overloaded"
    QUEUE_SHARE = "queue_share"
    BUSY = "busy"
    DISPLACED = "displaced"
    STORAGE = "storage"

    @property
    def sentence(self) -> str:
        """The reason in one English sentence, fit to be shown to a person."""
        return _SENTENCES[self]


_SENTENCES = {
    Reason.DRAINING: "the service is shutting down and takes no new messages.",
    Reason.NO_ROUTE: "no route matches this message.",
    Reason.DUPLICATE: "a message with this id was already accepted.",
    Reason.RATE_LIMITED: "too many messages from this user; please wait a moment.",
    Reason.CONVERSATION_FULL: "too many messages of this conversation are waiting already.",
    Reason.TOO_MANY_SESSIONS: "too many conversations are active at the moment.",
    Reason.OVERLOADED: "too many messages are waiting at the moment.",
    Reason.QUEUE_SHARE: "too many messages of this group are waiting at the moment.",
    Reason.BUSY: "the conversation is busy with an earlier message.",
    Reason.STORAGE: "the message could not be saved.",
    Reason.DISPLACED: "a more urgent message took the last place in the queue.",
}


class CcmError(Exception):
    """Base of every error that ccm raises on purpose.

    Closed and busy resources and calls that would block keep Trio's own exceptions
    (`trio.ClosedResourceError`, `trio.BusyResourceError`, `trio.WouldBlock`).
    """


class Outcome:
    """Base of the eight final fates of a message; `name` is the word statistics count it under."""

    __slots__ = ()
    name: ClassVar[str]

    def error(self) -> BaseException | None:
        """A fresh exception for whoever asked, or None when there is a reply."""
        return None


class _ErrorOutcome(CcmError, Outcome):
    """An outcome that is raised: compares by type and arguments, is copied before each raise."""

    def error(self) -> BaseException | None:
        return type(self)(*self.args)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.args == self.args

    def __hash__(self) -> int:
        return hash((type(self), self.args))


class Rejected(_ErrorOutcome):
    """The message was never accepted; nothing about it is kept.

    Attributes:
        reason: why.
        retry_after: seconds after which trying again makes sense, or None when unknown.
    """

    name = "rejected"

    def __init__(self, reason: Reason, retry_after: float | None = None) -> None:
        super().__init__(reason, retry_after)
        self.reason = reason
        self.retry_after = retry_after

    def __str__(self) -> str:
        wait = "" if self.retry_after is None else f" Retry after {self.retry_after:.3g} s."
        return f"{self.reason.value}: {self.reason.sentence}{wait}"

    @staticmethod
    def because(reason: Reason, retry_after: float | None = None) -> Rejected:
        """The rejection of the class that belongs to `reason`."""
        return _BY_REASON.get(reason, Rejected)(reason, retry_after)


class RateLimited(Rejected):
    """The user sent more than the rate limit allows; `retry_after` is exact."""


class Overloaded(Rejected):
    """The queue is at its bound, or the tenant has its share of it (`Reason.QUEUE_SHARE`)."""


class TooManySessions(Rejected):
    """Every session is active, so none can make room for a new conversation."""


class ConversationFull(Rejected):
    """The conversation has as many waiting messages as it may have."""


class BusyConversation(Rejected):
    """The conversation is busy and its route rejects messages meanwhile."""


class NoRoute(Rejected):
    """No route of the router matches the message."""


class Draining(Rejected):
    """The manager is shutting down."""


class Duplicate(Rejected):
    """A message with this `(tenant, id)` was accepted before.

    Attributes:
        receipt: the receipt of the message accepted first; its `outcome()` is the answer to both.
        differs: whether this one says something else than the first did: user, text, channel, class or
            metadata. Then it is no repetition but a message that was given the id of another. Where it was
            said does not count.
    """

    receipt: Any = None
    differs: bool = False

    def error(self) -> BaseException:
        copy = Duplicate(self.reason, self.retry_after)
        copy.receipt, copy.differs = self.receipt, self.differs
        return copy


_BY_REASON: dict[Reason, type[Rejected]] = {
    Reason.DRAINING: Draining,
    Reason.NO_ROUTE: NoRoute,
    Reason.DUPLICATE: Duplicate,
    Reason.RATE_LIMITED: RateLimited,
    Reason.CONVERSATION_FULL: ConversationFull,
    Reason.TOO_MANY_SESSIONS: TooManySessions,
    Reason.OVERLOADED: Overloaded,
    Reason.QUEUE_SHARE: Overloaded,
    Reason.BUSY: BusyConversation,
}


class Shed(_ErrorOutcome):
    """The message was accepted and then given up to keep the rest going.

    Attributes:
        reason: why.
        retry_after: seconds after which trying again makes sense, or None when unknown.
    """

    name = "shed"

    def __init__(self, reason: Reason = Reason.DISPLACED, retry_after: float | None = None) -> None:
        super().__init__(reason, retry_after)
        self.reason = reason
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.reason.sentence}"


class Expired(_ErrorOutcome):
    """The message waited longer than it may, or its deadline passed."""

    name = "expired"

    def __str__(self) -> str:
        return "expired: the message was not answered within its time."


class Superseded(_ErrorOutcome):
    """A newer message of the conversation took this one's place.

    Attributes:
        by: the id of the newer message.
    """

    name = "superseded"

    def __init__(self, by: str) -> None:
        super().__init__(by)
        self.by = by

    def __str__(self) -> str:
        return f"superseded: the newer message {self.by!r} took its place."


class TurnCancelled(CcmError):
    """The turn was cancelled by somebody other than whoever asked.

    Attributes:
        by: who cancelled: "caller", "stop", "retract", "drain".
    """

    def __init__(self, by: str) -> None:
        super().__init__(by)
        self.by = by

    def __str__(self) -> str:
        return f"the turn was cancelled by {self.by!r}."


class HandlerFailed(CcmError):
    """The handler failed for good; `__cause__` is its last error.

    Attributes:
        dead_letter: id under which the message is kept for `replay` or `discard`.
    """

    def __init__(self, dead_letter: int) -> None:
        super().__init__(dead_letter)
        self.dead_letter = dead_letter

    def __str__(self) -> str:
        return (
            f"the handler failed for good: {self.__cause__!r}; "
            f"the message is kept as dead letter {self.dead_letter}."
        )


class ServiceCycle(CcmError):
    """Services would wait for each other for ever: a call, or a send that finds no room, was refused.

    Attributes:
        services: their names, in the order in which they wait; the first one again at the end.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        super().__init__(services)
        self.services = services

    def __str__(self) -> str:
        return (
            f"services would wait for each other for ever: {' -> '.join(map(repr, self.services))}; "
            "raise their concurrency, or use send_nowait where no result is needed."
        )


class ConfigError(CcmError, ValueError):
    """A setting is unknown or out of range; the text names it, its value, its source and the range."""


class StorageError(CcmError):
    """The storage could not do what was asked; nothing is pretended to be saved.

    Attributes:
        unknown: whether what was asked has been done after all cannot be told. To hand the same message in
            again, with the same id, is safe.
    """

    def __init__(self, text: str, *, unknown: bool = False) -> None:
        super().__init__(text)
        self.unknown = unknown


class Busy(Exception):
    """Raised by a handler: whoever answers is busy (a provider's 429); retry later.

    Raised out of a `Turn.limit` block, it pauses that provider for all. `Turn.limit` raises it itself while
    the provider is paused; a handler may catch it there and ask another provider.

    Args:
        retry_after: seconds to wait at least before the next attempt, finite and >= 0.
    """

    # What `Turn.limit` notes on it. `_key`: whose refusal it is, so that no outer block takes it for its own.
    # `_judged`: that key has a limit that adapts, so that it is no signal for the manager's.
    # `_alike`: others were told the same, so that it is nothing about this turn.
    _key: str | None = None
    _judged = False
    _alike = False

    def __init__(self, retry_after: float = 1.0) -> None:
        if not 0 <= retry_after < float("inf"):
            raise ValueError(f"retry_after must be finite seconds >= 0, got {retry_after!r}")
        super().__init__(retry_after)
        self.retry_after = retry_after


class Permanent(Exception):
    """Raised by a handler: this message can never be answered; do not retry."""
