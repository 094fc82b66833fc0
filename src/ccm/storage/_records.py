"""What goes into a storage and comes out of it: frozen values, plain fields, no behaviour.

Times are seconds since 1970 (`time.time()`), because they outlive the process and its clocks. A `seq` is the
place of an accepted message in the order of all; it is also the id of the turn that answers it, so it stays
the same whenever the message is handled again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeAlias, TypeVar, final

import attrs

T = TypeVar("T")


# -- operations: what a transaction does -----------------------------------------------------------------


@attrs.define(kw_only=True)
class Accept:
    """Put a message into the inbox. Never changed; not frozen, which would take twice as long to make.

    A manager makes objects of a subclass: a storage looks at them with `match` or `isinstance`.

    Attributes:
        conversation, tenant, user: its keys.
        body: the message as JSON text.
        at: when it was accepted.
        message_id: its idempotency key within the tenant, or "": it was generated and is never repeated.
        since: a message of the same tenant and id is a repetition if it was accepted after this time.
        letter: the dead letter that it takes the place of; gone in the same transaction.
        digest: of what it says, to tell a repetition from another message of the same id; "" tells nothing.
    """

    conversation: str
    tenant: str
    user: str
    body: str
    at: float
    message_id: str = ""
    since: float = 0.0
    letter: int | None = None
    digest: str = ""


@final
@attrs.frozen(kw_only=True)
class Said:
    """One utterance of a turn, to be kept in the history.

    Attributes:
        role: "user" or "assistant".
        user: who said it; "" for the assistant.
        text: what was said.
        message_id: the message in which a user said it.
        partial: the assistant was interrupted while saying it.
        handled: a handler has seen it; False for what was never answered.
    """

    role: str
    text: str
    user: str = ""
    message_id: str = ""
    partial: bool = False
    handled: bool = True


@final
@attrs.frozen(kw_only=True)
class Letter:
    """A message that failed for good.

    Attributes:
        id: its number.
        body: the message as JSON text.
        route: the route that failed, or "(delivery)" for a reply that could not be delivered.
        attempts: how often it was tried.
        error: the last error, as text.
        at: when it was given up.
    """

    id: int
    body: str
    route: str
    attempts: int
    error: str
    at: float


@final
@attrs.frozen(kw_only=True)
class Delivery:
    """A reply that has to be delivered.

    Attributes:
        seq: the turn it belongs to, the idempotency key.
        conversation: where replies are delivered in order.
        body: the message that it answers, as JSON text.
        text, metadata: the reply; metadata is JSON text.
    """

    seq: int
    conversation: str
    body: str
    text: str
    metadata: str = "{}"


@final
@attrs.frozen(kw_only=True)
class Settle:
    """Give an accepted message its outcome: it leaves the inbox, its turn enters the history.

    Nothing happens if the message is not in the inbox: settling twice changes nothing.

    Attributes:
        seq, conversation, tenant, channel, user, message_id: of the message.
        route: what handled it.
        outcome: name of the outcome, as in `ccm.Statistics.outcomes`.
        detail: the outcome as JSON text, for senders who repeat the message.
        accepted, ended: when.
        waited, served: seconds until it started (-1: it never did), and of its last attempt.
        attempts: attempts begun.
        said: what enters the history, in order.
        delivery: a reply to be delivered.
        letter: the dead letter it becomes.
    """

    seq: int
    conversation: str
    tenant: str
    user: str
    route: str
    outcome: str
    accepted: float
    ended: float
    channel: str = ""
    message_id: str = ""
    detail: str = "{}"
    waited: float = -1.0
    served: float = 0.0
    attempts: int = 0
    said: tuple[Said, ...] = ()
    delivery: Delivery | None = None
    letter: Letter | None = None


@final
@attrs.frozen
class Attempted:
    """A handler is about to be given the message again: count it."""

    seq: int


@final
@attrs.frozen
class Rewrite:
    """The message in the inbox has a new text; `body` is all of it. Nothing happens if it is gone."""

    seq: int
    body: str


@final
@attrs.frozen
class Retract:
    """Take a turn out of the history: all of it, or (`message_id`) what was said in one message."""

    seq: int
    message_id: str | None = None


@final
@attrs.frozen
class Delivered:
    """The reply of this turn has been delivered, or becomes `letter`; nothing happens if it is gone."""

    seq: int
    letter: Letter | None = None


@final
@attrs.frozen
class Discard:
    """Forget a dead letter. The result tells whether it was there."""

    letter: int


@final
@attrs.frozen(kw_only=True)
class Annotate:
    """Change a conversation, and note in its history who did so and why.

    Attributes:
        conversation: its key.
        at: when.
        kind: what was done: "stage", "hand_off", "pause", ... "" notes nothing.
        by, text: who, and why or what.
        data: more about it, as JSON text.
        fields: columns of `Conversation` that get new values.
        expect: values that columns must have; otherwise nothing changes.
        tenant, channel: of a conversation that is made.
        create: make the conversation if there is none.

    The result is the `Conversation` as it is afterwards, or None if there is none. If `expect` is not met,
    it is as it was, which shows.
    """

    conversation: str
    at: float
    kind: str = ""
    by: str = ""
    text: str = ""
    data: str = "{}"
    fields: Mapping[str, Any] = attrs.field(factory=dict)
    expect: Mapping[str, Any] = attrs.field(factory=dict)
    tenant: str = ""
    channel: str = ""
    create: bool = False


@final
@attrs.frozen
class Archive:
    """Close conversations and move their history out of the way, where only `export` and `history` look.

    Attributes:
        conversation: this one, or None: all that have been idle since `before`.
        before: see there.
        at: now.
        limit: at most so many; the result is how many there were.
    """

    conversation: str | None
    before: float
    at: float
    limit: int = 100


@final
@attrs.frozen
class Forget:
    """Erase a user: every message, the replies to it, searches, dead letters, replies not delivered.

    Conversations in which nobody else ever spoke are erased with everything. The result is how many
    utterances were erased.
    """

    user: str


Operation: TypeAlias = (
    Accept | Settle | Attempted | Rewrite | Retract | Delivered | Discard | Annotate | Archive | Forget
)


# -- what comes out ---------------------------------------------------------------------------------------


@final
@attrs.define
class Accepted:
    """The message is in the inbox."""

    seq: int


@final
@attrs.frozen
class Repeated:
    """The message was accepted before as `seq` with this `digest`; `outcome` and `detail` if it has its
    outcome."""

    seq: int
    outcome: str = ""
    detail: str = "{}"
    digest: str = ""


@final
@attrs.frozen(kw_only=True)
class Ended:
    """A turn that has its outcome: its number, keys of its message, when that was accepted, the outcome's
    name and JSON text."""

    seq: int
    conversation: str
    tenant: str
    message_id: str
    outcome: str
    detail: str
    accepted: float = 0.0


@final
@attrs.frozen(kw_only=True)
class Stored:
    """A message in the inbox.

    Attributes:
        seq: its place in the order.
        body: the message as JSON text.
        at: when it was accepted.
        attempts: how often it was handed out again.
    """

    seq: int
    body: str
    at: float
    attempts: int


@final
@attrs.frozen(kw_only=True)
class Health:
    """How a storage is.

    Attributes:
        kind: "sqlite", "memory", ...
        durable: what it holds survives the process.
        version: of its schema; 0 has none.
        inbox, outbox, letters, conversations: how many there are.
        bytes: what it takes up; 0 when unknown.
    """

    kind: str
    durable: bool
    version: int
    inbox: int
    outbox: int
    letters: int
    conversations: int
    bytes: int


@final
@attrs.frozen(kw_only=True)
class Conversation:
    """What is kept of a conversation.

    Attributes:
        key: the conversation's key.
        tenant, channel: of its first message.
        created, updated: first and last change.
        status: "open" or "archived".
        stage: where it stands, in the words of the application; "" at first.
        agent: who is in charge, a name; "" is nobody in particular.
        paused: a human has taken over; messages are recorded and not answered.
        summary: what it was about.
        score: how far it is qualified, 0.0 to 1.0, or None.
        criteria: JSON object: name to `{"met": ..., "confidence": ..., "notes": ...}`.
        metadata: JSON object: what the application keeps of it.
        messages, replies, failures: turns in all, answered ones, failed ones.
    """

    key: str
    tenant: str = ""
    channel: str = ""
    created: float = 0.0
    updated: float = 0.0
    status: str = "open"
    stage: str = ""
    agent: str = ""
    paused: bool = False
    summary: str = ""
    score: float | None = None
    criteria: str = "{}"
    metadata: str = "{}"
    messages: int = 0
    replies: int = 0
    failures: int = 0


@final
@attrs.frozen(kw_only=True)
class Entry:
    """One line of a conversation's history.

    Attributes:
        id: rises with time; a cursor.
        conversation: its key.
        turn_id: the turn it belongs to; 0 for an event.
        role: "user", "assistant" or "event".
        user: who said or did it.
        text: what was said; for an event, why it was done.
        at: when.
        message_id: the message in which a user said it.
        partial: the assistant was interrupted while saying it.
        handled: a handler has seen it.
        kind, data: what an event is, and more about it as JSON text.
    """

    id: int
    conversation: str
    turn_id: int
    role: str
    text: str
    at: float
    user: str = ""
    message_id: str = ""
    partial: bool = False
    handled: bool = True
    kind: str = ""
    data: str = "{}"


@final
@attrs.frozen(kw_only=True)
class Hit:
    """An utterance that a search has found: `snippet` has the words between `[` and `]`; a smaller `rank` is
    better."""

    entry: Entry
    snippet: str
    rank: float


@final
@attrs.frozen
class Page(Generic[T]):
    """Part of a list: `items`, and the `cursor` that the next part begins at; None: this was the last."""

    items: tuple[T, ...]
    cursor: str | None = None
