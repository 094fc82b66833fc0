"""A manager with a storage: what is accepted, told, kept, and taken up again; on virtual time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import ccm
from ccm import (
    ConversationManager,
    Message,
    Overflow,
    Turn,
)
from tests.faults.disk import Disk
from tests.manager.kit import say, simulated

from .durable_kit import Slow, echo, kept, leave

# -- accepted, told ----------------------------------------------------------------------------------------


@simulated
async def test_accepted_is_said_when_it_is_written() -> None:
    disk = Slow()
    async with kept(echo, disk) as manager:
        receipt = await manager.submit(say("a"))
        assert trio.current_time() == 1.0
        assert receipt.turn_id in disk.inbox


@simulated
async def test_an_outcome_is_told_when_it_is_written() -> None:
    disk = Slow()
    async with kept(echo, disk) as manager:
        assert str(await manager.ask(say("a"))) == "re a"
        assert trio.current_time() == 2.5
        assert [(turn.outcome, turn.seq) for turn in disk.turns.values()] == [("replied", 1)]
        assert not disk.inbox
        assert not disk.outbox  # somebody waited for it


@simulated
async def test_messages_start_in_the_order_in_which_they_were_handed_in() -> None:
    started: list[str] = []

    async def handler(turn: Turn) -> None:
        started.append(turn.text)

    async with kept(handler, Slow(), limit=1) as manager, trio.open_nursery() as nursery:

        async def send(text: str) -> None:
            await trio.sleep(int(text) / 64)
            await manager.submit(say(text))

        for number in reversed(range(10)):
            nursery.start_soon(send, str(number))
    assert started == [str(number) for number in range(10)]


@simulated
async def test_submit_nowait_would_have_to_wait() -> None:
    async with kept(echo, Disk("d")) as manager:
        with pytest.raises(trio.WouldBlock):
            manager.submit_nowait(say("a"))
        assert manager.statistics().received == 0


@pytest.mark.parametrize(
    ("message", "error", "text"),
    [
        (say("a", metadata={"a": object()}), TypeError, "metadata must be made of JSON's types"),
        (say("a", conversation="a\0b"), ValueError, "conversation must not contain NUL"),
        (say("a", user="a\ud800"), ValueError, "user must be valid Unicode"),
    ],
)
@simulated
async def test_what_cannot_be_stored_is_refused(message: Message, error: type, text: str) -> None:
    disk = Disk("d")
    async with kept(echo, disk) as manager:
        with pytest.raises(error, match=text):
            await manager.submit(message)
        assert manager.statistics().received == 0
    assert disk.seq == 0


# -- bounds ------------------------------------------------------------------------------------------------


@simulated
async def test_what_is_on_its_way_counts_for_the_bounds() -> None:
    disk = Slow()
    outcomes: list[str] = []

    async def send(manager: ConversationManager, number: int, conversation: str) -> None:
        try:
            await manager.submit(say(str(number), conversation=conversation))
            outcomes.append("accepted")
        except ccm.Rejected as rejected:
            outcomes.append(rejected.reason.value)

    for settings, key, expected in (
        ({"limit": 1, "queue_limit": 2}, "c{}", {"accepted": 3, "overloaded": 3}),
        ({"conversation_limit": 2}, "c", {"accepted": 3, "conversation_full": 3}),
        ({"max_sessions": 4}, "c{}", {"accepted": 4, "too_many_sessions": 2}),
        ({"on_busy": "reject"}, "c", {"accepted": 1, "busy": 5}),
        ({"tenant": {"queue_share": 0.5}, "limit": 1, "queue_limit": 4}, "c{}",
         {"accepted": 3, "queue_share": 3}),
    ):  # fmt: skip
        outcomes.clear()
        async with kept(echo, disk, **settings) as manager:
            async with trio.open_nursery() as nursery:
                for number in range(6):
                    nursery.start_soon(send, manager, number, key.format(number))
            statistics = manager.statistics()
            assert statistics.waiting <= 5
        assert {what: outcomes.count(what) for what in outcomes} == expected, settings


@simulated
async def test_senders_wait_for_room_and_are_written_in_their_order() -> None:
    disk = Slow()
    async with kept(echo, disk, limit=1, queue_limit=1, overflow=Overflow.WAIT) as manager:
        async with trio.open_nursery() as nursery:

            async def send(number: int) -> None:
                await trio.sleep(number / 64)
                await manager.submit(say(str(number), conversation=f"c{number}"))

            for number in range(5):
                nursery.start_soon(send, number)
        await manager.wait_idle()
    texts = [settle.said[0].text for _, settle in sorted(disk.turns.items())]
    assert texts == ["0", "1", "2", "3", "4"]


@simulated
async def test_a_more_urgent_message_takes_the_place_of_another() -> None:
    disk = Slow()
    async with kept(echo, disk, limit=1, queue_limit=1, overflow=Overflow.SHED_LOWEST) as manager:
        await manager.submit(say("a", conversation="a"))
        low = await manager.submit(say("b", conversation="b", priority=ccm.LOW))
        with trio.move_on_after(0.25):
            await manager.submit(say("c", conversation="c", priority=ccm.HIGH))
        assert (await low.outcome()).name in ("shed", "replied")


# -- cancelled ---------------------------------------------------------------------------------------------


@simulated
async def test_a_sender_that_is_cancelled_before_its_message_is_written() -> None:
    disk = Slow()
    async with kept(echo, disk) as manager, trio.open_nursery() as nursery:
        nursery.start_soon(manager.submit, say("a", conversation="a"))
        await trio.sleep(0.5)  # the first commit is under way
        with trio.move_on_after(0.25) as scope:
            await manager.submit(say("b", conversation="b"))
        assert scope.cancelled_caught
        assert trio.current_time() == 0.75
        inbox: Any = manager._intake.inbox
        assert inbox.on_its_way == 1
        inbox._reserved._check()
    assert [settle.said[0].text for settle in disk.turns.values()] == ["a"]


@simulated
async def test_a_sender_that_is_cancelled_while_its_message_is_written_gets_its_receipt() -> None:
    disk = Slow()
    async with kept(echo, disk) as manager:
        with trio.move_on_after(0.5) as scope:
            receipt = await manager.submit(say("a"))
        assert scope.cancel_called
        assert not scope.cancelled_caught
        assert receipt.turn_id in disk.inbox


@simulated
async def test_asking_and_giving_up_while_it_is_written_cancels_the_turn() -> None:
    disk = Slow()
    async with kept(echo, disk) as manager:
        with trio.move_on_after(0.5) as scope:
            await manager.ask(say("a"))
        assert scope.cancelled_caught
        assert trio.current_time() == 1.0
        await manager.wait_idle()
    assert [settle.outcome for settle in disk.turns.values()] == ["cancelled"]
    assert not disk.inbox


# -- the end, and a new beginning --------------------------------------------------------------------------


@simulated
async def test_what_is_not_answered_in_time_stays_in_the_storage() -> None:
    disk = Disk("d")

    async def never(turn: Turn) -> None:
        await trio.sleep_forever()

    async with kept(never, disk, drain=1, limit=1) as manager:
        receipts = [await manager.submit(say(text, conversation=text)) for text in "ab"]
    assert [(await receipt.outcome()).name for receipt in receipts] == ["cancelled", "cancelled"]
    assert sorted(disk.inbox) == [1, 2]
    assert not disk.turns


@simulated
async def test_whoever_was_told_that_it_was_cancelled_is_not_answered_later() -> None:
    disk = Disk("d")

    async def never(turn: Turn) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery, kept(never, disk, drain=1) as manager:

        async def ask() -> None:
            with pytest.raises(ccm.TurnCancelled):
                await manager.ask(say("a"))

        nursery.start_soon(ask)
        await trio.sleep(0.5)
    assert not disk.inbox
    assert [settle.outcome for settle in disk.turns.values()] == ["cancelled"]


@simulated
async def test_messages_from_before_come_first_and_say_so() -> None:
    disk, seen = Disk("d"), list[Any]()
    await leave(disk, *(say(text) for text in "abc"))

    async def handler(turn: Turn) -> None:
        seen.append((turn.id, turn.text, turn.attempt, turn.redelivered))

    async with kept(handler, disk) as manager:
        await manager.ask(say("d"))
        assert manager.statistics().storage["recovered"] == 3
        assert manager.statistics().received == 4
    assert seen == [(1, "a", 2, True), (2, "b", 2, True), (3, "c", 2, True), (4, "d", 1, False)]


@pytest.mark.parametrize("overflow", [Overflow.REJECT_NEW, Overflow.WAIT])
@simulated
async def test_a_backlog_larger_than_the_queue_is_worked_off_before_anybody_new(overflow: Overflow) -> None:
    disk, seen = Disk("d"), list[Any]()
    await leave(disk, *(say(str(n), conversation=f"c{n}") for n in range(300)))

    async def handler(turn: Turn) -> None:
        assert manager.statistics().waiting <= 3
        seen.append(turn.text)
        await trio.sleep(1)

    async with kept(handler, disk, limit=1, queue_limit=3, overflow=overflow) as manager:
        message = say("new", conversation="c299")
        if overflow is Overflow.REJECT_NEW:
            with pytest.raises(ccm.Overloaded):
                await manager.submit(message)
            await manager.wait_idle()
        await manager.submit(message)
        await manager.wait_idle()
    assert seen == [*map(str, range(300)), "new"]


@simulated
async def test_nobody_passes_a_message_of_his_conversation_that_is_still_in_the_storage() -> None:
    disk, seen = Disk("d"), list[Any]()
    await leave(disk, *(say(key, conversation=key) for key in "abc"), say("a again", conversation="a"))

    async def handler(turn: Turn) -> None:
        seen.append(turn.text)
        await trio.sleep(1)

    # There is room in the queue, but none for the conversation c, and behind it waits one of a.
    async with kept(handler, disk, limit=1, max_sessions=2) as manager:
        with pytest.raises(ccm.Overloaded):
            await manager.submit(say("a at last", conversation="a"))
        await manager.wait_idle()
        await manager.submit(say("a at last", conversation="a"))
        await manager.wait_idle()
    assert seen == ["a", "b", "c", "a again", "a at last"]


@simulated
async def test_a_message_that_ends_the_process_again_and_again_is_given_up() -> None:
    disk = Disk("d")
    await leave(disk, say("poison", id="p"))
    for _ in range(3):
        await leave(disk, max_attempts=3)  # each is handed out, and ends before it is done
    assert disk.inbox[1].attempts == 3
    async with kept(echo, disk, max_attempts=3) as manager:
        (letter,) = manager.dead_letters()
        assert letter.text == "poison"
        assert "3 times" in letter.error
        await manager.wait_idle()
        assert not disk.inbox
        assert disk.turns[1].outcome == "failed"


@simulated
async def test_a_deadline_that_passes_between_two_lives_is_kept() -> None:
    disk = Disk("d")
    await leave(disk, say("a", deadline=5.0), say("b", deadline=50.0, conversation="d"))
    disk.start += 10
    async with kept(echo, disk) as manager:
        await manager.wait_idle()
    assert [disk.turns[seq].outcome for seq in (1, 2)] == ["expired", "replied"]


@simulated
async def test_an_edited_message_is_taken_up_as_it_was_last() -> None:
    seen: list[str] = []

    async def handler(turn: Turn) -> None:
        seen.append(turn.text)
        if turn.text == "first":
            await trio.sleep_forever()

    class Rewritable(Disk):
        def _one(self, operation: Any) -> Any:
            if isinstance(operation, ccm.storage.Rewrite) and operation.seq in self.inbox:
                stored = self.inbox[operation.seq]
                self.inbox[operation.seq] = ccm.storage.Stored(
                    seq=stored.seq, body=operation.body, at=stored.at, attempts=stored.attempts
                )
            return super()._one(operation)

    disk = Rewritable("d")
    async with kept(handler, disk, drain=0) as manager:
        await manager.submit(say("first", id="1"))
        await manager.submit(say("second", id="2"))
        await manager.edit("2", "better")
    async with kept(handler, disk, drain=0) as manager:
        await trio.sleep(1)
        await manager.retract("1")
        await manager.wait_idle()
    assert seen == ["first", "first", "better"]
