"""Figures of a time span, and how storages put them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import final

import attrs


@final
@attrs.frozen(kw_only=True)
class Analytics:
    """Figures of a time span, each a mapping of what is counted to the count.

    Attributes:
        turns: in all.
        conversations: that had one.
        users: that had one.
        outcomes: by outcome.
        days: turns by day, `YYYY-MM-DD` in UTC.
        routes: turns by route.
        stages, agents: conversations by stage and by agent, of those that had a turn.
        waited, served: mean seconds, by outcome.
    """

    turns: int
    conversations: int
    users: int
    outcomes: Mapping[str, int]
    days: Mapping[str, int]
    routes: Mapping[str, int]
    stages: Mapping[str, int]
    agents: Mapping[str, int]
    waited: Mapping[str, float]
    served: Mapping[str, float]


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
