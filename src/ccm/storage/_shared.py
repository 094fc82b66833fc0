"""What all storages do alike with the values that go in and come out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import attrs

from ._records import Analytics, Annotate, Conversation, Ended, Entry, Settle

COLUMNS = tuple(field.name for field in attrs.fields(Conversation))
CHANGEABLE = frozenset(("status", "stage", "agent", "paused", "summary", "score", "criteria"))
"""Fields of a conversation that `Annotate` may change."""
MAX_SEEN = 100_000
"""Ids that are remembered at most; the oldest are forgotten first."""
PRUNED = 1000
"""So many of them at a time."""
MAX_LETTERS = 100_000
"""Dead letters that are kept at most; the oldest go first."""
JUDGEMENTS = frozenset(("qualify", "summary"))
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
    return {"type": "conversation", **fields, "criteria": json.loads(conversation.criteria)}


def entry_as_dict(entry: Entry) -> dict[str, Any]:
    """A line as it is exported."""
    return {"type": "entry", **attrs.asdict(entry), "data": json.loads(entry.data)}


def sum_up(
    turns: Iterable[tuple[str, str, str, int, int, float, float]], users: int,
    kinds: Iterable[tuple[str, str, int]],
) -> Analytics:  # fmt: skip
    """Put figures together.

    Args:
        turns: day, route, outcome, count, those of them that started, their seconds of waiting, of service.
        users: how many had a turn.
        kinds: stage, agent, conversations.
    """
    days: Counter[str] = Counter()
    routes: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    stages: Counter[str] = Counter()
    agents: Counter[str] = Counter()
    started: Counter[str] = Counter()
    waited: dict[str, float] = {}
    served: dict[str, float] = {}
    for day, route, outcome, count, begun, wait, service in turns:
        days[day] += count
        routes[route] += count
        outcomes[outcome] += count
        started[outcome] += begun
        waited[outcome] = waited.get(outcome, 0.0) + wait
        served[outcome] = served.get(outcome, 0.0) + service
    for stage, agent, count in kinds:
        stages[stage] += count
        agents[agent] += count
    begun_by = {outcome: count for outcome, count in sorted(started.items()) if count}
    return Analytics(
        turns=outcomes.total(), conversations=stages.total(), users=users,
        outcomes=dict(sorted(outcomes.items())), days=dict(sorted(days.items())),
        routes=dict(sorted(routes.items())), stages=dict(sorted(stages.items())),
        agents=dict(sorted(agents.items())),
        waited={outcome: waited[outcome] / count for outcome, count in begun_by.items()},
        served={outcome: served[outcome] / count for outcome, count in begun_by.items()},
    )  # fmt: skip


def as_ended(turn: Settle) -> Ended:
    """What a settlement says of the turn that it ends. O(1)."""
    return Ended(
        seq=turn.seq, conversation=turn.conversation, tenant=turn.tenant, message_id=turn.message_id,
        outcome=turn.outcome, detail=turn.detail,
    )  # fmt: skip
