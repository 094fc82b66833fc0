"""The invariants of the scheduler, asserted after every step of its tests and of a manager in debug mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lanes import INF, RUNNING, WAITING

if TYPE_CHECKING:
    from .scheduler import Scheduler


def check(scheduler: Scheduler) -> None:
    """Assert everything that `Scheduler` says of itself. O(lanes + waiting turns)."""
    lanes = list(scheduler._lanes.values())
    ready = [lane for groups in scheduler._groups for g in groups.values() for lane in g.lanes]
    assert scheduler.ready == len(ready) == len(set(map(id, ready))) == sum(scheduler._ready)
    assert scheduler.used == len(scheduler.running)
    assert scheduler._charges.uncharged <= scheduler.running.keys()
    scheduler.timers._check()
    for lane in {id(lane): lane for lane in [*lanes, *ready]}.values():
        lane._check()
        assert lane.head is not None or lane.running is not None
        if lane.head is not None and lane.running is None and lane.group is None:
            assert lane.wake <= lane.head.not_before
            assert scheduler.timers.holds(lane)
    for klass, groups in enumerate(scheduler._groups):
        scheduler._tenants[klass]._check()
        assert sum(bool(g.lanes) for g in groups.values()) == len(scheduler._tenants[klass])
        assert scheduler._ready[klass] == sum(len(group.lanes) for group in groups.values())
        for tenant, group in groups.items():
            group.lanes._check()
            assert bool(group.lanes) == (group in scheduler._tenants[klass])
            for lane in group.lanes:
                head = lane.head
                assert head is not None and lane.running is None
                assert (lane.group, lane.klass, head.tenant) == (group, klass, tenant)
    queued = [e for q in scheduler._queued for e in q.values()]
    assert scheduler.waiting == len(queued) and all(e.state == WAITING for e in queued)
    assert all(e.state == RUNNING for e in scheduler.running.values())
    assert sum(lane.size for lane in lanes) <= scheduler.waiting + scheduler.retrying
    for entry in queued:
        if entry.expires < INF:
            assert entry.wake == entry.expires and scheduler.timers.holds(entry)
