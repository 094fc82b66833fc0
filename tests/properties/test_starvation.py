"""G6: whatever waits is lifted to HIGH by ageing, and a lane in HIGH is passed by only so many others.

The bound: a lane gets into class HIGH when m lanes of its tenant can start there (it among them). Before it
starts, its tenant's others start at most m - 1 times, and every other tenant i at most
1 + m * w_i / w times. In time, where each turn takes at most d seconds and h slots are open to HIGH: it
starts at most `lifts * ageing + d * ceil((B + 1) / h)` after its arrival, B being the sum of the above.
"""

from __future__ import annotations

import math

import attrs
from hypothesis import given
from hypothesis import strategies as st

import ccm
from ccm import _events as events

from .interpreter import Trace, run
from .model import Replay
from .programs import ROOMY, TICK, Behaviour, How, Leave, Program, Send, programs, sends, ticks


@attrs.define
class Stay:
    """A lane in HIGH that can start and has not yet: who started in its class since it got there."""

    tenant: str
    since: float
    rivals: int  # lanes of its tenant that could start when it got there, itself included
    passed: dict[str, int] = attrs.Factory(dict)


def check_passing(trace: Trace) -> None:
    replay, weights = Replay(trace), trace.program.config.weights
    stays: dict[str, Stay] = {}
    for instant in replay.instants():
        high = {t: keys for (c, t), keys in replay.ready(instant.now).items() if c == ccm.HIGH}
        places = {key: tenant for tenant, keys in high.items() for key in keys}
        stays = {k: s for k, s in stays.items() if places.get(k) == s.tenant}
        for key, tenant in places.items():
            stay = stays.setdefault(key, Stay(tenant, instant.now, len(high[tenant])))
            if stay.since == instant.now:
                # Several things happen at one instant; who gets there in the same one may be before it.
                stay.rivals = max(stay.rivals, len(high[tenant]))
        if not isinstance(instant.event, events.Started):
            continue
        assert instant.turn is not None
        started, by = instant.turn.conversation, instant.turn.tenant
        if started not in places:
            continue
        for key, stay in stays.items():
            if key == started:
                continue
            stay.passed[by] = stay.passed.get(by, 0) + 1
            ratio = weights.get(by, 1.0) / weights.get(stay.tenant, 1.0)
            most = stay.rivals - 1 if by == stay.tenant else 1 + stay.rivals * ratio
            assert stay.passed[by] <= most + 1e-9, f"{key} was passed by {by!r}: {stay}"


CROWD = sends(
    behaviours=(Behaviour.REPLY, Behaviour.FAIL_ONCE),
    conversations="abcdefgh",
    takes=ticks(4, 32),
    until=64,
    ids=False,
    patience=False,
)


@given(
    program=programs(
        messages=CROWD, least=8, most=30, deliver=False, enabled=True, preempt=False, charge="turns",
        timeout=30.0, **ROOMY,
    )
)  # fmt: skip
def test_a_lane_in_high_is_passed_by_only_so_many(program: Program) -> None:
    check_passing(run(program))


@given(
    ageing=ticks(8, 48),
    takes=ticks(2, 16),
    limit=st.integers(1, 3),
    priority=st.sampled_from([ccm.NORMAL, ccm.LOW]),
    lanes=st.integers(4, 8),
    alone=st.booleans(),
    flood=st.sampled_from([ccm.HIGH, ccm.NORMAL]),
    seed=st.integers(0, 2**32),
)
def test_a_flood_delays_a_turn_by_the_stated_time_at_most(
    ageing: float, takes: float, limit: int, priority: ccm.Priority, lanes: int, alone: bool,
    flood: ccm.Priority, seed: int,
) -> None:  # fmt: skip
    """Twice as many urgent messages as can be answered, for ever; one that is not urgent comes in between."""
    lifts = priority - ccm.HIGH
    # `lanes` conversations flood; they are rivals of the one message, in its tenant or as one other.
    before = 2 if alone else lanes
    bound = lifts * ageing + takes * math.ceil((before + 1) / limit)
    start, pace = 4 * takes, takes / limit / 2
    count = math.ceil((start + bound) / pace) + 1
    many = [
        Send(number * pace, f"{number % lanes}", tenant="flood", priority=flood, takes=takes, how=How.SUBMIT)
        for number in range(count)
    ]
    tenant = "one" if alone else "flood"
    one = Send(start, "one", tenant=tenant, priority=priority, takes=takes, how=How.SUBMIT)
    config = ccm.Config(limit=limit, headroom={}, ageing=ageing, drain=0.0, debug=count < 100, **ROOMY)
    trace = run(Program((one, *many, Leave(start + bound + TICK)), config, seed))
    entered = [step.at for step in trace.attempts(0)]
    assert entered, "it was not started in time"
    assert entered[0] - start <= bound
