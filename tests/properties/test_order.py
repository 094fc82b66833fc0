"""G2: turns of a conversation start in the order in which their messages arrived, and never overlap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from .interpreter import Trace, run
from .programs import Behaviour, Collapse, Leave, Program, programs, sends, ticks

ENDS = st.builds(Leave, ticks(0, 256)) | st.builds(Collapse, ticks(0, 256))


def check_order(trace: Trace) -> None:
    """Judged by the handlers: who was in them, one after the other, for each conversation."""
    arrival = {call: place for place, call in enumerate(trace.calls)}
    sends = trace.program.sends
    inside: dict[str, int] = {}
    latest: dict[str, int] = {}
    for step in trace.steps:
        key = sends[step.call].conversation
        if step.kind == "leave":
            assert inside.pop(key) == step.call
            continue
        assert key not in inside, f"{step} overlaps call {inside[key]}"
        inside[key] = step.call
        # Equal for a retry: between two attempts of a turn no other turn of its conversation starts.
        assert arrival[step.call] >= latest.get(key, -1), f"{step} was overtaken"
        latest[key] = arrival[step.call]
    assert inside == {}


@given(program=programs(messages=sends(conversations="ab"), ends=ENDS, enabled=True))
def test_conversations_keep_their_order(program: Program) -> None:
    check_order(run(program))


TROUBLED = sends(
    conversations="ab",
    behaviours=(Behaviour.FAIL, Behaviour.FAIL_ONCE, Behaviour.BUSY, Behaviour.IGNORE, Behaviour.CLEANUP),
    ids=False,
    patience=False,
)


@given(program=programs(messages=TROUBLED, enabled=True, queue_limit=1000, max_wait={}))
def test_a_turn_that_is_tried_again_keeps_its_place(program: Program) -> None:
    check_order(run(program))


@given(program=programs(messages=sends(conversations="ab"), enabled=True, preempt=True, limit=1, headroom={}))
def test_a_turn_that_gave_its_slot_away_keeps_its_place(program: Program) -> None:
    check_order(run(program))
