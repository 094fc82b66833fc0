"""Fair queuing: against a model in exact arithmetic, the bound of law G5, and that nobody starves (G6).

Shares are multiples of 1/64, so that every sum is exact and bounds are compared without tolerance.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ccm._core.fair import FairQueue

SHARES = st.integers(1, 64).map(lambda n: Fraction(n, 64))


class Drift:
    """The lead of one flow over another, and how far it has swung while both stayed."""

    def __init__(self) -> None:
        self.now = self.low = self.high = Fraction(0)

    def add(self, amount: Fraction) -> None:
        self.now += amount
        self.low, self.high = min(self.low, self.now), max(self.high, self.now)

    @property
    def widest(self) -> Fraction:
        """The largest difference over any interval within the stay."""
        return self.high - self.low


class FairQueueMachine(RuleBasedStateMachine):
    """Every decision equals that of a list searched for its smallest tag; every pair keeps the bound."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[str] = FairQueue()
        self.tags: dict[str, tuple[Fraction, int]] = {}
        self.shares: dict[str, Fraction] = {}
        self.virtual = Fraction(0)
        self.joined = 0
        self.drifts: dict[tuple[str, str], Drift] = {}

    def model_join(self, flow: str, share: Fraction) -> None:
        self.joined += 1
        self.tags[flow] = (self.virtual + share, self.joined)
        self.shares[flow] = share

    def model_leave(self, flow: str) -> None:
        del self.tags[flow]
        if not self.tags:
            self.virtual = Fraction(0)

    def part(self, flow: str) -> None:
        """The flow does not stay: no interval with it goes on."""
        self.drifts = {pair: drift for pair, drift in self.drifts.items() if flow not in pair}

    def meet(self, flow: str) -> None:
        for other in self.tags:
            if other != flow:
                self.drifts[min(flow, other), max(flow, other)] = Drift()

    @rule(flow=st.sampled_from("abcdefgh"), share=SHARES)
    def join(self, flow: str, share: Fraction) -> None:
        if flow in self.tags:
            with pytest.raises(ValueError, match="already"):
                self.queue.join(flow, float(share))
            return
        self.queue.join(flow, float(share))
        self.model_join(flow, share)
        self.meet(flow)

    @rule(flow=st.sampled_from("abcdefgh"))
    def leave(self, flow: str) -> None:
        if flow not in self.tags:
            with pytest.raises(ValueError, match="not in the queue"):
                self.queue.leave(flow)
            return
        self.queue.leave(flow)
        self.model_leave(flow)
        self.part(flow)

    @precondition(lambda self: self.tags)
    @rule(stays=st.booleans(), times=st.integers(1, 8))
    def serve(self, stays: bool, times: int) -> None:
        for _ in range(times if stays else 1):
            expected = min(self.tags, key=lambda flow: self.tags[flow])
            assert self.queue.peek() == expected
            assert self.queue.serve() == expected
            self.virtual = self.tags[expected][0]
            self.model_leave(expected)
            for (first, second), drift in self.drifts.items():
                if expected in (first, second):
                    drift.add(self.shares[expected] * (1 if expected == first else -1))
            self.bound_holds()
            if stays:
                self.queue.join(expected, float(self.shares[expected]))
                self.model_join(expected, self.shares[expected])
            else:
                self.part(expected)

    @precondition(lambda self: not self.tags)
    @rule()
    def nobody_to_serve(self) -> None:
        with pytest.raises(IndexError):
            self.queue.serve()
        with pytest.raises(IndexError):
            self.queue.peek()

    def bound_holds(self) -> None:
        for (first, second), drift in self.drifts.items():
            assert drift.widest <= self.shares[first] + self.shares[second]

    @invariant()
    def agrees_with_the_model(self) -> None:
        self.queue._check()
        assert len(self.queue) == len(self.tags)
        assert sorted(self.queue) == sorted(self.tags)
        assert all(flow in self.queue for flow in self.tags)


TestFairQueue = FairQueueMachine.TestCase


@given(st.lists(st.integers(1, 16), min_size=2, max_size=6), st.integers(50, 400))
def test_g5_lead_of_one_flow_is_bounded_for_any_weights(weights: list[int], rounds: int) -> None:
    """Law G5 for weights whose shares are no exact floats, hence the tolerance."""
    queue: FairQueue[int] = FairQueue()
    for flow, weight in enumerate(weights):
        queue.join(flow, 1 / weight)
    drifts = {pair: Drift() for pair in combinations(range(len(weights)), 2)}
    for _ in range(rounds):
        served = queue.serve()
        queue.join(served, 1 / weights[served])
        for (first, second), drift in drifts.items():
            if served in (first, second):
                drift.add(Fraction(1 if served == first else -1, weights[served]))
    for (first, second), drift in drifts.items():
        assert drift.widest <= Fraction(1, weights[first]) + Fraction(1, weights[second]) + Fraction(1, 10**9)


@given(st.lists(st.tuples(SHARES, st.booleans()), max_size=8), SHARES, st.integers(0, 5), st.integers(0, 20))
def test_nobody_starves_however_many_join(
    others: list[tuple[Fraction, bool]], share: Fraction, per_service: int, warm_up: int
) -> None:
    """A flow is served after at most ceil(share / share_j) services of each flow j present when it joined.

    Before it is served, tags of j lie in [v, v + share), one share_j apart; a tag that ties with its own
    goes first only if j joined before, and then it is the only one. Flows that join later with a share
    not smaller get a tag not smaller and lose the tie, however many they are and whenever they come.
    """
    queue: FairQueue[int] = FairQueue()
    shares = {flow: s for flow, (s, _) in enumerate(others)}
    stays = {flow: stay for flow, (_, stay) in enumerate(others)}
    for flow, s in shares.items():
        queue.join(flow, float(s))
    for _ in range(warm_up if shares else 0):
        flow = queue.serve()
        queue.join(flow, float(shares[flow]))
    me, newcomer = -1, 1000
    queue.join(me, float(share))
    bound = sum(ceil(share / s) for s in shares.values()) + 1
    for _ in range(bound):
        flow = queue.serve()
        if flow == me:
            break
        assert flow < 1000, "a newcomer was served first"
        if stays[flow]:
            queue.join(flow, float(shares[flow]))
        for _ in range(per_service):
            newcomer += 1
            queue.join(newcomer, float(share))
        queue._check()
    else:
        pytest.fail(f"not served in {bound} services")


def test_equal_tags_are_served_in_the_order_of_joining() -> None:
    queue: FairQueue[str] = FairQueue()
    for flow in "cab":
        queue.join(flow)
    order = []
    for _ in range(6):
        order.append(queue.serve())
        queue.join(order[-1])
    assert order == [*"cabcab"]


def test_idleness_earns_nothing() -> None:
    """Who joins after others were served for long takes turns with them, and does not catch up first."""
    queue: FairQueue[str] = FairQueue()
    queue.join("busy")
    queue.join("other")
    for _ in range(100):
        queue.join(queue.serve())
    queue.leave("other")
    for _ in range(100):
        queue.leave("busy")
        queue.join("busy")
    queue.join("late")
    order = []
    for _ in range(6):
        order.append(queue.serve())
        queue.join(order[-1])
    assert order.count("late") == 3


def test_leaving_before_being_served_gives_no_better_place() -> None:
    queue: FairQueue[str] = FairQueue()
    for flow in "ab":
        queue.join(flow)
    queue.leave("a")
    queue.join("a")
    assert [queue.serve(), queue.serve()] == ["b", "a"]


def test_weights_divide_services() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.join("light", 1.0)
    queue.join("heavy", 1 / 4)
    order = []
    for _ in range(50):
        order.append(queue.serve())
        queue.join(order[-1], 1.0 if order[-1] == "light" else 1 / 4)
    assert order.count("heavy") == 40


def test_entries_of_those_who_left_do_not_pile_up() -> None:
    """Law G8 for the heap: stale entries are bounded by those that count."""
    queue: FairQueue[int] = FairQueue()
    for flow in range(10):
        queue.join(flow)
    for _ in range(10_000):
        for flow in range(5):
            queue.leave(flow)
            queue.join(flow)
        assert queue.kept <= 2 * len(queue) + queue._SLACK + 1
    queue._check()
