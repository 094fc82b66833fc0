"""Puts a `Statistics` together from what the manager counts."""

from __future__ import annotations

from heapq import nlargest
from types import MappingProxyType
from typing import TYPE_CHECKING

from ._books import Books, RouteBook
from ._core.alerts import AlertStatistics
from ._core.histogram import LatencyHistogram, LatencySummary
from ._core.lanes import RETRYING, RUNNING, WAITING
from ._core.meter import RateMeter
from ._message import Priority
from ._statistics import ChannelStatistics, ClassQueue, Rates, RouteStatistics, Statistics

if TYPE_CHECKING:
    from ._dispatcher import Dispatcher

TOP_CHANNELS = 10


def picture(dispatcher: Dispatcher, senders: int, now: float) -> Statistics:
    """The statistics at `now`. O(routes + channels), both bounded."""
    books, scheduler = dispatcher.books, dispatcher.scheduler
    messages, sides = books.messages, books.sides
    return Statistics(
        at=now,
        received=messages.received,
        waiting=messages.places[WAITING],
        running=messages.places[RUNNING],
        retrying=messages.places[RETRYING],
        peak_running=books.peak_running,
        limit=scheduler.limit,
        slots_in_use=len(scheduler.running),
        outcomes=MappingProxyType(dict(messages.outcomes)),
        rejected=MappingProxyType(dict(messages.by_reason)),
        side_received=sides.received,
        side_outcomes=MappingProxyType(dict(sides.outcomes)),
        queues=_queues(dispatcher, now),
        shedding=MappingProxyType(
            {p: 0.0 if dispatcher.load is None else dispatcher.load.core.share(p) for p in Priority}
        ),
        senders=senders,
        sessions=dispatcher.sessions.statistics(),
        arrivals=_rates(books.arrivals, now),
        rates=_rates(books.ends, now),
        wait=_per_class(books, "wait"),
        service=_per_class(books, "service"),
        routes=MappingProxyType({name: _route(book) for name, book in books.routes.items()}),
        channels=_channels(books),
        cache=books.tools.contexts.statistics(),
        providers=books.tools.limits.statistics(now),
        services=MappingProxyType(books.tools.services.statistics()),
        alerts=AlertStatistics() if books.tools.watch is None else books.tools.watch.statistics(),
        storage=MappingProxyType(
            {"kind": "memory"} if books.tools.durable is None else books.tools.durable.statistics(now)
        ),
        workers=dispatcher.pool.size,
        stuck=books.stuck,
        fallbacks=books.fallbacks,
        dead_letters=len(books.dead),
        debug_checks=dispatcher.debug,
    )


def _queues(dispatcher: Dispatcher, now: float) -> MappingProxyType[Priority, ClassQueue]:
    queues = zip(Priority, dispatcher.scheduler.queues(), strict=True)
    return MappingProxyType(
        {
            p: ClassQueue(waiting=q.waiting, oldest=0.0 if q.oldest is None else now - q.oldest)
            for p, q in queues
        }
    )


def _rates(meter: RateMeter, now: float) -> Rates:
    return Rates(last_1s=meter.rate(1, now), last_10s=meter.rate(10, now), last_60s=meter.rate(60, now))


def _merged(histograms: list[LatencyHistogram]) -> LatencySummary:
    total = LatencyHistogram()
    for histogram in histograms:
        total.merge(histogram)
    return total.summary()


def _per_class(books: Books, what: str) -> MappingProxyType[Priority, LatencySummary]:
    return MappingProxyType(
        {p: _merged([getattr(book, what)[p] for book in books.routes.values()]) for p in Priority}
    )


def _route(book: RouteBook) -> RouteStatistics:
    return RouteStatistics(
        outcomes=MappingProxyType(dict(book.ended)),
        failed_attempts=book.failed_attempts,
        retries=book.retries,
        timeouts=book.timeouts,
        wait=_merged(book.wait),
        service=_merged(book.service),
    )


def _channels(books: Books) -> ChannelStatistics:
    top = nlargest(TOP_CHANNELS, books.channels.items(), key=lambda item: item[1])
    return ChannelStatistics(active=len(books.channels), top=tuple(top))
