"""Laws G5 and G6 on the scheduler: shares between tenants and conversations, and that nobody starves."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import ceil, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccm._core.lanes import Entry

from .kit import HIGH, LOW, Owner

WEIGHTS = st.sampled_from((0.5, 1.0, 1.0, 2.0, 4.0))
TENANTS = "wxyz"


class Leads:
    """For every two tenants: how far the lead of one has swung while both had a startable lane."""

    def __init__(self, owner: Owner, weights: dict[str, float]) -> None:
        self.owner = owner
        self.weights = {tenant: Fraction(weights.get(tenant, 1.0)) for tenant in TENANTS}
        self.leads: dict[tuple[str, str], list[Fraction]] = {}

    def observe(self, started: Entry | None = None) -> None:
        """After every single change: count the start, then end and begin intervals."""
        if started is not None:
            for pair, (lead, low, high) in self.leads.items():
                if started.tenant in pair:
                    lead += (1 if started.tenant == pair[0] else -1) / self.weights[started.tenant]
                    self.leads[pair] = [lead, min(low, lead), max(high, lead)]
            self.bound_holds()
        lanes = self.owner.scheduler._lanes.values()
        startable = {lane.head.tenant for lane in lanes if lane.head is not None and lane.running is None}
        pairs = [pair for pair in combinations(TENANTS, 2) if startable.issuperset(pair)]
        self.leads = {pair: self.leads.get(pair, [Fraction(0)] * 3) for pair in pairs}

    def bound_holds(self) -> None:
        for (first, second), (_, low, high) in self.leads.items():
            assert high - low <= 1 / self.weights[first] + 1 / self.weights[second]


@given(
    limit=st.integers(1, 3),
    weights=st.dictionaries(st.sampled_from(TENANTS), WEIGHTS),
    steps=st.lists(
        st.tuples(
            st.sampled_from(("add", "add", "add", "finish", "finish", "finish", "cancel")),
            st.sampled_from(TENANTS),
            st.integers(0, 5),
        ),
        min_size=20,
        max_size=200,
    ),
)
def test_g5_between_tenants_over_every_interval(
    limit: int, weights: dict[str, float], steps: list[tuple[str, str, int]]
) -> None:
    """While two tenants both have a startable lane, started turns / weight differ by <= 1/w1 + 1/w2."""
    owner = Owner(limit, weights=weights, ageing=inf)
    leads = Leads(owner, weights)
    for action, tenant, number in steps:
        scheduler = owner.scheduler
        waiting = list(scheduler._queued[2].values())
        running = list(scheduler.running.values())
        if action == "add":
            owner.add(f"{tenant}{number}", tenant)
        elif action == "cancel" and waiting:
            scheduler.cancel(waiting[number % len(waiting)], 0.0)
        elif action == "finish" and running:
            scheduler.finish(running[number % len(running)], 0.0)
        leads.observe()
        while (entry := scheduler.next(0.0)) is not None:
            leads.observe(entry)
        scheduler._check()


def saturated(
    owner: Owner, demand: dict[str, int], turns: int, lanes: int = 3, seconds: dict[str, float] | None = None
) -> dict[str, float]:
    """What each tenant got (turns, or seconds) when all kept `demand` turns waiting per lane throughout."""
    got = dict.fromkeys(demand, 0.0)
    seconds = seconds or {}

    def refill(tenant: str, lane: int) -> None:
        owner.add(f"{tenant}{lane}", tenant)

    for tenant, depth in demand.items():
        for lane in range(lanes):
            for _ in range(depth):
                refill(tenant, lane)
    owner.fill()
    for _ in range(turns):
        entry = next(iter(owner.scheduler.running.values()))
        cost = seconds.get(entry.tenant, 1.0)
        got[entry.tenant] += cost
        refill(entry.tenant, int(entry.key[-1]))
        owner.finish(entry, cost)
        owner.scheduler._check()
    return got


def test_a_flood_gets_no_more_than_its_share() -> None:
    """One tenant with a hundred times the others' traffic is served as often as they are."""
    got = saturated(Owner(2), {"flood": 200, "x": 2, "y": 2}, 300)
    # Two turns of the flood started at once, before there was anybody else.
    assert max(got.values()) - min(got.values()) <= 2 + 2


def test_weights_divide_turns_between_tenants() -> None:
    got = saturated(Owner(1, weights={"x": 4.0}), {"x": 2, "y": 2}, 500)
    assert abs(got["x"] / 4 - got["y"]) <= 1.25


def test_conversations_of_a_tenant_take_turns() -> None:
    owner = Owner(1)
    for key in "abc":
        for _ in range(3):
            owner.add(key)
    owner.drain()
    assert "".join(entry.key for entry in owner.started) == "abcabcabc"


def test_many_unordered_turns_earn_a_conversation_no_more() -> None:
    owner = Owner(1)
    owner.add("busy")
    for _ in range(20):
        owner.add("burst", ordered=False)
    for _ in range(5):
        owner.add("calm")
    owner.drain()
    order = [entry.key for entry in owner.started[1:11]]
    assert order.count("calm") == 5


@given(
    weight=st.sampled_from((1.0, 2.0, 4.0)),
    costs=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    limit=st.integers(1, 4),
)
def test_charged_by_seconds_tenants_get_seconds_by_weight(
    weight: float, costs: tuple[int, int], limit: int
) -> None:
    """With `by_seconds`, seconds / weight of two busy tenants differ by a constant, however long it runs."""
    owner = Owner(limit, weights={"x": weight}, by_seconds=True)
    seconds = {"x": costs[0] / 8, "y": costs[1] / 8}
    got = saturated(owner, {"x": 2, "y": 2}, 600, lanes=6, seconds=seconds)
    assert abs(got["x"] / weight - got["y"]) <= (limit + 4) * max(1.0, *seconds.values())


def test_seconds_nobody_competed_for_are_not_charged() -> None:
    """Neither idle times nor being alone make a tenant wait, or give it credit, when another comes."""
    owner = Owner(2, by_seconds=True)
    for _ in range(1000):
        owner.finish(owner.add("x", "x"), 10.0)
        owner.finish(owner.add("y", "y"), 0.1)
    got = saturated(owner, {"x": 2, "y": 2}, 100, seconds={"x": 5.0, "y": 5.0})
    assert abs(got["x"] - got["y"]) <= (2 + 4) * 10.0
    alone = saturated(Owner(1, by_seconds=True), {"x": 2}, 50, seconds={"x": 100.0})
    assert alone == {"x": 5000.0}


# -- nobody starves --------------------------------------------------------------------------------


def high_tenants(owner: Owner) -> int:
    return sum(bool(group.lanes) for group in owner.scheduler.ready._groups[HIGH].values())


@given(
    crowd=st.lists(st.integers(1, 4), max_size=5),
    arrivals=st.lists(st.lists(st.integers(0, 12), max_size=3), min_size=60, max_size=60),
    weights=st.dictionaries(st.integers(0, 12).map(str), WEIGHTS),
    sticky=st.booleans(),
)
def test_g6_an_aged_lane_is_served_within_a_bound(
    crowd: list[int], arrivals: list[list[int]], weights: dict[str, float], sticky: bool
) -> None:
    """Law G6: a lane lifted to HIGH is served within L * (1 + (T - 1) * ceil(W / w)) starts.

    L is the number of HIGH lanes of its tenant when it is lifted, itself included; T the most tenants
    that have HIGH lanes at a time meanwhile (never more than turns wait); w its tenant's weight, W the
    largest weight. With equal weights this is L * T. Starts of CRITICAL turns do not count. New HIGH
    conversations of its own tenant come after it; those of other tenants, new ones too, take turns
    with its tenant and never add to L.

    Why: between two services of its tenant the virtual time moves by at most 1 / w, and the services
    of another tenant, or of a series of tenants never waiting at the same time, are at least 1 / W
    apart. Its tenant serves each of the L lanes once before any that came later.
    """
    owner = Owner(1, ageing=1.0, weights=weights)
    owner.add("busy", priority=HIGH)
    aged = owner.add("aged", "0", LOW)
    for tenant, lanes in enumerate(crowd):
        for lane in range(lanes):
            for _ in range(3):
                owner.add(f"{tenant}/{lane}", str(tenant), HIGH)
    owner.until(2.0)
    assert aged.lane is not None
    assert aged.lane.klass == HIGH
    own = len(owner.scheduler.ready._groups[HIGH]["0"].lanes)
    most, starts = high_tenants(owner), 0
    for batch in arrivals:
        (entry,) = owner.finish(next(iter(owner.scheduler.running.values())))
        starts += 1
        if entry is aged:
            break
        if sticky:
            owner.add(entry.key, entry.tenant, HIGH)
        for tenant in batch:
            owner.add(f"{tenant}/new {owner.ids}", str(tenant), HIGH)
        most = max(most, high_tenants(owner))
    weight = weights.get("0", 1.0)
    heaviest = max([1.0, *weights.values()])
    bound = own * (1 + (most - 1) * ceil(heaviest / weight))
    assert entry is aged or starts < bound
    assert starts <= bound


def test_g6_the_bound_is_reached() -> None:
    """Three tenants with two HIGH lanes each: the aged lane is the third of its own, the ninth start."""
    owner = Owner(1, ageing=1.0)
    owner.add("busy", priority=HIGH)
    aged = owner.add("aged", "a", LOW)
    for lane in (1, 2):
        for tenant in "bca":
            for _ in range(9):
                owner.add(f"{tenant}{lane}", tenant, HIGH)
    owner.until(2.0)
    owner.drain()
    assert owner.started.index(aged) == 3 * 3


@pytest.mark.parametrize("ageing", [30.0, inf])
def test_without_ageing_low_turns_may_wait_for_ever(ageing: float) -> None:
    """What ageing is for: a steady stream of NORMAL turns, one a second, for ten minutes."""
    owner = Owner(1, ageing=ageing)
    owner.add("busy")
    low = owner.add("low", priority=LOW)
    for second in range(600):
        owner.add(f"normal {second}")
        owner.until(float(second))
        owner.finish(next(iter(owner.scheduler.running.values())))
    assert (low in owner.started) == (ageing < inf)
