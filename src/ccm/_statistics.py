"""`Statistics`: one consistent picture of a manager."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from ._core.alerts import AlertStatistics
from ._core.cache import CacheStatistics
from ._core.histogram import LatencySummary
from ._core.permits import ProviderStatistics
from ._core.service import ServiceStatistics, bottlenecks
from ._core.sessions import SessionStatistics
from ._message import Priority


@attrs.frozen(kw_only=True)
class ClassQueue:
    """The waiting turns of one class; `oldest` is the longest wait in seconds (0 when none waits)."""

    waiting: int
    oldest: float


@attrs.frozen(kw_only=True)
class Rates:
    """Events per second over the last 1, 10 and 60 seconds."""

    last_1s: float
    last_10s: float
    last_60s: float


@attrs.frozen(kw_only=True)
class RouteStatistics:
    """One route: how its turns ended, attempts that failed, and quantiles over all classes."""

    outcomes: Mapping[str, int]
    failed_attempts: int
    retries: int
    timeouts: int
    wait: LatencySummary
    service: LatencySummary


@attrs.frozen(kw_only=True)
class ChannelStatistics:
    """Messages per channel: how many channels were seen, and the `top` ones with their counts."""

    active: int
    top: tuple[tuple[str, int], ...]


@attrs.frozen(kw_only=True)
class Statistics:
    """One consistent picture of a manager, taken between two steps. Times in seconds.

    Attributes:
        at: when it was taken, on Trio's clock.
        received: messages that reached the manager.
        waiting, running, retrying: messages without an outcome, by place.
        outcomes: how many messages got each outcome, by its name.
        rejected: how many were rejected, by reason.
        side_received, side_outcomes: the same for the turns of side routes.
        slots_in_use, limit, peak_running: slots taken now (side turns included), existing, most ever taken.
        queues: what waits, by class (side turns included).
        shedding: part of the users whose messages of a class are given up for lack of slots, 0 to 1.
        senders: tasks that wait in `submit` or `ask` for room (`Overflow.WAIT`).
        sessions: live conversations.
        arrivals, rates: messages received, and turns ended, per second.
        wait, service: seconds from arrival to start, and of the last attempt, by class.
        routes: figures of each route.
        channels: messages by channel.
        cache: figures of `Turn.context`.
        providers: permits of each provider of `Config.provider_limits`, by name.
        services: figures of each service, by name.
        alerts: how many there were; all 0 without rules.
        storage: what keeps messages.
        workers: tasks that run handlers.
        stuck: turns that were told to end and did not within a second.
        fallbacks: turns handed to a fallback handler.
        dead_letters: messages kept after their handling failed for good.
        debug_checks: whether law G1 is asserted after every step.
    """

    at: float
    received: int
    waiting: int
    running: int
    retrying: int
    peak_running: int
    limit: int
    slots_in_use: int
    outcomes: Mapping[str, int]
    rejected: Mapping[str, int]
    side_received: int
    side_outcomes: Mapping[str, int]
    queues: Mapping[Priority, ClassQueue]
    shedding: Mapping[Priority, float]
    senders: int
    sessions: SessionStatistics
    arrivals: Rates
    rates: Rates
    wait: Mapping[Priority, LatencySummary]
    service: Mapping[Priority, LatencySummary]
    routes: Mapping[str, RouteStatistics]
    channels: ChannelStatistics
    cache: CacheStatistics
    providers: Mapping[str, ProviderStatistics]
    services: Mapping[str, ServiceStatistics]
    alerts: AlertStatistics
    storage: Mapping[str, Any]
    workers: int
    stuck: int
    fallbacks: int
    dead_letters: int
    debug_checks: bool

    @property
    def success_rate(self) -> float:
        """Answered messages among those with an outcome, rejected ones aside; 1.0 before the first."""
        ended = sum(self.outcomes.values()) - self.outcomes["rejected"]
        return (self.outcomes["replied"] + self.outcomes["merged"]) / ended if ended else 1.0

    @property
    def unjournaled(self) -> int:
        """Messages accepted in memory only, because the storage failed (`Config.on_storage_failure`)."""
        return int(self.storage.get("unjournaled", 0))

    @property
    def bottlenecks(self) -> tuple[str, ...]:
        """Services that hold others up (`ServiceStatistics.is_bottleneck`), the fullest first."""
        return bottlenecks(self.services)

    def check(self) -> None:
        """Raise AssertionError unless law G1 (conservation) holds in this picture."""
        for figures in self.services.values():
            figures.check()
        places = self.waiting + self.running + self.retrying
        ended = sum(self.outcomes.values())
        if self.received != places + ended:
            raise AssertionError(
                f"law G1 is broken: received {self.received} != {ended} with an outcome "
                f"+ {self.waiting} waiting + {self.running} running + {self.retrying} retrying"
            )
        if sum(self.rejected.values()) != self.outcomes["rejected"]:
            raise AssertionError(
                f"law G1 is broken: {self.outcomes['rejected']} rejected, by reason {dict(self.rejected)}"
            )
        if self.slots_in_use > max(self.limit, self.peak_running):
            raise AssertionError(f"law G3 is broken: {self.slots_in_use} run with limit {self.limit}")

    def conservation(self) -> str:
        """Law G1 as a line with this picture's numbers."""
        parts = [f"{count} {name}" for name, count in self.outcomes.items() if count]
        places = {"waiting": self.waiting, "running": self.running, "retrying": self.retrying}
        parts += [f"{count} {name}" for name, count in places.items() if count]
        return f"{self.received} received = {' + '.join(parts) or '0'}"
