"""G12: leaving takes `Config.drain` seconds at most, and the cleanup of handlers that are cancelled then.

What runs or waits goes on until the deadline; what is left then gets `Cancelled(by="drain")`. So it is
when the scope around the block is cancelled: the drain is bounded, so it need not be cut short.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ccm
from ccm import _events as events

from .interpreter import Trace, run
from .programs import (
    ROOMY,
    TICK,
    Behaviour,
    Collapse,
    Drain,
    How,
    Leave,
    Program,
    Send,
    programs,
    sends,
    ticks,
)
from .test_conservation import check_accounts, check_told

STUBBORN = (Behaviour.CLEANUP, Behaviour.IGNORE)


def check_drained(trace: Trace) -> None:
    """From the moment of leaving on; valid whether the block was left or cancelled."""
    program = trace.program
    deadline = trace.leaving + program.config.drain
    cleanup = max((s.takes for s in program.sends if s.behaviour in STUBBORN), default=0.0)
    assert trace.leaving <= trace.closed <= deadline + cleanup
    stopped = min((e.at for e in trace.told(events.DrainStarted)), default=math.inf)
    assert all(event.at <= stopped for event in trace.told(events.Accepted))
    assert all(step.at <= deadline for step in trace.steps if step.kind == "enter")
    for event in trace.told(events.Ended):
        if event.at <= deadline:
            # Nobody is cancelled by the drain before its time is over.
            assert event.at == deadline or event.outcome != ccm.Cancelled("drain")
        else:
            # Only cleanup was left: it ends as cancelled, unless the handler made an answer of it.
            check_late(trace, event)


def check_late(trace: Trace, event: events.Ended) -> None:
    last = [step for step in trace.steps if step.turn_id == event.turn_id][-1]
    send = trace.program.sends[last.call]
    assert send.behaviour in STUBBORN
    match event.outcome:
        case ccm.Replied():
            assert last.how == "ignored"
        case ccm.Cancelled(by="caller"):
            assert last.call in trace.abandoned
        case ccm.Expired():
            assert send.patience is not None
        case _:
            assert event.outcome == ccm.Cancelled("drain")


ENDS = st.builds(Leave, ticks(0, 160)) | st.builds(Collapse, ticks(0, 160))


@given(program=programs(ends=ENDS, enabled=True))
def test_leaving_is_bounded_and_everything_ends(program: Program) -> None:
    trace = run(program)
    check_drained(trace)
    check_accounts(trace)
    check_told(trace)


PATIENT = sends(
    behaviours=(Behaviour.REPLY, Behaviour.HANG), hows=(How.ASK, How.SUBMIT), patience=False, ids=False
)


@given(
    program=programs(
        messages=PATIENT, ends=ENDS, others=st.builds(Drain, ticks(0, 160)), least=3, deliver=False,
        timeout=600.0, enabled=True, preempt=False, overflow=ccm.Overflow.REJECT_NEW, **ROOMY,
    )
)  # fmt: skip
def test_what_ends_before_the_deadline_is_answered_and_the_rest_is_told(program: Program) -> None:
    if not any(isinstance(op, Leave | Collapse) for op in program.operations):
        program = Program((*program.operations, Leave(2.0)), program.config, program.seed)
    trace = run(program)
    deadline = trace.leaving + program.config.drain
    for step in trace.steps:
        send = program.sends[step.call]
        if step.kind == "enter" and send.behaviour is Behaviour.REPLY and step.at + send.takes < deadline:
            assert trace.results[step.call] == "replied"
        if step.kind == "enter" and send.behaviour is Behaviour.HANG:
            assert trace.results[step.call] == "cancelled"
    for call, outcome in trace.outcomes.items():
        assert outcome.name == "replied" or outcome == ccm.Cancelled("drain"), call
    if any(event.outcome == ccm.Cancelled("drain") for event in trace.told(events.Ended)):
        assert trace.closed == deadline


@given(
    program=programs(
        messages=sends(until=64), others=st.builds(Drain, ticks(0, 128)), ends=ENDS, enabled=True
    )
)  # fmt: skip
def test_drain_returns_when_all_that_was_accepted_has_its_outcome(program: Program) -> None:
    trace = run(program)
    ends = [event.at for event in trace.told(events.Ended)]
    asked = [op.at for op in program.operations if isinstance(op, Drain)]
    assert len(trace.drains) == len(asked)  # every call returned
    for _, returned in trace.drains:
        assert all(end <= returned for end in ends)
    for at in asked:
        assert all(event.at <= at for event in trace.told(events.Accepted))


@pytest.mark.parametrize(
    "behaviour", [Behaviour.CONVERT, Behaviour.CLEANUP, Behaviour.IGNORE, Behaviour.HANG]
)
@pytest.mark.parametrize("timeout", [0.5, 30.0])
@pytest.mark.parametrize("end", [Leave(1.0), Collapse(1.0)])
def test_handlers_that_do_not_want_to_end(
    behaviour: Behaviour, timeout: float, end: Leave | Collapse
) -> None:
    """Their last attempt may end long after the deadline: there is no next one, and nobody waits for ever."""
    many = [
        Send(number * TICK, f"{number}", takes=3.0, behaviour=behaviour, how=how, priority=priority)
        for number, (how, priority) in enumerate(
            [(How.ASK, ccm.LOW), (How.SUBMIT, ccm.LOW), (How.ASK, ccm.CRITICAL)]
        )
    ]
    config = ccm.Config(limit=2, preempt=True, timeout=timeout, drain=0.25, debug=True)
    trace = run(Program((*many, end), config))
    check_accounts(trace)
    assert trace.closed <= 1.25 + 3.0
    assert not any(step.at > 1.25 for step in trace.steps if step.kind == "enter")
