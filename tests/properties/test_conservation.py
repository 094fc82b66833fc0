"""G1: every message gets exactly one outcome, and the statistics say so at every instant."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

import ccm
from ccm import _events as events

from .interpreter import ABANDONED, CLOSED, WOULD_BLOCK, Trace, run
from .programs import Collapse, Drain, How, Leave, Program, Send, programs, ticks

ENDS = st.builds(Drain, ticks(0, 192)) | st.builds(Leave, ticks(0, 256)) | st.builds(Collapse, ticks(0, 256))


def check_accounts(trace: Trace) -> None:
    """What callers got and what was counted are the same."""
    program, final = trace.program, trace.final
    assert final is not None
    final.check()
    assert final.waiting == final.running == final.retrying == final.senders == 0
    # Every caller got something, and exactly one thing: the tasks have ended.
    assert set(trace.calls) <= set(trace.results)
    got = Counter(trace.results[call] for call in trace.calls)
    nothing = {ABANDONED, WOULD_BLOCK, CLOSED}
    known = Counter({name: count for name, count in got.items() if name not in nothing})
    # A caller that was cancelled knows nothing, but a receipt it had does.
    known += Counter(trace.outcomes[call].name for call in trace.abandoned if call in trace.receipts)
    known += Counter("rejected" for call in trace.abandoned if call in trace.repeats)
    unknown = [
        call for call in trace.abandoned
        if call in trace.calls and call not in trace.receipts and call not in trace.repeats
    ]  # fmt: skip
    counted = Counter({name: count for name, count in final.outcomes.items() if count})
    assert not known - counted, (known, counted)
    left_over = counted - known
    if program.config.overflow != "wait":
        assert left_over.total() == len(unknown), (known, counted)
    assert left_over.total() <= len(unknown), (known, counted)
    assert final.received == counted.total()


def check_told(trace: Trace) -> None:
    """`events()` told of one beginning and one end for each turn, and no more."""
    accepted = [event.turn_id for event in trace.told(events.Accepted)]
    ended = {event.turn_id: event for event in trace.told(events.Ended)}
    assert sorted(ended) == sorted(accepted) == sorted(set(accepted))
    assert len(trace.told(events.Ended)) == len(ended)
    assert trace.final is not None
    assert trace.final.received == len(accepted) + len(trace.told(events.Refused))
    for call, receipt in trace.receipts.items():
        assert ended[receipt.turn_id].outcome == trace.outcomes[call]
        if trace.results[call] != ABANDONED:
            assert trace.results[call] == trace.outcomes[call].name


def check_handlers(trace: Trace) -> None:
    """Replied means that a handler replied; what was never accepted, no handler saw."""
    for call, result in trace.results.items():
        attempts = trace.attempts(call)
        if result == "replied":
            left = [s.how for s in trace.steps if s.call == call and s.kind == "leave"]
            assert left[-1] in ("replied", "ignored")
        if result in ("rejected", "shed", WOULD_BLOCK, CLOSED):
            assert attempts == []
        # Cancelling the caller of `ask` cancels its turn: no attempt begins after that.
        if result == ABANDONED and trace.program.sends[call].how is How.ASK:
            assert all(step.at <= trace.abandoned[call] for step in attempts)


def check_deliveries(trace: Trace) -> None:
    """A reply nobody waits for was delivered once, one that was asked for never."""
    delivered = Counter(trace.delivered)
    for call, send in enumerate(trace.program.sends):
        if send.how is How.ASK:
            assert delivered[call] == 0
        elif trace.program.deliver and call in trace.outcomes:
            assert delivered[call] == (trace.outcomes[call].name == "replied")


@given(program=programs(ends=ENDS))
def test_every_message_gets_exactly_one_outcome(program: Program) -> None:
    trace = run(program)
    check_accounts(trace)
    check_told(trace)
    check_handlers(trace)
    check_deliveries(trace)


@given(program=programs(ends=ENDS, enabled=False))
def test_so_it_does_when_nothing_is_queued(program: Program) -> None:
    trace = run(program)
    check_accounts(trace)
    check_told(trace)


def test_whoever_repeats_a_message_gets_its_outcome_too() -> None:
    """The repetition comes in the instant in which the first sender, who waited for room, is let in."""
    first = Send(0.0, "a", how=How.SUBMIT)
    waiting = Send(0.25, "b", how=How.SUBMIT)
    original = Send(0.5, "c", id="x", how=How.ASK)
    repeated = Send(1.0, "c", id="x", how=How.ASK)
    config = ccm.Config(limit=1, queue_limit=1, overflow=ccm.Overflow.WAIT, debug=True)
    results = set()
    for seed in range(20):
        trace = run(Program((first, waiting, original, repeated), config, seed))
        results.add(tuple(trace.results.values()))
        check_accounts(trace)
    # Whether the repetition comes before or after is up to the schedule; both must be met.
    assert len(results) == 2
