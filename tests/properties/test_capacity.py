"""G3: never more than `limit` turns run; a class leaves the slots of more urgent classes alone."""

from __future__ import annotations

from hypothesis import given

from ccm import _events as events

from .interpreter import run
from .model import Replay, check_claims
from .programs import Behaviour, Program, programs, sends


@given(program=programs(enabled=True))
def test_never_more_handlers_than_slots(program: Program) -> None:
    trace = run(program)
    assert trace.peak <= program.config.limit
    assert trace.final is not None
    assert trace.peak <= trace.final.peak_running <= program.config.limit
    assert (trace.final.peak_running > 0) == bool(trace.told(events.Started))


# The peak of the books is that of the handlers, where every turn that starts gets as far as its handler.
CALM = sends(behaviours=(Behaviour.REPLY, Behaviour.FAIL, Behaviour.BUSY), patience=False)


@given(program=programs(messages=CALM, enabled=True, preempt=False, timeout=30.0, deliver=False))
def test_a_class_starts_only_below_its_share_of_the_slots(program: Program) -> None:
    trace = run(program)
    check_claims(trace)
    replay, peak = Replay(trace), 0
    for instant in replay.instants():
        if isinstance(instant.event, events.Started):
            assert instant.turn is not None
            klass = replay.startable(instant.now)[instant.turn.conversation]
            assert replay.running < replay.slots(klass), (instant, klass)
            peak = max(peak, replay.running + 1)
    assert trace.final is not None
    assert trace.final.peak_running == peak
