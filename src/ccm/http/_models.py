"""What requests and answers look like: checked on the way in, described in the OpenAPI."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .._message import Priority

Key = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f/]+$")]
Tenant = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f/]*$")]
Text = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00]*$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Short = Annotated[str, StringConstraints(max_length=1_000, pattern=r"^[^\x00]*$")]
Klass = Literal["critical", "high", "normal", "low"]
Turn = Annotated[int, Field(ge=-(2**53), le=2**53)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ChatIn(_In):
    """A message."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"user": "ada", "text": "Hello!", "conversation": "channel-1"}]},
    )

    user: Key = Field(description="who says it")
    text: Text = Field(description="what is said")
    conversation: Key | None = Field(None, description="where; without one, a conversation is begun")
    channel: Short = Field("", description="from which front end it comes, for the statistics")
    tenant: Tenant | None = Field(None, description="whose it is; a key that is bound to a tenant implies it")
    id: Key | None = Field(None, description="the message's idempotency key within its tenant")
    priority: Klass | None = Field(None, description="its class; without one, the bot's rules decide")
    metadata: dict[str, Any] = Field(default_factory=dict, description="handed on to the handler")

    @property
    def klass(self) -> Priority | None:
        """The class as the manager has it."""
        return None if self.priority is None else Priority[self.priority.upper()]


class Timings(BaseModel):
    """Seconds."""

    waited: float | None = Field(description="until a handler began with it")
    served: float | None = Field(description="from then on")
    total: float = Field(description="from the request to the answer")


class ChatOut(BaseModel):
    """An answer."""

    id: str = Field(description="of the message")
    turn: Turn = Field(description="number of the turn that answered")
    conversation: str
    event: Literal["created", "resumed"] = Field(description="whether the conversation was there before")
    stage: str | None = Field(description="of the conversation; null without a storage")
    is_qualified: bool | None = Field(description="whether all criteria noted so far are met")
    reply: str
    outcome: Literal["replied", "merged"]
    timings: Timings


class ReceiptOut(BaseModel):
    """The message is accepted; its outcome is at `url`."""

    id: str
    turn: Turn
    conversation: str
    event: Literal["created", "resumed"]
    position: int = Field(description="turns ahead of it")
    estimated_wait: float = Field(description="seconds")
    url: str


class TurnOut(BaseModel):
    """Where a message is, or what became of it."""

    turn: Turn
    id: str | None
    conversation: str
    state: Literal["waiting", "running", "retrying", "done"]
    position: int
    outcome: str | None = None
    reply: str | None = None
    problem: dict[str, Any] | None = None


class ConversationOut(BaseModel):
    """A conversation."""

    id: str
    tenant: str
    channel: str
    stage: str
    status: str
    created: str
    updated: str
    messages: int
    replies: int
    failures: int
    paused: bool
    agent: str
    is_qualified: bool | None
    score: float | None
    criteria: dict[str, Any]
    summary: str
    metadata: dict[str, Any] = Field(description="what the application keeps of it")


class EntryOut(BaseModel):
    """A line of a conversation."""

    id: int
    turn: Turn
    role: str
    user: str
    text: str
    at: str
    message_id: str
    partial: bool
    handled: bool
    kind: str
    data: Any


class HitOut(BaseModel):
    """A line that a search has found; in the snippet, the words stand in square brackets."""

    conversation: str
    turn: Turn
    user: str
    role: str
    at: str
    text: str
    snippet: str
    rank: float


class Conversations(BaseModel):
    """A page of conversations."""

    items: list[ConversationOut]
    cursor: str | None


class Entries(BaseModel):
    """A page of lines, oldest first; `cursor` leads to older ones."""

    items: list[EntryOut]
    cursor: str | None


class Hits(BaseModel):
    """What a search has found, the best first."""

    items: list[HitOut]
    cursor: str | None


class HandOff(_In):
    """Somebody else is in charge."""

    to: Short
    reason: Short = ""


class Criterion(_In):
    """Whether a criterion is met."""

    met: bool
    confidence: float = Field(1.0, ge=0.0, le=1.0)
    notes: Short = ""


class PatchIn(_In):
    """Changes of a conversation; what is left out stays."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"stage": "customer", "pause": True}]},
    )

    stage: Short | None = None
    hand_off: HandOff | None = None
    pause: bool | None = Field(None, description="true: a human takes over, the bot does not answer")
    qualification: dict[Key, Criterion] | None = Field(None, max_length=50)
    summary: Short | None = None
    metadata: dict[Name, Any] | None = Field(
        None, description="new values by name, null removes one; at most 64 names and 16,384 bytes in all"
    )
    reason: Short = Field("", description="why, for the history")


class Stopped(BaseModel):
    """How many turns were ended."""

    waiting: int
    running: int


class Forgotten(BaseModel):
    """How many lines were erased."""

    erased: int


_PROBLEM = {
    "type": "object",
    "description": "problem details (RFC 9457)",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "reason": {"type": "string", "description": "one word for programs"},
        "retry_after": {"type": "number", "description": "seconds"},
        "errors": {
            "type": "array",
            "description": "fields that are not what they must be",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses of an endpoint that are problems: these, and those that any endpoint may give."""
    found = sorted({*statuses, 400, 401, 403, 408, 413, 415, 421, 422, 429, 503})
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": _PROBLEM}},
        }
        for status in found
    }


_LAST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def iso(seconds: float) -> str:
    """A time as ISO 8601 in UTC, at most the year 9999. O(1)."""
    return (
        datetime.fromtimestamp(min(seconds, _LAST), UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
