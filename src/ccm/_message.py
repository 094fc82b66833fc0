"""What people say and what they get back: `Message`, `Reply`, `Priority`."""

from __future__ import annotations

import enum
import math
import os
import random
import time
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Self

import attrs


class Priority(enum.IntEnum):
    """How urgent a message is; smaller is more urgent."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


class OnBusy(enum.StrEnum):
    """What happens to a message that arrives while its conversation is busy."""

    ENQUEUE = "enqueue"
    MERGE = "merge"
    INTERRUPT = "interrupt"
    ROLLBACK = "rollback"
    STEER = "steer"
    REJECT = "reject"


# Our own generator: tests freeze the global one, and a fork must not hand out its parent's ids.
_ids = random.Random()
os.register_at_fork(after_in_child=lambda: _ids.seed())


def uuid7() -> str:
    """A new UUIDv7 (RFC 9562, method 3: sub-millisecond time in the 12 bits after the version)."""
    millis, nanos = divmod(time.time_ns(), 1_000_000)
    tail = 1 << 63 | _ids.getrandbits(62)
    fraction = (nanos << 12) // 1_000_000
    return (
        f"{millis >> 16:08x}-{millis & 0xFFFF:04x}-7{fraction:03x}"
        f"-{tail >> 48:04x}-{tail & 0xFFFF_FFFF_FFFF:012x}"
    )


_NOTHING: Mapping[str, Any] = MappingProxyType({})
_KEY_LIMIT = 512
CARRIED = ("traceparent", "tracestate")
"""Metadata in which a message carries the trace that it belongs to."""


def check_key(field: str, value: object, *, empty: bool = False) -> None:
    """Raise unless `value` is a usable key: a string of 1 to 512 characters (`empty`: or none)."""
    if not isinstance(value, str):
        raise TypeError(f"{field} must be a str, got {value!r}; convert it first")
    if not value and not empty:
        raise ValueError(f"{field} must not be empty, got {value!r}; name the {field}")
    if len(value) > _KEY_LIMIT:
        raise ValueError(
            f"{field} must be at most {_KEY_LIMIT} characters, got {len(value)}: "
            f"{value[:40]!r}...; use a shorter key"
        )


def _given(id: str | None) -> str:
    """For type checkers only: an id may be left out; `__attrs_post_init__` makes one then."""
    return id  # type: ignore[return-value]


@attrs.frozen(slots=True)
class Message:
    """What a person said. Immutable, hashable by `id`.

    Args:
        conversation: key of the conversation, 1 to 512 characters. Messages of one conversation are
            answered in order. Keys are global to a manager: when several front ends or tenants share
            one, prefix the keys.
        user: who said it, 1 to 512 characters.
        text: what was said; may be empty. At most `Config.max_text` bytes of UTF-8.
        id: idempotency key within the tenant; a UUIDv7 is generated when None.
        tenant: who shares capacity fairly: a guild, a workspace, an API key.
        channel: where it was said, for statistics.
        priority: overrides the choice of the route that answers; None leaves it to the route.
        sent_at: when it was said: a timezone-aware datetime, or None.
        deadline: time on Trio's clock (`trio.current_time()`) after which an answer is useless;
            None means no deadline.
        metadata: anything else; copied, read-only.
        on_busy: overrides what the route does with a message that meets a busy conversation.

    Raises:
        TypeError: a field has the wrong type; the text names field and value.
        ValueError: a field is out of range; the text names field and value.
    """

    conversation: str
    user: str
    text: str
    id: str = attrs.field(default=None, kw_only=True, converter=_given)
    tenant: str = attrs.field(default="", kw_only=True)
    channel: str = attrs.field(default="", kw_only=True)
    priority: Priority | None = attrs.field(default=None, kw_only=True)
    sent_at: datetime | None = attrs.field(default=None, kw_only=True)
    deadline: float | None = attrs.field(default=None, kw_only=True)
    metadata: Mapping[str, Any] = attrs.field(default=_NOTHING, kw_only=True)
    on_busy: OnBusy | None = attrs.field(default=None, kw_only=True)
    generated_id: bool = attrs.field(default=False, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # One pass that is cheap for the usual message: the details only when something looks odd.
        kind = str
        if not (
            type(self.conversation) is kind
            and type(self.user) is kind
            and type(self.text) is kind
            and 0 < len(self.conversation) <= _KEY_LIMIT
            and 0 < len(self.user) <= _KEY_LIMIT
        ):
            self._check_keys()
        if self.id is None:
            object.__setattr__(self, "id", uuid7())
            object.__setattr__(self, "generated_id", True)
        else:
            check_key("id", self.id)
        if self.tenant or self.channel or type(self.tenant) is not kind or type(self.channel) is not kind:
            check_key("tenant", self.tenant, empty=True)
            check_key("channel", self.channel, empty=True)
        if self.priority is not None:
            object.__setattr__(self, "priority", check_priority(self.priority))
        if self.sent_at is not None or self.deadline is not None:
            self._check_times()
        if self.metadata is not _NOTHING:
            self._freeze_metadata()
        if self.on_busy is not None:
            object.__setattr__(self, "on_busy", check_on_busy(self.on_busy))

    def _check_keys(self) -> None:
        check_key("conversation", self.conversation)
        check_key("user", self.user)
        if not isinstance(self.text, str):
            raise TypeError(f"text must be a str, got {self.text!r}; convert it first")

    def _check_times(self) -> None:
        if self.sent_at is not None:
            if not isinstance(self.sent_at, datetime):
                raise TypeError(f"sent_at must be a datetime or None, got {self.sent_at!r}")
            if self.sent_at.utcoffset() is None:
                raise ValueError(
                    f"sent_at must be timezone-aware, got the naive {self.sent_at!r}; "
                    "use datetime.now(timezone.utc) or .replace(tzinfo=...)"
                )
        if self.deadline is not None:
            if isinstance(self.deadline, bool) or not isinstance(self.deadline, (int, float)):
                raise TypeError(f"deadline must be a float (Trio clock) or None, got {self.deadline!r}")
            if math.isnan(self.deadline):
                raise ValueError(f"deadline must be a time on Trio's clock, got {self.deadline!r}")

    def _freeze_metadata(self) -> None:
        if not isinstance(self.metadata, Mapping):
            raise TypeError(f"metadata must be a mapping, got {self.metadata!r}")
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    def __hash__(self) -> int:
        return hash(self.id)

    def replace(self, **changes: Any) -> Self:
        """A copy with `changes`, validated again; the id stays unless it is changed."""
        return attrs.evolve(self, **changes)

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {name: getattr(self, name) for name in self.__slots__ if name in _FIELDS}
        fields["metadata"] = dict(self.metadata)
        return (_restore, (fields,))


_FIELDS = frozenset(a.name for a in attrs.fields(Message) if a.init)


def _restore(fields: dict[str, Any]) -> Message:
    return Message(**fields)


def check_priority(value: object) -> Priority:
    """`value` as a `Priority`, or TypeError/ValueError naming what was given."""
    if isinstance(value, Priority):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"priority must be a ccm.Priority, got {value!r}")
    try:
        return Priority(value)
    except ValueError:
        raise ValueError(f"priority must be 0 (CRITICAL) to 3 (LOW), got {value!r}") from None


def check_on_busy(value: object) -> OnBusy:
    """`value` as an `OnBusy`, or ValueError naming what was given."""
    try:
        return OnBusy(value)  # type: ignore[arg-type]
    except ValueError:
        raise ValueError(f"on_busy must be one of {', '.join(OnBusy)}, got {value!r}") from None


@attrs.frozen(slots=True)
class Reply:
    """An answer; `str(reply)` is its text.

    Attributes:
        text: what is said back; empty when the handler returned None.
        metadata: anything a front end should know beside the text; `degraded` names the reason when a
            fallback handler answered.
        turn_id: the turn that made it; stable over retries, so it can serve as idempotency key.
    """

    text: str
    metadata: Mapping[str, Any] = attrs.field(default=_NOTHING, kw_only=True)
    turn_id: int = attrs.field(kw_only=True)

    def __str__(self) -> str:
        return self.text
