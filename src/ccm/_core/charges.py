"""What a turn costs its tenant: one per turn, or the seconds its handler took."""

from __future__ import annotations

from typing import final

from .lanes import Entry, Group, Lane

_MAX_DEBTORS = 10_000


@final
class Charges:
    """Estimates costs when turns start and corrects them when they end.

    Args:
        by_seconds: charge seconds; else every turn costs 1 and nothing is ever corrected.

    Invariants: `mean` is the cost expected of the next turn; `debts` are what tenants still owe (or have
    too much, below 0), at most `_MAX_DEBTORS` of them, the oldest forgotten first; `uncharged` are the
    running turns that were started when no other tenant waited: nobody was charged for them.
    """

    __slots__ = ("by_seconds", "debts", "mean", "uncharged")

    def __init__(self, by_seconds: bool) -> None:
        self.by_seconds = by_seconds
        self.mean = 1.0
        self.debts: dict[str, float] = {}
        self.uncharged: set[int] = set()

    def correct(self, entry: Entry, lane: Lane, seconds: float) -> None:
        """The estimate charged at the start becomes the real cost: the rest is charged at the next join."""
        lane.debt += seconds - entry.cost
        if entry.id in self.uncharged:
            self.uncharged.remove(entry.id)
        else:
            debts = self.debts
            debts[entry.tenant] = debts.pop(entry.tenant, 0.0) + seconds - entry.cost
            if len(debts) > _MAX_DEBTORS:
                del debts[next(iter(debts))]
        self.mean += (seconds - self.mean) / 16

    def share(self, group: Group) -> float:
        """What the next turn costs the tenant, debts included, by its weight. O(1)."""
        if not self.by_seconds:
            return 1.0 / group.weight
        cost = self.mean + self.debts.pop(group.tenant, 0.0)
        if cost < 0:
            self.debts[group.tenant] = cost
            cost = 0.0
        return cost / group.weight

    def lane_share(self, lane: Lane) -> float:
        """What the next turn costs its conversation, debts included. O(1)."""
        cost = self.mean + lane.debt
        lane.debt = min(cost, 0.0)
        return max(cost, 0.0)
