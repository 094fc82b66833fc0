"""Ten minutes of five times as much as can be answered, and the minute after: the numbers of shedding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

import attrs
import pytest

import ccm
from ccm.testing import Arrival, FakeModel, Rehearsal, rehearse, traffic, uniform

LIMIT, MEAN = 50, 0.275
CAPACITY = LIMIT / MEAN
MIX = {ccm.CRITICAL: 2, ccm.HIGH: 18, ccm.NORMAL: 60, ccm.LOW: 20}
# Nobody speaks twice: whoever waits for his own conversation's earlier turn waits for that and for no slot.
STRANGERS = {"users": 10**6, "conversations": 10**6, "mix": MIX}
CONFIG = ccm.Config(
    limit=LIMIT, rate_limit=None, max_sessions=100_000, overflow=ccm.Overflow.SHED_LOWEST,
    shedding=ccm.Shedding(),
)  # fmt: skip


def overloaded(times: float, load: float, after: float, config: ccm.Config = CONFIG) -> Rehearsal:
    """`load` seconds of `times` the capacity, then `after` seconds of half the capacity."""
    arrivals = [*traffic(rate=times * CAPACITY, duration=load, seed=1, **STRANGERS)]  # type: ignore[arg-type]
    calm = traffic(rate=0.5 * CAPACITY, duration=after, seed=2, **STRANGERS)  # type: ignore[arg-type]
    arrivals += [Arrival(load + arrival.at, arrival.message) for arrival in calm]
    model = FakeModel(latency=uniform(0.05, 0.5))
    return rehearse(arrivals, model, config=config, duration=load + after, step=1.0)


def worst(values: Sequence[float | None]) -> float:
    return max((value for value in values if value is not None), default=0.0)


@pytest.mark.slow
def test_fivefold_overload_for_ten_minutes() -> None:
    """HIGH alone is as much as its 46 slots can answer: NORMAL and LOW are given up nearly all of the time.

    As without shedding, goodput is that of the slots which the overloading classes may use: see
    `test_overload.py`.
    """
    result = overloaded(5, 600, 60)
    assert result.ok
    assert result.peak_waiting <= CONFIG.queue_limit
    timeline = result.timeline
    assert result.classes[ccm.CRITICAL].wait.quantile(0.99) < 0.005
    assert result.classes[ccm.CRITICAL].loss == 0.0
    open_to_high = LIMIT - CONFIG.headroom_of(ccm.HIGH)
    assert open_to_high == 46
    assert fmean(timeline.running[5:600]) >= 0.97 * open_to_high
    # Recovery: ten seconds after the load has ended waits are those of any calm minute, nobody is given up.
    for priority in ccm.Priority:
        assert worst(timeline.wait_p99[priority][610:]) < 0.1
    assert sum(timeline.outcomes["shed"][610:]) == 0


def test_the_same_number_is_answered_and_nobody_waits_long() -> None:
    """Against the same minute without shedding: as many answers, and a fraction of the waiting."""
    plain, shedding = (
        overloaded(1.5, 60, 1, CONFIG.replace(shedding=policy, drain=0)) for policy in (None, CONFIG.shedding)
    )
    assert plain.ok
    assert shedding.ok
    assert sum(shedding.timeline.outcomes["replied"][:60]) >= 0.99 * sum(
        plain.timeline.outcomes["replied"][:60]
    )
    with_it, without = (worst(run.timeline.wait_p99[ccm.NORMAL][20:60]) for run in (shedding, plain))
    assert with_it < 3.0
    assert without > 3 * with_it


@pytest.mark.parametrize("times", [1.2, 1.5, 3.0])
def test_it_does_not_swing(times: float) -> None:
    """Under a steady load what is given up settles, and it never goes off and on again."""
    result = overloaded(times, 90, 1)
    shed = [
        count / max(1, came)
        for count, came in zip(result.timeline.outcomes["shed"], result.timeline.arrivals, strict=True)
    ]
    begun = next(second for second, share in enumerate(shed) if share)
    settled = shed[begun + 15 : 90]
    means = [fmean(settled[n : n + 10]) for n in range(0, len(settled) - 9, 10)]
    assert all(abs(after - before) < 0.2 for before, after in pairwise(means)), means
    assert min(means) > 0.4 * max(means), means


def test_the_same_seed_sheds_the_same_messages() -> None:
    first, second = (overloaded(2, 10, 1) for _ in range(2))
    assert attrs.asdict(first.timeline) == attrs.asdict(second.timeline)
