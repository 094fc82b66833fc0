"""The lanes that only lack a slot, by class and tenant: who is next, and who has its share already."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from .charges import Charges
from .fair import FairQueue
from .lanes import CLASSES, INF, Group, Lane

_SLACK = 64


@final
class ReadyLanes:
    """Start-time fair queuing over tenants, then over a tenant's lanes, once per class.

    Args:
        charges: what the next turn costs whom.
        weight_of: the share of a tenant, > 0; None: all have the same.
        limit_of: slots a tenant may use at a time, inf for all; None: no tenant has such a limit.

    Invariants: `_groups[c]` holds the tenants that have ready lanes of effective class c, and empty groups to
    be used again, at most twice as many as ever had lanes at once; a group with lanes is in `_queues[c]`,
    unless its tenant is in `full`; `counts[c]` are the lanes in groups of class c that are in the queue, and
    `count` their sum; `limited` tells whether tenants may have limits; `used` are the slots of each tenant
    that has a limit and uses one, `full` those whose limit is reached.
    """

    __slots__ = (
        "_charges", "_groups", "_limit_of", "_queues", "_weight_of", "count", "counts", "full", "limited",
        "used",
    )  # fmt: skip

    def __init__(
        self, charges: Charges, weight_of: Callable[[str], float] | None = None,
        limit_of: Callable[[str], float] | None = None,
    ) -> None:  # fmt: skip
        self._charges = charges
        self._weight_of = weight_of
        self._limit_of = limit_of
        self.limited = limit_of is not None
        self._queues: list[FairQueue[Group]] = [FairQueue() for _ in range(CLASSES)]
        self._groups: list[dict[str, Group]] = [{} for _ in range(CLASSES)]
        self.count = 0
        self.counts = [0] * CLASSES
        self.used: dict[str, int] = {}
        self.full: dict[str, None] = {}

    def put(self, lane: Lane, klass: int, tenant: str, now: float) -> None:
        """`lane`, whose head is `tenant`'s, is ready in class `klass`. O(log n)."""
        if lane.group is not None:
            if lane.klass == klass and lane.group.tenant == tenant:
                return
            self.withdraw(lane)
        else:
            lane.since = now
        lane.klass = klass
        group = self._groups[klass].get(tenant) or self._new_group(klass, tenant)
        held = self.full and tenant in self.full
        if not group.lanes.size and not held:
            self._queues[klass].join(group, self._charges.share(group))
        share = 1.0
        if lane.debt or self._charges.by_seconds:
            share = self._charges.lane_share(lane)
        group.lanes.join(lane, share)
        lane.group = group
        if not held:
            self.count += 1
            self.counts[klass] += 1

    def withdraw(self, lane: Lane) -> None:
        """`lane` is not ready any more, or not in this class. O(1), amortised."""
        group = lane.group
        assert group is not None
        group.lanes.leave(lane)
        lane.group = None
        if self.full and group.tenant in self.full:
            return
        if not group.lanes.size:
            self._queues[group.klass].leave(group)
        self.count -= 1
        self.counts[group.klass] -= 1

    def take(self, klass: int) -> tuple[Lane, bool]:
        """The next lane of a class that has one, and whether its tenant was alone in the class. O(log n)."""
        queue = self._queues[klass]
        alone = queue.size == 1
        group = queue.sole() if alone else queue.serve()
        lanes = group.lanes
        lane = lanes.serve()
        if alone:
            if not lanes.size:
                queue.leave(group)
        elif lanes.size:
            queue.join(group, self._charges.share(group))
        lane.group = None
        if group.since > lane.since:
            lane.since = group.since
        self.count -= 1
        self.counts[klass] -= 1
        return lane, alone

    # -- slots of a tenant -----------------------------------------------------------------------

    def occupy(self, tenant: str) -> None:
        """A turn of `tenant` starts. O(1), and O(log n) for each class when it has reached its limit."""
        limit = INF if self._limit_of is None else self._limit_of(tenant)
        if limit == INF:
            return
        used = self.used[tenant] = self.used.get(tenant, 0) + 1
        if used < limit or tenant in self.full:
            return
        for klass, queue in enumerate(self._queues):
            group = self._groups[klass].get(tenant)
            if group is not None and group.lanes.size:
                queue.leave(group)
                self.count -= group.lanes.size
                self.counts[klass] -= group.lanes.size
        self.full[tenant] = None

    def vacate(self, tenant: str, now: float) -> None:
        """A turn of `tenant` has ended. O(1), and O(log n) for each class when it was at its limit."""
        if tenant not in self.used:
            return
        self.used[tenant] -= 1
        if not self.used[tenant]:
            del self.used[tenant]
        if tenant not in self.full:
            return
        del self.full[tenant]
        for klass, queue in enumerate(self._queues):
            group = self._groups[klass].get(tenant)
            if group is not None and group.lanes.size:
                group.since = now
                queue.join(group, self._charges.share(group))
                self.count += group.lanes.size
                self.counts[klass] += group.lanes.size

    def _new_group(self, klass: int, tenant: str) -> Group:
        groups = self._groups[klass]
        if len(groups) > 2 * (self._queues[klass].size + len(self.full)) + _SLACK:
            groups = self._groups[klass] = {g.tenant: g for g in groups.values() if g.lanes.size}
        weight = 1.0 if self._weight_of is None else self._weight_of(tenant)
        group = groups[tenant] = Group(tenant, klass, weight)
        return group

    def _check(self) -> list[Lane]:
        """Assert every invariant; returns the ready lanes. O(lanes)."""
        assert self.count == sum(self.counts)
        lanes = []
        for klass, groups in enumerate(self._groups):
            queue = self._queues[klass]
            queue._check()
            open_ = [g for g in groups.values() if g.lanes.size and g.tenant not in self.full]
            assert {id(g) for g in open_} == {id(g) for g in queue}
            assert self.counts[klass] == sum(group.lanes.size for group in open_)
            for tenant, group in groups.items():
                group.lanes._check()
                for lane in group.lanes:
                    head = lane.head
                    assert head is not None and lane.running is None
                    assert (lane.group, lane.klass, head.tenant) == (group, klass, tenant)
                    lanes.append(lane)
        for tenant, used in self.used.items():
            limit = INF if self._limit_of is None else self._limit_of(tenant)
            assert used > 0
            assert (used >= limit) == (tenant in self.full)
        assert self.full.keys() <= self.used.keys()
        return lanes
