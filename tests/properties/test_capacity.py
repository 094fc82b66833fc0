"""G3: never more than `limit` turns run; a class leaves the slots of more urgent classes alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import ccm
from ccm import _events as events

from .interpreter import run
from .model import Replay, check_claims
from .programs import CROWD, ROOMY, SLOTS_OF_TENANTS, Behaviour, Program, programs, sends


@given(program=programs(enabled=True))
def test_never_more_handlers_than_slots(program: Program) -> None:
    trace = run(program)
    assert trace.peak <= program.config.limit
    assert trace.final is not None
    assert trace.peak <= trace.final.peak_running <= program.config.limit
    assert (trace.final.peak_running > 0) == bool(trace.told(events.Started))


# The peak of the books is that of the handlers, where every turn that starts gets as far as its handler.
CALM = sends(behaviours=(Behaviour.REPLY, Behaviour.FAIL, Behaviour.BUSY), **CROWD)
HEADROOM = st.dictionaries(st.sampled_from(ccm.Priority), st.integers(1, 3), min_size=1)


@given(
    program=programs(
        messages=CALM, least=8, most=30, enabled=True, preempt=False, timeout=30.0, deliver=False,
        limit=st.integers(2, 5), headroom=HEADROOM, **ROOMY | {"tenants": SLOTS_OF_TENANTS},
    )
)  # fmt: skip
def test_a_class_starts_only_below_its_share_of_the_slots(program: Program) -> None:
    trace = run(program)
    check_claims(trace)
    replay, peak = Replay(trace), 0
    for instant in replay.instants():
        if isinstance(instant.event, events.Started):
            assert instant.turn is not None
            klass = replay.startable(instant.now)[instant.turn.conversation]
            assert replay.running < replay.slots(klass), (instant, klass)
            assert not replay.full(instant.turn.tenant), instant
            peak = max(peak, replay.running + 1)
    assert trace.final is not None
    assert trace.final.peak_running == peak
