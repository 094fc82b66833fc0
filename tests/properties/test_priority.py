"""G4 and G7: a slot goes to the most urgent lane that can start, and none stays free while one can."""

from __future__ import annotations

from hypothesis import given

from ccm import _events as events

from .interpreter import Trace, run
from .model import Replay, check_claims
from .programs import CROWD, ROOMY, Behaviour, Program, programs, sends


def check_choices(trace: Trace) -> None:
    """Each start was that of a lane's head, and of no less urgent a class than any other that could start."""
    replay = Replay(trace)
    for instant in replay.instants():
        if instant.event is None:
            assert replay.neglected(instant.now) == [], f"at {instant.now}"
        elif isinstance(instant.event, events.Started):
            assert instant.turn is not None
            startable = replay.startable(instant.now)
            key = instant.turn.conversation
            assert key in startable, instant
            assert replay.lanes[key].waiting[0] is instant.turn, instant
            assert startable[key] == min(startable.values()), (instant, startable)


@given(program=programs(enabled=True, preempt=False))
def test_the_most_urgent_lane_starts_and_no_slot_stays_free(program: Program) -> None:
    trace = run(program)
    check_claims(trace)
    check_choices(trace)


# Few slots, long handlers, quick ageing: lanes wait, inherit and age, and headroom decides.
MESSAGES = sends(behaviours=(Behaviour.REPLY, Behaviour.FAIL_ONCE, Behaviour.BUSY), **CROWD)


@given(
    program=programs(
        messages=MESSAGES, least=8, most=30, deliver=False, enabled=True, preempt=False, timeout=30.0, **ROOMY
    )
)  # fmt: skip
def test_so_it_is_in_a_crowd(program: Program) -> None:
    trace = run(program)
    check_claims(trace)
    check_choices(trace)
