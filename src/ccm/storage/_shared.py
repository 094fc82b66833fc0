"""What all storages do alike with the values that go in and come out."""

from __future__ import annotations

import json
from typing import Any

import attrs

from ._records import Annotate, Conversation, Ended, Entry, Settle

COLUMNS = tuple(field.name for field in attrs.fields(Conversation))
CHANGEABLE = frozenset(("status", "stage", "agent", "paused", "summary", "score", "criteria", "metadata"))
"""Fields of a conversation that `Annotate` may change."""
MAX_SEEN = 100_000
"""Ids that are remembered at most; the oldest are forgotten first."""
PRUNED = 1000
"""So many of them at a time."""
MAX_LETTERS = 100_000
"""Dead letters that are kept at most; the oldest go first."""
JUDGEMENTS = frozenset(("qualify", "summary", "metadata"))
"""Kinds of events that tell what somebody made of what was said."""


def check_annotation(operation: Annotate) -> None:
    """Refuse names that are no fields.

    Raises:
        ValueError: a field cannot be changed, or there is none of that name.
    """
    for name in operation.fields:
        if name not in CHANGEABLE:
            raise ValueError(f"a conversation's {name!r} cannot be changed; fields: {sorted(CHANGEABLE)}")
    for name in operation.expect:
        if name not in COLUMNS:
            raise ValueError(f"a conversation has no {name!r}; fields: {sorted(COLUMNS)}")


def names(data: Any, user: str) -> bool:
    """Whether JSON data has `user` as one of its strings. O(size)."""
    if isinstance(data, dict):
        return any(key == user or names(value, user) for key, value in data.items())
    if isinstance(data, list):
        return any(names(item, user) for item in data)
    return bool(data == user)


def conversation_as_dict(conversation: Conversation) -> dict[str, Any]:
    """A conversation as it is exported."""
    fields = attrs.asdict(conversation)
    parsed = {name: json.loads(fields[name]) for name in ("criteria", "metadata")}
    return {"type": "conversation", **fields, **parsed}


def entry_as_dict(entry: Entry) -> dict[str, Any]:
    """A line as it is exported."""
    return {"type": "entry", **attrs.asdict(entry), "data": json.loads(entry.data)}


def as_ended(turn: Settle) -> Ended:
    """What a settlement says of the turn that it ends. O(1)."""
    return Ended(
        seq=turn.seq, conversation=turn.conversation, tenant=turn.tenant, message_id=turn.message_id,
        outcome=turn.outcome, detail=turn.detail, accepted=turn.accepted,
    )  # fmt: skip
