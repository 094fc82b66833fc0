"""A scenario: who sends what and when, who answers and how well, what must hold. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from ccm import Config, Priority
from ccm.testing import Failures, Latency

MIX: Mapping[Priority, float] = {
    Priority.CRITICAL: 2.0, Priority.HIGH: 18.0, Priority.NORMAL: 60.0, Priority.LOW: 20.0,
}  # fmt: skip
LATENCY = "lognormal:0.8,0.6"
"""Half of the answers take up to 0.8 s, one in a hundred 3.2 s: a short answer of a hosted model."""
PER_HOUR = 6.0
DURATION = 3600.0
MOST = 10_000_000

DAY = (
    0.45, 0.28, 0.17, 0.12, 0.10, 0.13, 0.26, 0.50, 0.82, 1.02, 1.12, 1.20, 1.30, 1.24, 1.20, 1.25, 1.35,
    1.46, 1.62, 1.84, 2.02, 1.96, 1.52, 0.92, 0.45,
)  # fmt: skip
"""Each hour from midnight to midnight: people are awake by day and chat in the evening. The mean is 1."""
FIGURES = tuple(f"{what}_{q}" for what in ("wait", "response") for q in ("p50", "p90", "p99", "max"))
AT_LEAST = ("goodput", "replies_per_second")


@attrs.frozen(kw_only=True)
class Group:
    """People who send at a rate that follows `points`: (seconds, messages per second), straight lines
    between."""

    users: int
    conversations: int
    tenants: Mapping[str, float]
    mix: Mapping[Priority, float]
    arrivals: Literal["poisson", "constant"]
    points: tuple[tuple[float, float], ...]


@attrs.frozen(kw_only=True)
class Replay:
    """Chat logs, said by `scale` times as many people; each copy starts up to `shift` seconds later."""

    logs: tuple[str, ...]
    scale: int
    by: Literal["file", "user"]
    shift: float
    speed: float


@attrs.frozen(kw_only=True)
class Provider:
    """What the provider of answers takes; beyond that it says that it is busy."""

    concurrency: int | None
    rate: float | None
    burst: int
    retry_after: float | None


@attrs.frozen(kw_only=True)
class Outage:
    """From `start` to `end`, a `share` of the calls meets `what`."""

    start: float
    end: float
    what: Literal["busy", "slow", "errors", "hang"]
    share: float
    factor: float
    retry_after: float


@attrs.frozen(kw_only=True)
class Answers:
    """How answers are made: seconds by class, failures, the fallback's seconds or None, the provider; and the
    name of the provider's limit that the handler keeps, or None."""

    limit: str | None
    latency: Mapping[Priority, Latency]
    failures: Failures
    fallback: Latency | None
    provider: Provider | None
    outages: tuple[Outage, ...]


@attrs.frozen
class Target:
    """What must hold: a figure of everything ("all"), a class, or the tenants that a pattern matches."""

    scope: Literal["all", "class", "tenants"]
    name: str
    figure: str
    bound: float

    @property
    def at_least(self) -> bool:
        """Whether the bound is a lower one."""
        return self.figure in AT_LEAST


@attrs.frozen(kw_only=True)
class Scenario:
    """All of it; `source` is the plain data that it was read from."""

    title: str
    duration: float
    seed: int
    step: float
    config: Config
    groups: tuple[Group, ...]
    replay: Replay | None
    answers: Answers
    targets: tuple[Target, ...]
    source: Mapping[str, Any]
