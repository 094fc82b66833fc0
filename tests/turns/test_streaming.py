"""`turn.send` and `manager.stream`: what readers get, and what they do to whom."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from ccm import (
    CRITICAL,
    LOW,
    CcmError,
    Change,
    ConversationManager,
    Draining,
    Expired,
    HandlerFailed,
    OnBusy,
    Overflow,
    Overloaded,
    Permanent,
    Replied,
    Restarted,
    RetryPolicy,
    Shed,
    Superseded,
    Turn,
    TurnCancelled,
)
from ccm.testing import simulate
from tests.manager.kit import Recorder, opened, say, simulated, takes
from tests.turns.stream_kit import PATIENT, Reader, speaks

# -- pieces ----------------------------------------------------------------------------------------------


@simulated
async def test_pieces_come_as_they_are_sent_and_are_the_reply() -> None:
    reader = Reader()
    async with opened(speaks("a", "b", "c")) as manager:
        await reader(manager, say())
        assert manager.statistics().outcomes["replied"] == 1
    assert (reader.pieces, reader.times) == (["a", "b", "c"], [1, 2, 3])
    assert reader.text == "abc"


@pytest.mark.parametrize(
    ("returns", "pieces", "restarted"),
    [
        (None, ["a", "b"], 0),
        ("ab", ["a", "b"], 0),
        ("abc", ["a", "b", "c"], 0),
        ("other", ["a", "b", "", "other"], 1),
        ("", ["a", "b", ""], 1),
    ],
)
@simulated
async def test_what_the_handler_returns_is_the_reply_in_any_case(
    returns: str | None, pieces: list[str], restarted: int
) -> None:
    reader = Reader()
    async with opened(speaks("a", "b", returns=returns)) as manager:
        await reader(manager, say())
    assert reader.pieces == pieces
    assert sum(isinstance(piece, Restarted) for piece in reader.pieces) == restarted
    assert reader.text == ("ab" if returns is None else returns)


@simulated
async def test_a_handler_that_sends_nothing_is_read_in_one_piece() -> None:
    reader = Reader()
    async with opened(takes(2)) as manager:
        await reader(manager, say())
    assert (reader.pieces, reader.times) == (["re: hello"], [2])


@simulated
async def test_without_a_reader_pieces_are_the_reply() -> None:
    async with opened(speaks("a", "b")) as manager:
        assert (await manager.ask(say())).text == "ab"


@simulated
async def test_only_strings_are_sent() -> None:
    async def handler(turn: Turn) -> None:
        with pytest.raises(TypeError, match="text must be a str, got 42"):
            await turn.send(42)  # type: ignore[arg-type]
        await turn.send("fine")

    async with opened(handler) as manager:
        assert (await manager.ask(say())).text == "fine"


@simulated
async def test_a_turn_that_is_over_sends_nothing() -> None:
    turns: list[Turn] = []

    async def handler(turn: Turn) -> None:
        turns.append(turn)

    async with opened(handler) as manager:
        await manager.ask(say())
        with pytest.raises(RuntimeError, match="over"):
            await turns[0].send("late")


# -- back-pressure ---------------------------------------------------------------------------------------


@simulated
async def test_the_handler_waits_for_its_reader_and_for_nobody_elses() -> None:
    slow, quick = Reader(pause=5), Reader()
    handler = Recorder(speaks("a", "b", "c"))
    async with opened(handler, limit=2, headroom={}, **PATIENT) as manager, trio.open_nursery() as nursery:
        nursery.start_soon(slow, manager, say("slow", "x"))
        nursery.start_soon(quick, manager, say("quick", "y"))
    assert (slow.times, quick.times) == ([1, 6, 11], [1, 2, 3])
    assert sorted(handler.ends) == [(3, "quick", "returned"), (11, "slow", "returned")]


@simulated
async def test_a_reader_that_leaves_cancels_the_turn() -> None:
    handler = Recorder(speaks("a", "b", "c"))
    async with opened(handler) as manager:
        await Reader(most=2)(manager, say())
        await manager.wait_idle()
        assert manager.statistics().conservation() == "1 received = 1 cancelled"
    assert handler.ends == [(2, "hello", "cancelled")]


@simulated
async def test_a_reader_that_is_cancelled_while_the_turn_waits_takes_it_along() -> None:
    handler = Recorder(takes(4))
    async with opened(handler, limit=1, headroom={}, **PATIENT) as manager:
        manager.submit_nowait(say("runs", "x"))
        with trio.move_on_after(1):
            await Reader()(manager, say("waits"))
        assert manager.statistics().conservation() == "2 received = 1 cancelled + 1 running"
    assert handler.texts == ["runs"]


@simulated
async def test_a_handler_that_ignores_its_readers_leaving_is_not_answered_with_an_error() -> None:
    ended = []

    async def handler(turn: Turn) -> None:
        with trio.CancelScope(shield=True):
            for number in range(3):
                await trio.sleep(1)
                await turn.send(str(number))
        ended.append(trio.current_time())

    async with opened(handler) as manager:
        await Reader(most=1)(manager, say())
        await manager.wait_idle()
        assert manager.statistics().conservation() == "1 received = 1 cancelled"
    assert ended == [3]


@pytest.mark.parametrize(("returns", "text"), [(None, "a"), ("abc", "abc"), ("", "")])
@simulated
async def test_a_piece_that_was_given_up_before_it_was_read_has_not_been_said(
    returns: str | None, text: str
) -> None:
    async def handler(turn: Turn) -> str | None:
        await turn.send("a")
        with trio.move_on_after(1):  # the reader is busy with the first piece
            await turn.send("b")
        return returns

    reader = Reader(pause=5)
    async with opened(handler, **PATIENT) as manager:
        await reader(manager, say())
    assert reader.text == text
    assert sum(isinstance(piece, Restarted) for piece in reader.pieces) == (returns == "")


@simulated
async def test_readers_of_a_merged_turn_all_get_its_pieces() -> None:
    readers = [Reader(), Reader(pause=2), Reader(most=1)]
    handler = Recorder(speaks("a", "b", "c"))
    async with opened(handler, on_busy="merge", settle=1, **PATIENT) as manager:
        async with trio.open_nursery() as nursery:
            for number, reader in enumerate(readers):
                nursery.start_soon(reader, manager, say(str(number)))
        assert manager.statistics().outcomes["cancelled"] == 1
    assert [reader.text for reader in readers] == ["abc", "abc", "a"]
    assert [reader.pieces for reader in readers] == [["a", "b", "c"], ["a", "b", "c"], ["a"]]
    assert len(handler.starts) == 1


@simulated
async def test_readers_of_a_merged_turn_all_get_an_answer_that_was_not_sent() -> None:
    readers = [Reader(), Reader()]
    handler = Recorder(speaks("a", returns="ab"))
    async with opened(handler, on_busy="merge", settle=1, **PATIENT) as manager:
        async with trio.open_nursery() as nursery:
            for number, reader in enumerate(readers):
                nursery.start_soon(reader, manager, say(str(number)))
        assert manager.statistics().outcomes["merged"] == 1
    assert [reader.pieces for reader in readers] == [["a", "b"], ["a", "b"]]


@simulated
async def test_a_reader_whose_message_is_read_late_gets_what_came_before() -> None:
    async def handler(turn: Turn) -> None:
        await turn.send("a")
        message = await turn.steered.receive()
        await turn.send("b")
        await turn.send(message.text)

    first, second = Reader(), Reader()
    async with opened(handler, on_busy="steer", **PATIENT) as manager, trio.open_nursery() as nursery:
        nursery.start_soon(first, manager, say("first"))
        await trio.sleep(1)
        nursery.start_soon(second, manager, say("second"))
    assert (first.pieces, second.pieces) == (["a", "b", "second"], ["a", "b", "second"])
    assert (first.times, second.times) == ([0, 1, 1], [1, 1, 1])


# -- attempts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["retry", "edit", "preempt"])
@simulated
async def test_a_new_attempt_begins_the_stream_again(why: str) -> None:
    starts = 0

    async def handler(turn: Turn) -> None:
        nonlocal starts
        if turn.text == "urgent":
            return
        starts += 1
        await turn.send(f"{starts}: ")
        await trio.sleep(2)
        if why == "retry" and turn.attempt == 1:
            raise ConnectionError
        await turn.send(turn.text)

    settings: dict[str, Any] = {"limit": 1, "headroom": {}, "preempt": True, **PATIENT}
    reader = Reader()
    retry = RetryPolicy(attempts=2, base=0)
    async with opened(handler, retry=retry, **settings) as manager, trio.open_nursery() as nursery:
        nursery.start_soon(reader, manager, say("old", id="m", priority=LOW))
        await trio.sleep(1)
        if why == "edit":
            assert await manager.edit("m", "new") is Change.RESTARTED
        elif why == "preempt":
            await manager.ask(say("urgent", "d", priority=CRITICAL))
    text = "new" if why == "edit" else "old"
    assert reader.pieces == ["1: ", "", "2: ", text]
    marker = reader.pieces[1]
    assert isinstance(marker, Restarted)
    assert marker.attempt == (2 if why == "retry" else 1)
    assert reader.text == f"2: {text}"


@simulated
async def test_an_attempt_that_had_said_nothing_is_not_told() -> None:
    async def handler(turn: Turn) -> None:
        if turn.attempt == 1:
            raise ConnectionError
        await turn.send("a")

    reader = Reader()
    async with opened(handler, retry=RetryPolicy(attempts=2, base=0)) as manager:
        await reader(manager, say())
    assert reader.pieces == ["a"]
    assert not isinstance(reader.pieces[0], Restarted)


@pytest.mark.parametrize("answer", ["all", "half of it", "half"])
@simulated
async def test_an_attempt_that_returns_its_answer_begins_the_stream_again_too(answer: str) -> None:
    async def handler(turn: Turn) -> str:
        if turn.attempt == 1:
            await turn.send("half")
        if turn.attempt < 3:
            raise ConnectionError
        return answer

    reader = Reader()
    async with opened(handler, retry=RetryPolicy(attempts=3, base=0)) as manager:
        await reader(manager, say())
    assert reader.pieces == ["half", "", answer]
    marker = reader.pieces[1]
    assert isinstance(marker, Restarted)
    assert marker.attempt == 3


@simulated
async def test_the_fallback_begins_the_stream_again() -> None:
    async def handler(turn: Turn) -> None:
        await turn.send("half")
        raise Permanent

    async def fallback(turn: Turn) -> str:
        return "sorry"

    reader = Reader()
    async with opened(handler, fallback=fallback) as manager:
        await reader(manager, say())
    assert reader.pieces == ["half", "", "sorry"]
    assert reader.text == "sorry"


@simulated
async def test_a_reader_that_was_interrupted_keeps_the_partial_text() -> None:
    reader = Reader()
    handler = speaks("a", "b", "c")
    async with opened(handler, on_busy="interrupt", **PATIENT) as manager, trio.open_nursery() as nursery:
        nursery.start_soon(reader, manager, say("old"))
        await trio.sleep(2.5)
        await manager.ask(say("new", id="n"))
    assert reader.error == Superseded("n")
    assert reader.text == "ab"


# -- streams without a reply -----------------------------------------------------------------------------


@simulated
async def test_a_stream_is_refused_on_entering() -> None:
    settings: dict[str, Any] = {"limit": 1, "headroom": {}, "queue_limit": 1, **PATIENT}
    async with opened(takes(4), **settings) as manager:
        for key in "xy":
            manager.submit_nowait(say("runs", key))
        with pytest.raises(Overloaded):
            async with manager.stream(say()):
                pytest.fail("it was entered")
        with pytest.raises(ValueError, match="text must be at most"):
            async with manager.stream(say("a" * 40_000)):
                pytest.fail("it was entered")


@pytest.mark.parametrize("why", ["expired", "shed", "failed", "stop", "retract"])
@simulated
async def test_a_stream_ends_with_what_became_of_its_message(why: str) -> None:
    async def handler(turn: Turn) -> None:
        await trio.sleep(4)
        if turn.text == "old":
            raise Permanent("no")

    settings: dict[str, Any] = {"limit": 1, "headroom": {}, "queue_limit": 1, **PATIENT}
    settings["overflow"] = Overflow.SHED_LOWEST
    if why == "expired":
        settings["max_wait"] = {LOW: 2}
    expected: dict[str, CcmError] = {"expired": Expired(), "stop": TurnCancelled("stop")}
    reader = Reader()
    async with opened(handler, **settings) as manager, trio.open_nursery() as nursery:
        manager.submit_nowait(say("runs", "x"))
        nursery.start_soon(reader, manager, say("old", id="old", priority=LOW))
        await trio.sleep(1)
        if why == "shed":
            manager.submit_nowait(say("urgent", "z", priority=CRITICAL))
        elif why == "stop":
            await manager.stop("c")
        elif why == "retract":
            await manager.retract("old")
    kinds = {"expired": Expired, "shed": Shed, "failed": HandlerFailed}
    assert type(reader.error) is kinds.get(why, TurnCancelled)
    assert why not in expected or str(reader.error) == str(expected[why])
    assert reader.pieces == []


@simulated
async def test_a_stream_waits_at_the_door_and_loses_nothing_that_was_said_meanwhile() -> None:
    settings: dict[str, Any] = {"limit": 1, "headroom": {}, "queue_limit": 1, "overflow": "wait", **PATIENT}
    reader, left = Reader(), Reader()
    async with opened(speaks("a", "b", every=0), **settings) as manager, trio.open_nursery() as nursery:
        manager.submit_nowait(say("runs", "x"))
        manager.submit_nowait(say("waits", "y"))
        nursery.start_soon(reader, manager, say())
        with trio.CancelScope() as scope:
            scope.cancel()
            await left(manager, say("never"))
    assert reader.text == "ab"
    assert (left.stream, manager.statistics().received) == (None, 3)


@simulated
async def test_a_stream_is_drained_like_any_other_turn() -> None:
    reader, cut = Reader(), Reader()
    async with trio.open_nursery() as nursery, opened(speaks("a", "b", "c"), drain=1.5) as manager:
        nursery.start_soon(reader, manager, say("1", "x"))
        await trio.sleep(1.75)
        nursery.start_soon(cut, manager, say("2", "y"))
        await trio.sleep(0.125)
        nursery.start_soon(_refused, manager)
    assert (reader.text, reader.error) == ("abc", None)
    assert cut.text == "a"
    assert isinstance(cut.error, TurnCancelled)


async def _refused(manager: ConversationManager) -> None:
    await trio.sleep(0.125)
    with pytest.raises(Draining):
        async with manager.stream(say()):
            pytest.fail("it was entered")


# -- nothing twice, whatever a handler does --------------------------------------------------------------

PIECES = st.lists(st.sampled_from(["", "a", "ab", "b"]), max_size=3)
ATTEMPTS = st.lists(
    st.tuples(PIECES, st.sampled_from(["raise", "return", "none", "more", "edit"])), min_size=1, max_size=4
)


@given(attempts=ATTEMPTS, pause=st.sampled_from([0.0, 0.5]), seed=st.integers(0, 2**32))
def test_what_comes_after_the_last_restart_is_the_reply(
    attempts: list[tuple[list[str], str]], pause: float, seed: int
) -> None:
    begun = iter(attempts)

    async def handler(turn: Turn) -> str | None:
        pieces, how = next(begun, ([], "none"))
        for piece in pieces:
            await turn.send(piece)
            await trio.sleep(0.25)
        if how == "raise":
            raise ConnectionError
        if how == "edit":
            assert await manager.edit("m", "again") is Change.RESTARTED
            await trio.sleep_forever()
        return {"return": "abab", "none": None, "more": "".join(pieces) + "!"}[how]

    manager: ConversationManager

    async def program() -> None:
        nonlocal manager
        reader = Reader(pause)
        message = say(id="m", on_busy=OnBusy.ENQUEUE)
        async with opened(handler, retry=RetryPolicy(attempts=9, base=0), **PATIENT) as manager:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reader, manager, message)
                await trio.testing.wait_all_tasks_blocked()
            record = manager._intake.find("", "m")
            assert record is not None
            outcome = record.outcome
        assert isinstance(outcome, Replied)
        last = [n for n, piece in enumerate(reader.pieces) if isinstance(piece, Restarted)]
        joined = "".join(reader.pieces[last[-1] + 1 if last else 0 :])
        assert joined == reader.text == outcome.reply.text

    simulate(program, seed=seed)
