"""Handlers that never return, swallow their cancellation, shield themselves, or mix it with errors."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import Any

import outcome
import pytest
import trio

from ccm import Failed, HandlerFailed, Replied, RetryPolicy, Turn, open_manager
from ccm import _events as events

from .kit import Recorder, opened, say, simulated, takes

ONCE = RetryPolicy(attempts=1)


class OwnBase(BaseException):
    """What no handler may raise."""


# -- cancellation --------------------------------------------------------------------------------


async def stray() -> trio.Cancelled:
    """A `Cancelled` of a scope that is gone."""
    with trio.CancelScope() as scope:
        scope.cancel()
        caught = await outcome.acapture(trio.lowlevel.checkpoint)
    assert isinstance(caught, outcome.Error)
    assert isinstance(caught.error, trio.Cancelled)
    return caught.error


@simulated
async def test_a_stray_cancelled_is_a_failure_of_the_handler() -> None:
    async def act(turn: Turn) -> str:
        if turn.text == "stray":
            raise await stray()
        return "fine"

    async with opened(act, retry=ONCE) as manager:
        with pytest.raises(HandlerFailed) as caught:
            await manager.ask(say("stray"))
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert "trio.Cancelled" in str(caught.value.__cause__)
        assert isinstance(caught.value.__cause__.__cause__, trio.Cancelled)
        assert str(await manager.ask(say("good"))) == "fine"


@simulated
async def test_a_stray_cancelled_in_a_group_is_a_failure_too() -> None:
    async def act(turn: Turn) -> str:
        if turn.text == "stray":
            raise BaseExceptionGroup("mixed", [await stray(), ValueError("beside it")])
        return "fine"

    async with opened(act, retry=ONCE) as manager:
        with pytest.raises(HandlerFailed):
            await manager.ask(say("stray"))
        assert str(await manager.ask(say("good"))) == "fine"


@simulated
async def test_a_handler_that_never_returns_times_out() -> None:
    async def act(turn: Turn) -> str:
        await trio.sleep_forever()
        return ""

    async with opened(act, timeout=5, retry=ONCE) as manager:
        with pytest.raises(HandlerFailed) as caught:
            await manager.ask(say())
        assert isinstance(caught.value.__cause__, trio.TooSlowError)
        assert trio.current_time() == 5
        assert manager.statistics().slots_in_use == 0


@simulated
async def test_a_handler_that_swallows_its_cancellation_once_is_cancelled_at_its_next_checkpoint() -> None:
    async def act(turn: Turn) -> str:
        with suppress(trio.Cancelled):
            await trio.sleep_forever()
        await trio.sleep_forever()
        return ""

    handler = Recorder(act)
    async with opened(handler, timeout=5, retry=ONCE) as manager:
        with pytest.raises(HandlerFailed) as caught:
            await manager.ask(say())
        assert isinstance(caught.value.__cause__, trio.TooSlowError)
        assert trio.current_time() == 5
        assert manager.statistics().stuck == 0
    assert handler.ends == [(5, "hello", "cancelled")]


@simulated
async def test_a_late_answer_is_an_answer() -> None:
    async def act(turn: Turn) -> str:
        with suppress(trio.Cancelled):
            await trio.sleep_forever()
        return "what I have so far"

    async with opened(act, timeout=5) as manager:
        assert str(await manager.ask(say())) == "what I have so far"
        assert trio.current_time() == 5
        assert manager.statistics().routes["chat"].timeouts == 0


@simulated
async def test_nobody_gets_the_late_answer_to_a_question_that_was_withdrawn() -> None:
    async def act(turn: Turn) -> str:
        with suppress(trio.Cancelled):
            await trio.sleep_forever()
        return "too late"

    async with opened(act) as manager:
        with trio.move_on_after(1):
            await manager.ask(say())
        await manager.wait_idle()
        assert manager.statistics().conservation() == "1 received = 1 cancelled"


@simulated
async def test_an_error_while_being_timed_out_is_kept_as_the_cause() -> None:
    async def act(turn: Turn) -> str:
        try:
            await trio.sleep_forever()
        finally:
            raise ConnectionError("while closing")

    async with opened(act, timeout=5, retry=ONCE) as manager:
        with pytest.raises(HandlerFailed) as caught:
            await manager.ask(say())
        assert isinstance(caught.value.__cause__, (ConnectionError, trio.TooSlowError))
        assert trio.current_time() == 5


def swallows(seconds: float, *, shielded: bool) -> Recorder:
    """A handler whose turns named "bad" go on for so long after they were told to end."""

    async def act(turn: Turn) -> str:
        if turn.text != "bad":
            return "fine"
        end = trio.current_time() + 2 + seconds
        if shielded:
            with trio.CancelScope(shield=True):
                await trio.sleep_until(end)
            return ""
        with trio.CancelScope() as scope:
            try:
                await trio.sleep_until(end)
            finally:
                # Like a library that waits for its thread.
                with trio.CancelScope(shield=True):
                    await trio.sleep_until(end)
        return str(scope.cancelled_caught)

    return Recorder(act)


@pytest.mark.parametrize("shielded", [False, True], ids=["swallows", "shields itself"])
def test_a_handler_that_will_not_end_is_reported(shielded: bool, caplog: pytest.LogCaptureFixture) -> None:
    @simulated
    async def program() -> None:
        handler = swallows(8, shielded=shielded)
        settings: dict[str, Any] = {"timeout": 2, "retry": ONCE, "limit": 1}
        async with opened(handler, **settings) as manager, manager.events() as stream:
            bad = manager.submit_nowait(say("bad", "a"))
            same = manager.submit_nowait(say("behind it", "a"))
            other = manager.submit_nowait(say("other", "b"))
            await trio.sleep(2.5)
            assert manager.statistics().stuck == 0
            await trio.sleep(1)
            statistics = manager.statistics()
            assert (statistics.stuck, statistics.running, statistics.waiting) == (1, 1, 2)
            await trio.sleep(6)
            assert handler.texts == ["bad"], "its slot and its conversation stay taken: law G2, G3"
            await manager.wait_idle()
            assert trio.current_time() == 10
            for receipt in (same, other):
                assert isinstance(await receipt.outcome(), Replied)
            assert (await bad.outcome()).name in ("failed", "replied")
            assert manager.statistics().stuck == 1
            found = []
            async for event in stream:
                if isinstance(event, events.Stuck):
                    found.append(event)
                if isinstance(event, events.Ended) and event.turn_id == other.turn_id:
                    break
            (stuck,) = found
            assert stuck == events.Stuck(3, bad.turn_id, "a", "chat", 3, by="timeout", where=stuck.where)
            assert re.search(r"swallows\.<locals>\.act \(test_stubborn_handlers\.py:\d+\)", stuck.where)
            assert "turn.in_thread" in stuck.advice
        assert handler.peak == 1

    caplog.set_level(logging.WARNING, "ccm")
    program()
    records = [record for record in caplog.records if record.name == "ccm"]
    assert len(records) == 3, "one for each of the three runs"
    assert all(r.levelno == logging.WARNING for r in records)
    text = records[0].getMessage()
    assert "of route 'chat' does not end: told to (timeout) 1 s ago, it waits in " in text
    assert "test_stubborn_handlers.py" in text
    assert "turn.in_thread" in text


# -- groups of exceptions ------------------------------------------------------------------------


async def raises_in_child(error: BaseException, after: float) -> None:
    if after:
        await trio.sleep(after)
    raise error


@simulated
async def test_a_group_from_a_nursery_in_the_handler_is_one_failure() -> None:
    async def act(turn: Turn) -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raises_in_child, ValueError("one"), 0)
            nursery.start_soon(raises_in_child, KeyError("two"), 0)
        return ""

    async with opened(act, retry=ONCE) as manager:
        with pytest.raises(HandlerFailed) as caught:
            await manager.ask(say())
        group = caught.value.__cause__
        assert isinstance(group, ExceptionGroup)
        assert {type(error) for error in group.exceptions} == {ValueError, KeyError}


@simulated
async def test_a_group_is_retried_like_any_error() -> None:
    async def act(turn: Turn) -> str:
        async with trio.open_nursery() as nursery:
            if turn.attempt == 1:
                nursery.start_soon(raises_in_child, ValueError("one"), 1)
        return "fine"

    async with opened(act, retry=RetryPolicy(attempts=2, base=0)) as manager:
        assert str(await manager.ask(say())) == "fine"


@simulated
async def test_a_group_with_a_base_exception_ends_the_manager() -> None:
    async def handler(turn: Turn) -> str:
        raise BaseExceptionGroup("both", [ValueError("one"), OwnBase("two")])

    async def program() -> None:
        async with open_manager(handler) as manager:
            await manager.submit(say())
            await trio.sleep_forever()

    with pytest.RaisesGroup(ValueError, OwnBase):
        await program()


@pytest.mark.parametrize("by", ["timeout", "caller", "drain"])
@simulated
async def test_a_group_mixed_with_the_cancellation_is_sorted_out(by: str) -> None:
    """A child fails in its cleanup while its siblings are cancelled."""

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ConnectionError("while closing")

    async def act(turn: Turn) -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
        return ""

    handler = Recorder(act)
    seconds = 2 if by == "timeout" else 100
    async with opened(handler, timeout=seconds, retry=ONCE, drain=2, limit=1) as manager:
        if by == "caller":
            with trio.move_on_after(2):
                await manager.ask(say())
        else:
            receipt = await manager.submit(say())
            if by == "timeout":
                await receipt.outcome()
        if by != "drain":
            await manager.wait_idle()
            assert trio.current_time() == 2
    outcomes = {name: count for name, count in manager.statistics().outcomes.items() if count}
    assert outcomes == {"failed" if by == "timeout" else "cancelled": 1}
    if by == "timeout":
        outcome = await receipt.outcome()
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.exception, (trio.TooSlowError, ExceptionGroup))
    assert len(handler.starts) == 1


@simulated
async def test_a_nursery_in_the_handler_is_cancelled_with_it() -> None:
    ended: list[float] = []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async def act(turn: Turn) -> str:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(child)
        return ""

    async with opened(act, timeout=4, retry=ONCE) as manager:
        await (await manager.submit(say())).outcome()
    assert ended == [4, 4, 4]


@simulated
async def test_cancel_scopes_of_the_handler_are_its_own_business() -> None:
    async def act(turn: Turn) -> str:
        with trio.move_on_after(1) as scope:
            await trio.sleep_forever()
        return f"caught {scope.cancelled_caught}"

    async with opened(act) as manager:
        assert str(await manager.ask(say())) == "caught True"
        assert trio.current_time() == 1


@simulated
async def test_a_handler_that_asks_its_own_conversation_is_stopped_by_its_time_out() -> None:
    """It waits for a turn that cannot start before its own is over."""

    async def act(turn: Turn) -> str:
        if turn.text == "asks itself":
            await manager.ask(say("inner"))
        return "fine"

    async with opened(act, timeout=3, retry=ONCE) as manager:
        with pytest.raises(HandlerFailed):
            await manager.ask(say("asks itself"))
        assert trio.current_time() == 3
        assert str(await manager.ask(say("next"))) == "fine"
        assert manager.statistics().conservation() == "3 received = 1 replied + 1 cancelled + 1 failed"


@simulated
async def test_a_handler_may_ask_another_conversation() -> None:
    async def act(turn: Turn) -> str:
        if turn.text == "asks":
            return str(await manager.ask(say("inner", "other")))
        return await takes(1)(turn) or ""

    async with opened(act) as manager:
        assert str(await manager.ask(say("asks"))) == "re: inner"
