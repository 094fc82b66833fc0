"""G10: cancel anything before any step of the run loop, and no slot, lane, waiter or message is lost.

Every program runs twice with one seed: first to the end, to count its steps; then again, and before step
n, drawn over the whole length, something is cancelled. At the end of a run that leaves the manager open,
`Interpreter` probes it: nothing is left over, and all slots can be taken at that very instant.
"""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st

import ccm
from ccm import _events as events
from ccm.testing import CancelAt

from .interpreter import ABANDONED, Interpreter, Trace, run
from .programs import ROOMY, TICK, Behaviour, Cancel, How, Program, Send, programs, sends
from .test_conservation import check_accounts, check_handlers, check_told
from .test_drain import check_drained
from .test_order import check_order

POSITIONS = st.integers(0, 1_000_000)
MESSAGES = sends(until=64, conversations="abc")


def run_cancelled(program: Program, position: int, choose: str, which: int = 0) -> Trace:
    """Run it and cancel something at `position` millionths of its steps."""
    count = CancelAt(2**62, lambda: None)
    run(program, instruments=[count])
    interpreter = Interpreter(program)
    scopes: dict[str, trio.CancelScope] = {
        "manager": interpreter.surrounding,
        "everything": interpreter.everything,
        "caller": interpreter.scopes[which % len(interpreter.scopes)],
        "handler": interpreter.inner[which % len(interpreter.inner)],
    }
    cancel = CancelAt(1 + position * count.steps // 1_000_001, scopes[choose])
    trace = run(program, interpreter, [cancel])
    assert cancel.fired
    return trace


@given(program=programs(messages=MESSAGES, enabled=True), position=POSITIONS, which=st.integers(0, 20))
def test_a_caller_is_cancelled_at_any_step(program: Program, position: int, which: int) -> None:
    trace = run_cancelled(program, position, "caller", which)
    check_accounts(trace)
    check_told(trace)
    check_handlers(trace)
    check_order(trace)


@given(program=programs(messages=MESSAGES, enabled=True), position=POSITIONS, which=st.integers(0, 20))
def test_the_inside_of_a_handler_is_cancelled_at_any_step(
    program: Program, position: int, which: int
) -> None:
    trace = run_cancelled(program, position, "handler", which)
    check_accounts(trace)
    check_told(trace)
    check_order(trace)


@given(program=programs(messages=MESSAGES, enabled=True), position=POSITIONS)
def test_the_scope_around_the_manager_is_cancelled_at_any_step(program: Program, position: int) -> None:
    trace = run_cancelled(program, position, "manager")
    check_accounts(trace)
    check_told(trace)
    check_order(trace)
    check_drained(trace)


@given(program=programs(messages=MESSAGES, enabled=True), position=POSITIONS)
def test_callers_and_manager_are_cancelled_together_at_any_step(program: Program, position: int) -> None:
    trace = run_cancelled(program, position, "everything")
    assert trace.final is not None
    trace.final.check()
    assert trace.final.waiting == trace.final.running == trace.final.retrying == trace.final.senders == 0
    accepted = [event.turn_id for event in trace.told(events.Accepted)]
    assert sorted(event.turn_id for event in trace.told(events.Ended)) == accepted
    check_order(trace)


# Many callers of few slots, all cancelled by the program itself at times that coincide.
EAGER = sends(
    until=8,
    behaviours=(Behaviour.REPLY, Behaviour.HANG, Behaviour.CLEANUP, Behaviour.IGNORE),
    hows=(How.ASK,),
    takes=st.sampled_from([TICK, 4 * TICK, 1.0]),
    ids=False,
    patience=False,
)


@given(
    program=programs(messages=EAGER, least=6, most=16, enabled=True, limit=st.integers(1, 3), **ROOMY),
    position=POSITIONS,
)
def test_many_callers_are_cancelled_together_at_any_step(program: Program, position: int) -> None:
    count = CancelAt(2**62, lambda: None)
    run(program, instruments=[count])
    interpreter = Interpreter(program)

    def cancel_all() -> None:
        for scope in interpreter.scopes:
            scope.cancel()

    trace = run(program, interpreter, [CancelAt(1 + position * count.steps // 1_000_001, cancel_all)])
    check_accounts(trace)
    check_told(trace)
    check_handlers(trace)


def test_a_sender_that_gives_up_lets_the_next_one_in() -> None:
    """The first of two senders has no room for its conversation; the second one could start at once."""
    operations = (
        Send(0.0, "a", takes=4.0),
        Send(0.25, "a"),  # waits behind it: the queue is full now, and one slot is free
        Send(0.5, "a"),
        Send(0.75, "b"),
        Cancel(1.0, 2),
    )
    config = ccm.Config(limit=2, queue_limit=1, overflow=ccm.Overflow.WAIT, debug=True)
    trace = run(Program(operations, config))
    assert trace.results[2] == ABANDONED
    assert [step.at for step in trace.attempts(3)] == [1.0]
