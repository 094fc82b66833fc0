"""The invariants of the scheduler, asserted after every step of its tests and of a manager in debug mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lanes import INF, RUNNING, WAITING

if TYPE_CHECKING:
    from .scheduler import Scheduler


def check(scheduler: Scheduler) -> None:
    """Assert everything that `Scheduler` says of itself. O(lanes + waiting turns)."""
    lanes = list(scheduler._lanes.values())
    ready = scheduler.ready._check()
    assert len(ready) == len(set(map(id, ready)))
    assert scheduler.used == len(scheduler.running)
    assert scheduler._charges.uncharged <= scheduler.running.keys()
    scheduler.timers._check()
    for lane in {id(lane): lane for lane in [*lanes, *ready]}.values():
        lane._check()
        assert lane.head is not None or lane.running is not None
        if lane.head is not None and lane.running is None and lane.group is None:
            assert lane.wake <= lane.head.not_before
            assert scheduler.timers.holds(lane)
    queued = [e for q in scheduler._queued for e in q.values()]
    assert scheduler.waiting == len(queued) and all(e.state == WAITING for e in queued)
    assert all(e.state == RUNNING for e in scheduler.running.values())
    assert sum(lane.size for lane in lanes) <= scheduler.waiting + scheduler.retrying
    if scheduler.waiting_of is not None:
        tenants = [entry.tenant for entry in queued]
        assert scheduler.waiting_of == {tenant: tenants.count(tenant) for tenant in tenants}
    for tenant, used in scheduler.ready.used.items():
        assert used == sum(e.tenant == tenant for e in scheduler.running.values())
    for entry in queued:
        if entry.expires < INF:
            assert entry.wake == entry.expires and scheduler.timers.holds(entry)
