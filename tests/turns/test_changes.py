"""`edit`, `retract` and `stop`, wherever the message is."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ccm import (
    Cancelled,
    Change,
    ConversationManager,
    Merged,
    OnBusy,
    Permanent,
    Replied,
    RetryPolicy,
    Router,
    Stopped,
    Turn,
    events,
)
from ccm._bus import EventStream
from tests.manager.kit import Recorder, opened, say, simulated, takes

PATIENT: dict[str, Any] = {"drain": 1000, "timeout": 500}
LATER = RetryPolicy(attempts=3, base=100, cap=100)


async def fails_first(turn: Turn) -> str:
    if turn.attempt == 1 and turn.text == "old":
        raise ConnectionError
    return f"re: {turn.text}"


async def reads_late(turn: Turn) -> str:
    """Reads what it was handed after two seconds, and goes on for two more."""
    await trio.sleep(2)
    seen = [turn.text]
    while True:
        try:
            seen.append(turn.steered.receive_nowait().text)
        except trio.WouldBlock:
            break
    await trio.sleep(2)
    return " ".join(seen)


async def text_of(manager: ConversationManager, id: str) -> str:
    """The reply to a message that was given its id, long after the fact."""
    record = manager._intake.find("", id)
    assert record is not None
    outcome = await record.wait()
    assert isinstance(outcome, Replied | Merged)
    return outcome.reply.text


async def retractions(stream: EventStream) -> list[events.Retracted]:
    """What the front end was told to take back."""
    found = []
    with trio.move_on_after(0.125):
        async for event in stream:
            if isinstance(event, events.Retracted):
                found.append(event)
    return found


# -- edit ------------------------------------------------------------------------------------------------


@simulated
async def test_a_waiting_message_is_replaced_in_its_place() -> None:
    handler = Recorder(takes(2))
    async with opened(handler, **PATIENT) as manager:
        for id in "abc":
            manager.submit_nowait(say(id, id=id))
        assert await manager.edit("b", "B") is Change.REPLACED
        assert await text_of(manager, "b") == "re: B"
    assert handler.starts == [(0, "a"), (2, "B"), (4, "c")]


@simulated
async def test_a_running_turn_starts_again_with_the_new_text() -> None:
    handler = Recorder(takes(2))
    async with opened(handler, **PATIENT) as manager:
        for id in "ab":
            manager.submit_nowait(say(id, id=id))
        await trio.sleep(1)
        assert await manager.edit("a", "A") is Change.RESTARTED
        assert await text_of(manager, "a") == "re: A"
        assert manager.statistics().conservation() == "2 received = 1 replied + 1 running"
    assert handler.starts == [(0, "a"), (1, "A"), (3, "b")]
    assert [turn.attempt for turn in handler.turns] == [1, 1, 1]


@simulated
async def test_a_turn_that_is_to_start_again_cleans_up_first() -> None:
    async def cleans_up(turn: Turn) -> str:
        try:
            await trio.sleep(2)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)
        return turn.text

    handler = Recorder(cleans_up)
    async with opened(handler, **PATIENT) as manager:
        manager.submit_nowait(say("a", id="a"))
        await trio.sleep(1)
        assert await manager.edit("a", "A") is Change.RESTARTED
        assert await manager.edit("a", "AA") is Change.RESTARTED  # once is enough
        assert await text_of(manager, "a") == "AA"
    assert handler.starts == [(0, "a"), (1.5, "AA")]
    assert handler.peak == 1


@simulated
async def test_a_shielded_side_effect_is_finished_before_the_new_start() -> None:
    done = []

    async def handler(turn: Turn) -> str:
        async with turn.uninterruptible():
            await trio.sleep(2)
            done.append((trio.current_time(), turn.message.text))
        return turn.text

    async with opened(handler, **PATIENT) as manager:
        manager.submit_nowait(say("a", id="a"))
        await trio.sleep(1)
        assert await manager.edit("a", "A") is Change.RESTARTED
        assert await text_of(manager, "a") == "A"
    assert done == [(2, "a"), (4, "A")]


@simulated
async def test_a_turn_in_retry_is_tried_again_with_the_new_text() -> None:
    handler = Recorder(fails_first)
    async with opened(handler, retry=RetryPolicy(attempts=2, base=1, cap=1), **PATIENT) as manager:
        manager.submit_nowait(say("old", id="a"))
        await trio.sleep(1 / 1024)
        assert await manager.edit("a", "new") is Change.REPLACED
        assert await text_of(manager, "a") == "re: new"
    assert handler.texts == ["old", "new"]


@simulated
async def test_a_message_that_joined_a_turn_is_edited_there() -> None:
    handler = Recorder(takes(2))
    async with opened(handler, on_busy="merge", **PATIENT) as manager:
        for id in "abc":
            manager.submit_nowait(say(id, id=id))
        assert await manager.edit("c", "C") is Change.REPLACED
        await trio.sleep(3)
        assert await manager.edit("b", "B") is Change.RESTARTED
        assert await manager.edit("c", "CC") is Change.RESTARTED
        assert await text_of(manager, "c") == "re: B\nCC"
    assert handler.starts[:2] == [(0, "a"), (2, "b\nC")]
    assert handler.starts[-1] == (3, "B\nCC")


@simulated
async def test_a_message_that_was_handed_over_is_edited_until_it_is_read() -> None:
    handler = Recorder(reads_late)
    async with opened(handler, on_busy="steer", **PATIENT) as manager:
        for id in "ab":
            manager.submit_nowait(say(id, id=id))
        assert await manager.edit("b", "B") is Change.REPLACED
        await trio.sleep(3)
        assert await manager.edit("b", "BB") is Change.RESTARTED
        # What it has read belongs to it, in the new start too.
        assert await text_of(manager, "b") == "a\nBB"
    assert handler.starts == [(0, "a"), (3, "a\nBB")]


@pytest.mark.parametrize("how", ["replied", "failed", "cancelled", "superseded"])
@simulated
async def test_it_is_too_late_to_edit_what_has_its_outcome(how: str) -> None:
    async def handler(turn: Turn) -> str:
        if how == "failed":
            raise Permanent
        return await takes(0 if how == "replied" or turn.text == "new" else 9)(turn) or ""

    async with opened(handler, **PATIENT) as manager:
        receipt = manager.submit_nowait(say("old", id="a"))
        await trio.sleep(1)
        if how == "cancelled":
            await manager.retract("a")
        elif how == "superseded":
            await manager.ask(say("new", on_busy=OnBusy.INTERRUPT))
        assert (await receipt.outcome()).name == how
        assert await manager.edit("a", "A") is Change.ENDED
        await manager.wait_idle()
        assert manager.statistics().outcomes[how] == 1


@pytest.mark.parametrize("why", ["caller", "superseded", "shielded", "fallback", "delivery"])
@simulated
async def test_it_is_too_late_to_edit_what_is_about_to_end(why: str) -> None:
    async def handler(turn: Turn) -> str:
        if turn.text == "new":
            return "new"
        if why == "fallback":
            raise Permanent
        if why == "shielded":
            async with turn.uninterruptible():
                await trio.sleep(2)
        if why != "delivery":
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
        return turn.text

    async def slowly(*_: object) -> str:
        await trio.sleep(2)
        return "sorry"

    async with opened(handler, fallback=slowly, deliver=slowly, **PATIENT) as manager:
        async with trio.open_nursery() as nursery:
            if why == "caller":
                nursery.start_soon(manager.ask, say("old", id="a"))
            else:
                manager.submit_nowait(say("old", id="a"))
            await trio.sleep(1)
            if why in ("superseded", "shielded"):
                manager.submit_nowait(say("new", on_busy=OnBusy.INTERRUPT))
            nursery.cancel_scope.cancel()
        assert await manager.edit("a", "A") is Change.ENDED
        record = manager._intake.find("", "a")
        assert record is not None
        assert record.message.text == "old"
        await manager.wait_idle()


@pytest.mark.parametrize(
    ("text", "error"),
    [(42, TypeError), (None, TypeError), ("a" * 32_769, ValueError), ("é" * 16_385, ValueError)],
)
@simulated
async def test_a_text_that_is_not_valid_changes_nothing(text: Any, error: type[Exception]) -> None:
    handler = Recorder(takes(2))
    async with opened(handler, **PATIENT) as manager:
        for id in "ab":
            manager.submit_nowait(say(id, id=id))
        await trio.sleep(1)
        for id in ("a", "b", "unknown"):
            with pytest.raises(error, match="text must be"):
                await manager.edit(id, text)
    assert handler.starts == [(0, "a"), (2, "b")]


@simulated
async def test_what_nobody_knows_cannot_be_changed() -> None:
    async with opened(takes(2), **PATIENT) as manager:
        manager.submit_nowait(say("a", id="a", tenant="t"))
        assert await manager.edit("a", "A") is Change.UNKNOWN
        assert await manager.retract("a") is Change.UNKNOWN
        assert await manager.edit("a", "A", tenant="t") is Change.RESTARTED
        assert await manager.stop("nowhere") == Stopped(waiting=0, running=0, stuck=0)


@simulated
async def test_a_message_without_an_id_of_its_own_is_known_while_it_lives() -> None:
    message = say("a")
    router, noted = Router(), Recorder(takes(4))
    router.route("chat")(takes(2))
    router.route("notes", answers=False, ordered=False)(noted)
    async with opened(router, **PATIENT) as manager:
        manager.submit_nowait(message)
        await trio.sleep(1)
        assert await manager.edit(message.id, "A") is Change.RESTARTED
        await trio.sleep(2.5)
        # Only the side turn still runs, and that is not what was sent.
        assert await manager.retract(message.id) is Change.UNKNOWN
    assert noted.ends == [(4, "a", "returned")]


# -- retract ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "change", "texts"),
    [
        (1, Change.CANCELLED, ["first"]),
        (3, Change.INTERRUPTED, ["first", "old"]),
        (5, Change.RETRACTED, ["first", "old"]),
    ],
)
@simulated
async def test_a_message_is_taken_back_wherever_it_is(at: float, change: Change, texts: list[str]) -> None:
    handler = Recorder(takes(2))
    async with opened(handler, **PATIENT) as manager:
        manager.submit_nowait(say("first"))
        receipt = manager.submit_nowait(say("old", id="a"))
        await trio.sleep_until(at)
        async with manager.events() as stream:
            assert await manager.retract("a") is change
            assert trio.current_time() == at
            again = Change.RETRACTED if change is Change.RETRACTED else Change.ENDED
            assert await manager.retract("a") is again
            told = [event.message_id for event in await retractions(stream)]
        outcome = await receipt.outcome()
    assert outcome.name == "replied" if change is Change.RETRACTED else outcome == Cancelled("retract")
    assert told == (["a", "a"] if change is Change.RETRACTED else [])
    assert handler.texts == texts


@simulated
async def test_retract_waits_for_the_cleanup() -> None:
    async def cleans_up(turn: Turn) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)

    async with opened(cleans_up) as manager:
        manager.submit_nowait(say(id="a"))
        await trio.sleep(1)
        assert await manager.retract("a") is Change.INTERRUPTED
        assert trio.current_time() == 1.5
        assert manager.statistics().slots_in_use == 0


@simulated
async def test_a_turn_in_retry_is_taken_back_at_once() -> None:
    handler = Recorder(fails_first)
    async with opened(handler, retry=LATER, **PATIENT) as manager:
        manager.submit_nowait(say("old", id="a"))
        await trio.sleep(1 / 1024)
        assert await manager.retract("a") is Change.CANCELLED
        assert manager.statistics().conservation() == "1 received = 1 cancelled"
    assert handler.texts == ["old"]


@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("id", ["b", "c"])
@simulated
async def test_a_turn_goes_on_without_the_message_that_was_taken_back(at: float, id: str) -> None:
    async with opened(takes(2), on_busy="merge", **PATIENT) as manager:
        receipts = {name: manager.submit_nowait(say(name, id=name)) for name in "abc"}
        await trio.sleep_until(at)
        assert await manager.retract(id) is Change.WITHDRAWN
        other = "bc".replace(id, "")
        assert await text_of(manager, other) == f"re: {other}"
        assert await receipts[id].outcome() == Cancelled("retract")


# -- stop ------------------------------------------------------------------------------------------------


@simulated
async def test_stop_ends_what_waits_and_what_runs_of_one_conversation() -> None:
    """Trap 8: all of it, and nothing starts meanwhile or afterwards."""
    handler = Recorder(takes(4))
    async with opened(handler, **PATIENT) as manager:
        receipts = [manager.submit_nowait(say(text)) for text in "abc"]
        other = manager.submit_nowait(say("other", "d"))
        await trio.sleep(1)
        assert await manager.stop("c") == Stopped(waiting=2, running=1, stuck=0)
        assert [await receipt.outcome() for receipt in receipts] == [Cancelled("stop")] * 3
        assert trio.current_time() == 1
        assert (await manager.ask(say("later"))).text == "re: later"
        assert isinstance(await other.outcome(), Replied)
    assert sorted(handler.texts) == ["a", "later", "other"]


@pytest.mark.parametrize("policy", [OnBusy.MERGE, OnBusy.STEER])
@simulated
async def test_stop_counts_and_ends_messages_that_share_a_turn(policy: OnBusy) -> None:
    handler = Recorder(takes(4))
    async with opened(handler, on_busy=policy, **PATIENT) as manager:
        receipts = [manager.submit_nowait(say(text)) for text in "abc"]
        assert await manager.stop("c") == Stopped(waiting=2, running=1, stuck=0)
        assert [await receipt.outcome() for receipt in receipts] == [Cancelled("stop")] * 3
        assert manager.statistics().conservation() == "3 received = 3 cancelled"
    assert set(handler.texts) <= {"a"}


@simulated
async def test_stop_ends_what_a_turn_in_retry_was_handed() -> None:
    async def fails(turn: Turn) -> str:
        await trio.sleep(1)
        return await fails_first(turn)

    handler = Recorder(fails)
    async with opened(handler, on_busy="steer", retry=LATER, **PATIENT) as manager:
        for text in ("old", "handed"):
            manager.submit_nowait(say(text))
        await trio.sleep(1 + 1 / 1024)
        assert manager.statistics().retrying == 1
        assert await manager.stop("c") == Stopped(waiting=2, running=0, stuck=0)
    assert handler.texts == ["old"]


@simulated
async def test_stop_does_not_wait_for_ever_for_a_turn_that_is_stuck() -> None:
    async def stuck(turn: Turn) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)

    handler = Recorder(stuck)
    async with opened(handler, **PATIENT) as manager:
        for text in "ab":
            manager.submit_nowait(say(text))
        await trio.sleep(1)
        assert await manager.stop("c") == Stopped(waiting=1, running=1, stuck=1)
        assert trio.current_time() == 2
        manager.submit_nowait(say("later"))
        await trio.sleep(1)
        assert manager.statistics().conservation() == "3 received = 1 cancelled + 1 waiting + 1 running"
    assert handler.starts == [(0, "a"), (5, "later")]


@simulated
async def test_stop_that_is_cancelled_has_stopped_all_the_same() -> None:
    async def cleans_up(turn: Turn) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)

    async with opened(cleans_up) as manager:
        for text in "ab":
            manager.submit_nowait(say(text))
        await trio.sleep(1)
        with trio.move_on_after(0.25) as scope:
            await manager.stop("c")
        assert scope.cancelled_caught
        await manager.wait_idle()
        assert trio.current_time() == 1.5
        assert manager.statistics().conservation() == "2 received = 2 cancelled"
