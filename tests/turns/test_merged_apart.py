"""Messages that share a turn keep what is their own: when they expire, and that they can be taken back."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ccm import NORMAL, Cancelled, Change, Expired, Merged, Replied, RetryPolicy, Turn, events
from tests.manager.kit import Recorder, opened, say, simulated, takes

PATIENT: dict[str, Any] = {"drain": 1000, "timeout": 500, "on_busy": "merge", "debug": True}


# -- expiry ----------------------------------------------------------------------------------------------


@simulated
async def test_a_message_that_joins_waits_its_own_time() -> None:
    """The turn's first message expires at 10; the one that came at 4 is answered at 12."""
    handler = Recorder(takes(12))
    async with opened(handler, max_wait={NORMAL: 10}, **PATIENT) as manager:
        manager.submit_nowait(say("runs"))
        first = manager.submit_nowait(say("first"))
        await trio.sleep_until(4)
        second = manager.submit_nowait(say("second"))
        assert await first.outcome() == Expired()
        assert trio.current_time() == 10
        outcome = await second.outcome()
        assert isinstance(outcome, Replied)
        assert outcome.reply.text == "re: second"
    assert handler.starts == [(0, "runs"), (12, "second")]


@simulated
async def test_an_impatient_message_leaves_the_turn_that_it_joined() -> None:
    handler = Recorder(takes(12))
    async with opened(handler, **PATIENT) as manager:
        manager.submit_nowait(say("runs"))
        first = manager.submit_nowait(say("first"))
        hasty = manager.submit_nowait(say("hasty", deadline=3.0))
        last = manager.submit_nowait(say("last", deadline=20.0))
        assert await hasty.outcome() == Expired()
        assert trio.current_time() == 3
        assert manager.statistics().waiting == 2
        # The turn runs from 12 to 24: while one of its messages wants the answer, all of them get it.
        assert (await last.outcome()).name == "merged"
        assert (await first.outcome()).name == "replied"
    assert handler.starts == [(0, "runs"), (12, "first\nlast")]


@simulated
async def test_who_takes_over_a_turn_waits_for_the_others_too() -> None:
    """The first expires at 2, the last at 6, the second at 14 if need be; the third never."""
    handler = Recorder(takes(12))
    async with opened(handler, **PATIENT) as manager:
        manager.submit_nowait(say("runs"))
        deadlines = (2.0, 14.0, None, 6.0)
        receipts = [manager.submit_nowait(say(f"{d}", deadline=d)) for d in deadlines]
        for receipt, at in ((receipts[0], 2), (receipts[3], 6)):
            assert await receipt.outcome() == Expired()
            assert trio.current_time() == at
        assert [(await receipt.outcome()).name for receipt in receipts[1:3]] == ["replied", "merged"]
        assert trio.current_time() == 24
    assert handler.ends == [(12, "runs", "returned"), (24, "14.0\nNone", "returned")]


@simulated
async def test_an_answer_that_nobody_can_use_any_more_is_not_waited_for() -> None:
    handler = Recorder(takes(12))
    async with opened(handler, settle=1, **PATIENT) as manager:
        receipts = [manager.submit_nowait(say(f"{n}", deadline=n)) for n in (4.0, 9.0, 6.0)]
        assert [(await receipt.outcome()).name for receipt in receipts] == ["expired"] * 3
        assert trio.current_time() == 9
    assert handler.ends == [(9, "4.0\n9.0\n6.0", "cancelled")]


@simulated
async def test_all_that_expire_together_share_one_fallback() -> None:
    asked: list[str] = []

    async def excuse(turn: Turn) -> str:
        asked.append(turn.text)
        return "sorry"

    async with opened(takes(12), fallback=excuse, max_wait={NORMAL: 5}, **PATIENT) as manager:
        manager.submit_nowait(say("runs"))
        receipts = [manager.submit_nowait(say(text)) for text in "ab"]
        late = manager.submit_nowait(say("c", deadline=2.0))
        assert [(await receipt.outcome()).name for receipt in receipts] == ["replied", "merged"]
        assert trio.current_time() == 5
        assert await late.outcome() == Expired()  # past its own deadline nothing is of use, at 2
    assert asked == ["a\nb"]


@simulated
async def test_a_turn_that_is_tried_again_waits_for_the_most_patient_of_its_messages() -> None:
    async def fails(turn: Turn) -> None:
        raise ConnectionError

    retry = RetryPolicy(attempts=2, base=0, cap=0)
    async with opened(fails, settle=1, retry=retry, **PATIENT) as manager:
        receipts = [manager.submit_nowait(say(f"{n}", deadline=n)) for n in (2.0, 5.0)]
        outcomes = [await receipt.outcome() for receipt in receipts]
    assert [outcome.name for outcome in outcomes] == ["failed", "failed"]


# -- taken back after the answer -------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["ab", "ba"])
@simulated
async def test_the_reply_stays_as_long_as_one_of_its_messages_does(order: str) -> None:
    said: list[str] = []

    async def reply(turn: Turn) -> str:
        said[:] = [entry.text for entry in await turn.history()]
        await trio.sleep(1)
        return f"re: {turn.text}"

    async with opened(reply, settle=1, **PATIENT) as manager, manager.events(1000) as stream:
        receipts = {id: manager.submit_nowait(say(id, id=id)) for id in "ab"}
        assert isinstance(await receipts["b"].outcome(), Merged)
        assert await manager.retract(order[0]) is Change.WITHDRAWN
        await manager.ask(say("what is left?"))
        assert said == [order[1], "re: a\nb", "what is left?"]
        assert await manager.retract(order[1]) is Change.RETRACTED
        await manager.ask(say("and now?"))
        assert said == ["what is left?", "re: what is left?", "and now?"]
        told = []
        with trio.move_on_after(0.1):
            async for event in stream:
                if isinstance(event, events.Retracted):
                    told.append((event.turn_id, event.message_id))
    assert told == [(receipts["a"].turn_id, order[1])]


@simulated
async def test_a_message_that_was_withdrawn_before_does_not_hold_the_reply() -> None:
    async with opened(takes(2), settle=1, **PATIENT) as manager:
        receipts = {id: manager.submit_nowait(say(id, id=id)) for id in "ab"}
        await trio.sleep_until(2)
        assert await manager.retract("a") is Change.WITHDRAWN
        assert await receipts["a"].outcome() == Cancelled("retract")
        assert isinstance(await receipts["b"].outcome(), Merged)
        assert await manager.retract("b") is Change.RETRACTED
