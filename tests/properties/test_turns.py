"""G1, G2, G10 and G11 where turns meet turns: any program of sends, edits, retracts, stops and cancels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import ccm
from ccm.testing import CancelAt

from .turn_interpreter import Interpreter, run
from .turn_programs import ENDS, Act, How, TurnProgram, sends, turn_programs
from .turn_trace import ABANDONED, CLOSED, Called, Changed, Enter, Left, Recalled, Stopping, Trace


def check_accounts(trace: Trace) -> None:
    """G1: what callers got and what was counted are the same, and each got one thing."""
    final = trace.final
    assert final is not None
    final.check()
    assert final.waiting == final.running == final.retrying == final.senders == 0
    counted = Counter({name: count for name, count in final.outcomes.items() if count})
    called = [event.call for event in trace.log if isinstance(event, Called)]
    # Whoever asked or read along does not know whether the message shared a turn.
    known = Counter(
        trace.outcomes[call].name if call in trace.receipts else trace.results[call] for call in called
    )
    unknown, answered = known.pop(ABANDONED, 0), known.pop("answered", 0)
    known.pop(CLOSED, 0)
    left = Counter(counted)
    left.subtract(known)
    assert min(left.values(), default=0) >= 0, (known, counted)
    assert left["replied"] + left["merged"] >= answered, (known, counted)
    assert answered <= left.total() <= answered + unknown, (known, counted)
    if trace.program.config.overflow != "wait":
        assert left.total() == answered + unknown, (known, counted)
    assert final.received == counted.total()


def check_order(trace: Trace) -> None:
    """G2: turns of a conversation never overlap, and no message is handled before an earlier one.

    Judged by the handlers. Fallbacks of what was shed or expired answer beside the conversation.
    """
    sent = trace.program.sends
    place = {event.call: n for n, event in enumerate(e for e in trace.log if isinstance(e, Called))}
    inside: dict[str, int] = {}
    latest: dict[str, tuple[int, set[int]]] = {}
    for event in trace.log:
        if not isinstance(event, Enter | Left) or event.degraded in ("shed", "expired"):
            continue
        key = sent[event.messages[0]].conversation
        places = [place[call] for call in event.messages]
        assert places == sorted(places)
        turn, before = latest.get(key, (0, {-1}))
        if isinstance(event, Enter):
            assert key not in inside, f"{event} overlaps turn {inside[key]}"
            inside[key] = event.turn_id
            assert turn <= event.turn_id
            late = [n for n in places if n <= max(before) and n not in before]
            assert turn == event.turn_id or not late, f"{event} was overtaken"
            # Only those whose turn was given up by its first message, between two attempts, have another.
            again = before.intersection(places)
            assert turn == event.turn_id or not again or min(before) not in again, f"{event}: twice"
        else:
            assert inside.pop(key) == event.turn_id
        latest[key] = (event.turn_id, before.union(places) if turn == event.turn_id else set(places))
    assert inside == {}


def check_streams(trace: Trace) -> None:
    """What a reader joins is the reply: nothing doubled, nothing of an attempt that does not count."""
    for call, reading in trace.readings.items():
        assert reading.text == reading.joined, trace.program.sends[call]
    texts = {turn: text for turn, text in replies(trace).items()}
    for call, reading in trace.readings.items():
        if reading.ended == "answered":
            answers = {texts[turn] for turn in texts if call in messages_of(trace, turn)}
            assert not answers or reading.joined in answers


def messages_of(trace: Trace, turn_id: int) -> set[int]:
    return {
        call for event in trace.log if isinstance(event, Enter | Left) and event.turn_id == turn_id
        for call in event.messages
    }  # fmt: skip


def replies(trace: Trace) -> dict[int, str]:
    """By turn, the reply that a receipt of one of its messages told."""
    found: dict[int, str] = {}
    for receipt, outcome in ((trace.receipts[call], outcome) for call, outcome in trace.outcomes.items()):
        if isinstance(outcome, ccm.Replied):
            found[receipt.turn_id] = outcome.reply.text
        elif isinstance(outcome, ccm.Merged):
            assert found.setdefault(outcome.into, outcome.reply.text) == outcome.reply.text
    return found


def check_edits(trace: Trace) -> None:
    """An attempt has the text that its messages have when it begins; what came too late changed nothing."""
    texts: dict[int, str] = {}
    for event in trace.log:
        if isinstance(event, Changed) and event.change in (ccm.Change.REPLACED, ccm.Change.RESTARTED):
            texts[event.call] = event.text
        elif isinstance(event, Enter):
            expected = tuple(texts.get(call, str(call)) for call in event.messages)
            assert event.texts == expected


TAKEN = (ccm.Change.CANCELLED, ccm.Change.INTERRUPTED, ccm.Change.WITHDRAWN)


def check_retractions(trace: Trace) -> None:
    """What was taken back is not handled again, is not answered, and is in nobody's history."""
    gone: set[int] = set()
    for event in trace.log:
        if isinstance(event, Changed) and event.change in TAKEN:
            gone.add(event.call)
        elif isinstance(event, Enter):
            assert not gone & set(event.messages), event
    if not trace.program.ends:
        for call in gone & trace.outcomes.keys():
            assert trace.outcomes[call].name not in ("replied", "merged"), call


def check_stops(trace: Trace) -> None:
    """Trap 8: nothing that was there when the conversation was stopped starts after that."""
    if trace.program.config.overflow == "wait":
        return  # a message may still wait at the door
    there: dict[str, set[int]] = {}
    seen: set[int] = set()
    sent = trace.program.sends
    for event in trace.log:
        if isinstance(event, Called):
            seen.add(event.call)
        elif isinstance(event, Stopping):
            stopped = {call for call in seen if sent[call].conversation == event.conversation}
            if event.result is None:
                there.setdefault(event.conversation, set()).update(stopped)
        elif isinstance(event, Enter):
            key = sent[event.messages[0]].conversation
            assert not there.get(key, set()) & set(event.messages), event


def check_history(trace: Trace) -> None:
    """G11: a turn's utterances are together, questions first; a partial one only if it was interrupted."""
    for event in trace.log:
        if not isinstance(event, Recalled):
            continue
        turns = [entry.turn_id for entry in event.history]
        groups = [turn for n, turn in enumerate(turns) if n == 0 or turns[n - 1] != turn]
        assert len(set(groups)) == len(groups), event
        assert groups == sorted(groups), event
        assert groups[-1:] == [event.turn_id]
        for turn in groups:
            roles = [entry.role for entry in event.history if entry.turn_id == turn]
            assert roles.count("assistant") <= 1
            assert "assistant" not in roles[:-1]
            assert turn != event.turn_id or "assistant" not in roles


def check_deliveries(trace: Trace) -> None:
    """A reply is delivered once for a turn, and only if somebody does not wait for it."""
    delivered = Counter(trace.delivered)
    assert max(delivered.values(), default=1) == 1
    for call in delivered:
        assert trace.program.sends[call].how is How.SUBMIT


def check(trace: Trace) -> None:
    check_accounts(trace)
    check_order(trace)
    check_streams(trace)
    check_edits(trace)
    check_retractions(trace)
    check_stops(trace)
    check_history(trace)


@given(program=turn_programs())
@settings(max_examples=3 * settings().max_examples)
def test_turns_that_meet_keep_the_laws(program: TurnProgram) -> None:
    trace = run(program)
    check(trace)
    check_deliveries(trace)


@given(program=turn_programs(ends=ENDS))
def test_so_they_do_when_it_all_ends(program: TurnProgram) -> None:
    check(run(program))


SPOKEN = sends(
    act=st.sampled_from([Act.SPEAK, Act.ADD, Act.CHANGE, Act.FAIL_ONCE, Act.FAIL, Act.READ, Act.SHIELD]),
    how=st.sampled_from([How.STREAM, How.STREAM, How.SUBMIT, How.PEEK]),
)


@given(program=turn_programs(messages=SPOKEN, queue_limit=1000, conversation_limit=20, max_sessions=1000))
def test_readers_get_the_reply_and_nothing_twice(program: TurnProgram) -> None:
    check(run(program))


POSITIONS = st.integers(0, 1_000_000)
CHOICES = st.sampled_from(["caller", "handler", "manager", "everything"])


@given(program=turn_programs(ends=ENDS), position=POSITIONS, choose=CHOICES, which=st.integers(0, 20))
@settings(max_examples=2 * settings().max_examples)
def test_anything_is_cancelled_at_any_step(
    program: TurnProgram, position: int, choose: str, which: int
) -> None:
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
    checks: list[Any] = [check_order, check_streams, check_edits, check_stops, check_history]
    if choose != "everything":
        checks.append(check_accounts)
    for one in checks:
        one(trace)
    assert trace.final is not None
    trace.final.check()
    assert trace.final.waiting == trace.final.running == trace.final.retrying == 0
