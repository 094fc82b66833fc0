"""GET /metrics: the statistics of the manager in Prometheus' words, read when they are asked for.

Nothing is counted twice: every figure comes from `manager.statistics()`, in a registry of its own, so that
two managers in one process do not meet. Names follow https://prometheus.io/docs/practices/naming/: base units
(seconds, bytes), `_total` for counters. A counter is never less than it was before: what is put together from
an average is held to that here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, final

from fastapi import APIRouter, Depends, Header
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from .._core.histogram import LatencySummary
from .._errors import Reason
from .._statistics import Statistics
from ._access import check_figures, needs
from ._keys import Caller

if TYPE_CHECKING:
    from .._manager import ConversationManager
    from ._front import Front
from ._models import problems

QUANTILES = (("0.5", "p50"), ("0.9", "p90"), ("0.99", "p99"))

# What is counted of the cache, providers and services: field of the statistics, name, help.
CACHE = (
    ("hits", "Lookups of Turn.context answered at once."), ("misses", "Lookups that began a load."),
    ("coalesced", "Lookups that joined a load on its way."), ("errors", "Loads that failed."),
    ("stale", "Lookups answered with an expired value because the load failed."),
    ("evictions", "Values that went to make room."),
)  # fmt: skip
PROVIDER = (
    ("granted", "Permits given out."), ("busy", "Holders of a permit that were told to come back later."),
    ("timeouts", "Holders of a permit whose turn ran into its time-out."),
)  # fmt: skip
SERVICE = (
    ("received", "Items accepted by a service."), ("done", "Items handled."),
    ("dead", "Items failed for good."),
    ("cancelled", "Items given up."), ("refused", "Items not accepted."), ("retries", "Repeated attempts."),
    ("errors", "Attempts that failed."),
)  # fmt: skip
STORAGE = (
    ("commits", "Transactions written."), ("written", "Operations written."),
    ("failures", "Commits that failed."), ("delivered", "Replies delivered by the outbox."),
    ("delivery_retries", "Repeated deliveries."), ("delivery_failures", "Deliveries given up."),
    ("recovered", "Messages taken up from before."), ("poisoned", "Messages given up because they kill."),
)  # fmt: skip
PENDING = (
    ("pending", "Operations that wait to be written."), ("unsealed", "Outcomes that wait to be written."),
    ("undelivered", "Replies that wait for delivery."), ("behind", "Messages in the file not taken up yet."),
)  # fmt: skip

Labels = tuple[str, ...]


@final
class ManagerCollector(Collector):
    """Reads the statistics of one manager at every scrape. O(routes + services)."""

    def __init__(self, manager: ConversationManager) -> None:
        self._manager = manager
        # The largest sum of each summary so far, by metric and labels.
        self._sums: dict[tuple[str, Labels], float] = {}

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        now = self._manager.statistics()
        yield InfoMetricFamily("ccm", "Version of ccm.", value={"version": version("ccm")})
        yield from self._messages(now)
        yield from self._places(now)
        yield from self._times(now)
        yield from self._routes(now)
        yield from _group("ccm_cache", (), {(): now.cache}, CACHE)
        yield _gauge("ccm_cache_entries", "Values held.", now.cache.size)
        yield from self._parts(now)
        yield from _storage(now.storage)

    def _messages(self, now: Statistics) -> Iterator[Metric]:
        yield _counter("ccm_messages_received", "Messages that reached the manager.", now.received)
        outcomes = {(name,): count for name, count in now.outcomes.items()}
        yield _counters("ccm_messages", "Messages by outcome.", ("outcome",), outcomes)
        rejected = {(reason.value,): now.rejected.get(reason.value, 0) for reason in Reason}
        yield _counters("ccm_rejected", "Rejected messages by reason.", ("reason",), rejected)
        sides = {(name,): count for name, count in now.side_outcomes.items()}
        yield _counters("ccm_side_turns", "Turns of side routes by outcome.", ("outcome",), sides)
        yield _counter("ccm_fallbacks", "Turns handed to a fallback handler.", now.fallbacks)
        yield _counter(
            "ccm_stuck_turns", "Turns that did not end a second after they were told to.", now.stuck
        )
        yield _gauge(
            "ccm_dead_letters", "Messages kept after their handling failed for good.", now.dead_letters
        )
        yield _counter("ccm_alerts_raised", "Alerts raised.", now.alerts.raised)
        yield _gauge("ccm_alerts_active", "Alerts that are active.", now.alerts.active)

    def _places(self, now: Statistics) -> Iterator[Metric]:
        waiting = {(priority.name,): queue.waiting for priority, queue in now.queues.items()}
        yield _gauges("ccm_queue_messages", "Turns that wait, by class.", ("class",), waiting)
        oldest = {(priority.name,): queue.oldest for priority, queue in now.queues.items()}
        yield _gauges("ccm_queue_oldest_seconds", "How long the oldest one waits.", ("class",), oldest)
        shed = {(priority.name,): share for priority, share in now.shedding.items()}
        if shed:
            yield _gauges("ccm_shedding_ratio", "Part of the users given up, by class.", ("class",), shed)
        yield _gauge("ccm_running_turns", "Messages that are being answered.", now.running)
        yield _gauge("ccm_retrying_turns", "Messages that wait for another attempt.", now.retrying)
        yield _gauge("ccm_slots", "Turns that may run at the same time.", now.limit)
        yield _gauge("ccm_slots_in_use", "Slots taken, side turns included.", now.slots_in_use)
        yield _gauge("ccm_senders", "Tasks that wait for room for a message.", now.senders)
        states = {("active",): now.sessions.active, ("idle",): now.sessions.idle}
        yield _gauges("ccm_sessions", "Live conversations.", ("state",), states)
        yield _gauge("ccm_sessions_limit", "Most live conversations.", now.sessions.max)
        yield _counter("ccm_sessions_created", "Conversations that became live.", now.sessions.created)
        yield _counter("ccm_sessions_evicted", "Idle conversations forgotten early.", now.sessions.evicted)

    def _times(self, now: Statistics) -> Iterator[Metric]:
        for name, text, by_class in (
            ("wait", "From arrival to the start of a turn", now.wait),
            ("service", "Length of the last attempt", now.service),
        ):
            named = {(priority.name,): summary for priority, summary in by_class.items()}
            yield self._summary(f"ccm_{name}_seconds", f"{text}, by class.", ("class",), named)
            longest = {label: summary.max for label, summary in named.items()}
            yield _gauges(f"ccm_{name}_longest_seconds", f"{text}, the longest.", ("class",), longest)

    def _routes(self, now: Statistics) -> Iterator[Metric]:
        outcomes = {
            (route, name): count
            for route, figures in now.routes.items()
            for name, count in figures.outcomes.items()
        }
        yield _counters("ccm_route_turns", "Turns by route and outcome.", ("route", "outcome"), outcomes)
        for field, text in (
            ("failed_attempts", "Attempts that failed."), ("retries", "Repeated attempts."),
            ("timeouts", "Attempts that took too long."),
        ):  # fmt: skip
            counts = {(route,): getattr(figures, field) for route, figures in now.routes.items()}
            yield _counters(f"ccm_route_{field}", text, ("route",), counts)

    def _parts(self, now: Statistics) -> Iterator[Metric]:
        providers = {(name,): figures for name, figures in now.providers.items()}
        if providers:
            yield from _group("ccm_provider", ("provider",), providers, PROVIDER)
            for field, text in (("used", "Permits held."), ("limit", "Permits that exist.")):
                values = {label: getattr(figures, field) for label, figures in providers.items()}
                yield _gauges(f"ccm_provider_permits_{field}", text, ("provider",), values)
        services = {(name,): figures for name, figures in now.services.items()}
        if services:
            yield from _group("ccm_service", ("service",), services, SERVICE)
            depth = {label: figures.depth for label, figures in services.items()}
            yield _gauges("ccm_service_queue_items", "Items that wait.", ("service",), depth)
            times = {label: figures.processing_time for label, figures in services.items()}
            yield self._summary("ccm_service_processing_seconds", "Length of attempts.", ("service",), times)

    def _summary(self, name: str, text: str, names: Labels, by_label: Mapping[Any, LatencySummary]) -> Metric:
        """Count, sum and quantiles since the start; no quantile of nothing."""
        family = SummaryMetricFamily(name, text, labels=names)
        for values, summary in by_label.items():
            total = max(self._sums.get((name, values), 0.0), summary.mean * summary.count)
            self._sums[name, values] = total
            family.add_metric(values, count_value=summary.count, sum_value=total)
            if summary.count:
                for quantile, field in QUANTILES:
                    labels = dict(zip(names, values, strict=True)) | {"quantile": quantile}
                    family.add_sample(name, labels, getattr(summary, field))
        return family


def _group(
    prefix: str, names: Labels, by_label: Mapping[Any, Any], fields: Iterable[tuple[str, str]]
) -> Iterator[Metric]:
    for field, text in fields:
        counts = {values: getattr(figures, field) for values, figures in by_label.items()}
        yield _counters(f"{prefix}_{field}", text, names, counts)


def _storage(storage: Mapping[str, Any]) -> Iterator[Metric]:
    """Figures of what keeps messages; without one there are none."""
    if "lag" not in storage:
        return
    yield _gauge("ccm_storage_up", "1 unless the storage fails.", storage.get("failing") is None)
    yield _gauge("ccm_storage_lag_seconds", "Age of the oldest operation not written yet.", storage["lag"])
    for field, text in PENDING:
        yield _gauge(f"ccm_storage_{field}", text, storage.get(field, 0))
    for field, text in STORAGE:
        yield _counter(f"ccm_storage_{field}", text, storage.get(field, 0))


def _counters(name: str, text: str, names: Labels, values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=names)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return _counters(name, text, (), {(): value})


def _gauges(name: str, text: str, names: Labels, values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=names)
    for labels, value in values.items():
        family.add_metric(labels, float(value))
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return _gauges(name, text, (), {(): value})


def registry_of(manager: ConversationManager) -> CollectorRegistry:
    """A registry with the manager's figures and those of the process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ManagerCollector(manager))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def router(front: Front) -> APIRouter:
    """GET /metrics, for callers with the scope `read` that are bound to no tenant."""
    api, registry = APIRouter(), registry_of(front.manager)

    example = {"text/plain": {"example": "ccm_running_turns 3.0\n"}}

    @api.get(
        "/metrics", tags=["operation"], response_class=Response,
        summary="Figures for Prometheus", responses={**problems(), 200: {"content": example}},
    )  # fmt: skip
    async def metrics(
        caller: Annotated[Caller, Depends(needs("read"))], accept: Annotated[str | None, Header()] = None
    ) -> Response:
        """All figures in Prometheus' text format, or OpenMetrics if that is asked for.

        They are of all tenants, so a key of one tenant gets a 403.
        """
        check_figures(caller)
        encode, kind = choose_encoder(accept or "")
        return Response(encode(registry), media_type=kind)

    return api
