"""G5: tenants share the starts of a class by weight, and so do the conversations of a tenant, equally.

The bound is checked for every stretch of time, and one-sided, which is stronger than the law: while a
tenant j has a startable lane of a class throughout, no tenant i, whatever it did before or does
meanwhile, gets more of that class than `S_i / w_i - S_j / w_j <= 1 / w_i + 1 / w_j`. So being idle earns
no credit.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

import ccm
from ccm import _events as events

from .interpreter import Trace, run
from .model import Replay
from .programs import ROOMY, TICK, Behaviour, How, Program, Send, programs, sends, ticks


@attrs.define
class Stretch:
    """A time throughout which one flow could start; how far each other one got ahead of it."""

    lanes: set[str]
    served: float = 0.0  # by the flow's own weight
    ahead: dict[str, float] = attrs.Factory(dict)
    least: dict[str, float] = attrs.Factory(dict)

    def serve_own(self, share: float) -> None:
        self.served += share
        for other in self.ahead:
            self.ahead[other] -= share
            self.least[other] = min(self.least[other], self.ahead[other])

    def serve_other(self, other: str, share: float) -> float:
        """The most that `other` has got ahead over any part of this stretch."""
        now = self.ahead.setdefault(other, -self.served) + share
        self.ahead[other] = now
        return now - self.least.setdefault(other, -self.served)


class Fairness:
    """Stretches of all flows that can start now; a flow is a tenant in a class, or a lane of one."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = weights
        self.stretches: dict[tuple[Hashable, str], Stretch] = {}

    def share(self, flow: str) -> float:
        return 1.0 / self.weights.get(flow, 1.0)

    def update(self, ready: Mapping[Any, set[str]]) -> None:
        """A stretch goes on while one and the same lane could start before and can start now."""
        going_on = {}
        for place, lanes in ready.items():
            stretch = self.stretches.get(place)
            if stretch is None or not stretch.lanes & lanes:
                stretch = Stretch(lanes)
            stretch.lanes = lanes
            going_on[place] = stretch
        self.stretches = going_on

    def serve(self, queue: Hashable, flow: str) -> Iterator[str]:
        """Count a start of `flow` in `queue`; what breaks the law."""
        share = self.share(flow)
        for (where, waiting), stretch in self.stretches.items():
            if where != queue:
                continue
            if waiting == flow:
                stretch.serve_own(share)
            elif (ahead := stretch.serve_other(flow, share)) > share + self.share(waiting) + 1e-9:
                yield f"{flow!r} got {ahead} ahead of {waiting!r} in {queue!r}"


def check_fairness(trace: Trace) -> int:
    """Check both levels; how many starts there were while another flow could have started."""
    replay = Replay(trace)
    tenants, lanes = Fairness(trace.program.config.weights), Fairness({})
    contested = 0
    for instant in replay.instants():
        ready = replay.ready(instant.now)
        tenants.update(ready)
        lanes.update({(place, lane): {lane} for place, keys in ready.items() for lane in keys})
        if isinstance(instant.event, events.Started):
            assert instant.turn is not None
            key, tenant = instant.turn.conversation, instant.turn.tenant
            klass = replay.lanes[key].effective(instant.now, replay.config.ageing)
            contested += len(tenants.stretches) > 1
            assert list(tenants.serve(klass, tenant)) == [], f"at {instant.now}"
            assert list(lanes.serve((klass, tenant), key)) == [], f"at {instant.now}"
    return contested


CROWD = sends(
    behaviours=(Behaviour.REPLY, Behaviour.FAIL_ONCE),
    conversations="abcdefghijkl",
    priorities=st.sampled_from([ccm.NORMAL, ccm.HIGH]),
    takes=ticks(1, 16),
    until=48,
    ids=False,
    patience=False,
)


@given(
    program=programs(
        messages=CROWD, least=8, most=40, deliver=False, enabled=True, preempt=False, charge="turns",
        timeout=30.0, **ROOMY,
    )
)  # fmt: skip
def test_starts_are_shared_by_weight_at_every_moment(program: Program) -> None:
    check_fairness(run(program))


@given(
    counts=st.lists(st.integers(4, 20), min_size=2, max_size=4),
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0]), min_size=4, max_size=4),
    lanes=st.integers(1, 5),
    limit=st.integers(1, 3),
    delays=st.lists(ticks(0, 2), min_size=4, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_backlogs_are_served_by_weight(
    counts: list[int], weights: list[float], lanes: int, limit: int, delays: list[float], seed: int
) -> None:
    """Every tenant comes with all it has at once, in a few conversations or in one for each message."""
    names = "tuvw"[: len(counts)]
    many = [
        Send(delay, f"{name}{number % (lanes * 3)}", tenant=name, takes=4 * TICK, how=How.SUBMIT)
        for name, count, delay in zip(names, counts, delays, strict=False)
        for number in range(count)
    ]
    config = ccm.Config(
        limit=limit, weights=dict(zip(names, weights, strict=False)), debug=True, ageing=30.0, **ROOMY
    )
    assert check_fairness(run(Program(tuple(many), config, seed))) > 0
