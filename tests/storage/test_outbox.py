"""A manager with a storage: replies, repetitions, failures, turns that meet; on virtual time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import ccm
from ccm import (
    Message,
    OnBusy,
    Reply,
    RetryPolicy,
    Router,
    Turn,
    events,
)
from ccm.events import AlertCleared, AlertRaised
from ccm.storage import Operation, Settle
from tests.faults.disk import Disk
from tests.manager.kit import say, simulated

from .durable_kit import ONCE, Slow, echo, kept

# -- replies -----------------------------------------------------------------------------------------------


@simulated
async def test_replies_are_delivered_in_order_and_tried_again() -> None:
    disk, got = Disk("d"), list[Any]()
    failures = {"re b": 2, "re d": 1}

    async def deliver(reply: Reply, message: Message) -> None:
        if failures.get(reply.text, 0):
            failures[reply.text] -= 1
            raise ConnectionError
        got.append((reply.turn_id, reply.text, message.text))

    async with kept(echo, disk, deliver) as manager:
        for text in "abcd":
            await manager.submit(say(text))
        await manager.wait_idle()
        assert manager.statistics().storage["delivery_retries"] == 3
        assert manager.statistics().storage["delivered"] == 4
    assert got == [(n + 1, f"re {text}", text) for n, text in enumerate("abcd")]
    assert not disk.outbox


@simulated
async def test_a_reply_that_cannot_be_delivered_becomes_a_dead_letter_and_the_next_one_follows() -> None:
    disk, got = Disk("d"), list[Any]()

    async def deliver(reply: Reply, message: Message) -> None:
        if reply.text == "re a":
            raise ConnectionError("gone")
        got.append(reply.text)

    async with kept(echo, disk, deliver, delivery_retry=RetryPolicy(attempts=3, base=1, cap=1)) as manager:
        receipt = await manager.submit(say("a"))
        await manager.submit(say("b"))
        await manager.wait_idle()
        assert (await receipt.outcome()).name == "replied"
        (letter,) = manager.dead_letters()
        assert (letter.route, letter.attempts, letter.text) == ("(delivery)", 3, "a")
    assert got == ["re b"]
    assert [letter.route for letter in disk.kept.values()] == ["(delivery)"]


@simulated
async def test_replies_from_before_are_delivered_once_more_with_the_same_number() -> None:
    disk, got = Disk("d"), list[Any]()

    async def never(reply: Reply, message: Message) -> None:
        await trio.sleep_forever()

    async def deliver(reply: Reply, message: Message) -> None:
        got.append((reply.turn_id, reply.text))

    async with kept(echo, disk, never, drain=2) as manager:
        await manager.submit(say("a"))
        await manager.submit(say("b", conversation="d"))
    assert sorted(disk.outbox) == [1, 2]
    async with kept(echo, disk, deliver) as manager:
        await manager.wait_idle()
    assert sorted(got) == [(1, "re a"), (2, "re b")]


@simulated
async def test_more_replies_than_fit_are_read_from_the_storage_later() -> None:
    disk, got = Disk("d"), list[Any]()

    async def quick(turn: Turn) -> str:
        return turn.text

    async def deliver(reply: Reply, message: Message) -> None:
        await trio.sleep(0.25)
        got.append((message.conversation, int(reply.text)))

    async with kept(quick, disk, deliver, conversation_limit=1000, queue_limit=10_000, drain=1e5) as manager:
        manager._dispatcher.books.tools.durable.courier.box._limit = 10  # type: ignore[union-attr]
        for number in range(200):
            await manager.submit(say(str(number), conversation=f"c{number % 5}"))
        await manager.wait_idle()
        manager._dispatcher.books.tools.durable.courier.box._check()  # type: ignore[union-attr]
    assert sorted(number for _, number in got) == [*range(200)]
    for key in {key for key, _ in got}:
        numbers = [number for conversation, number in got if conversation == key]
        assert numbers == sorted(numbers)


# -- repetitions -------------------------------------------------------------------------------------------


@simulated
async def test_a_repeated_message_gets_the_receipt_of_the_first() -> None:
    disk = Slow()
    async with kept(echo, disk) as manager:
        receipts: list[Any] = []

        async def send() -> None:
            try:
                receipts.append(await manager.submit(say("a", id="x")))
            except ccm.Duplicate as repeated:
                receipts.append(repeated.receipt)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(send)
        assert [receipt.turn_id for receipt in receipts] == [1, 1, 1]
        assert {str((await receipt.outcome()).reply) for receipt in receipts} == {"re a"}
        assert manager.statistics().rejected["duplicate"] == 2
    assert disk.seq == 1


@simulated
async def test_a_message_that_is_repeated_after_a_restart_gets_the_outcome_of_the_first() -> None:
    disk = Disk("d")
    async with kept(echo, disk) as manager:
        await manager.ask(say("a", id="x"))
    async with kept(echo, disk) as manager:
        with pytest.raises(ccm.Duplicate) as caught:
            await manager.submit(say("a", id="x"))
        receipt = caught.value.receipt
        assert receipt is not None
        outcome = await receipt.outcome()
        assert isinstance(outcome, ccm.Replied)
        assert (str(outcome.reply), receipt.position, receipt.estimated_wait) == ("re a", 0, 0.0)


# -- failures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unknown", [False, True])
@simulated
async def test_a_failing_storage_accepts_nothing_and_says_so(unknown: bool) -> None:
    disk = Slow()
    disk.fail = [unknown]
    async with kept(echo, disk) as manager, manager.events() as stream:
        with pytest.raises(ccm.StorageError, match="was not accepted: made to fail") as caught:
            await manager.submit(say("a", id="x"))
        assert caught.value.unknown == unknown
        failed = await anext(stream)
        while not isinstance(failed, events.StorageFailed):
            failed = await anext(stream)
        assert failed.unknown == unknown
        statistics = manager.statistics()
        assert statistics.rejected["storage"] == statistics.received == 1
        assert "made to fail" in statistics.storage["failing"]
        assert str(await manager.ask(say("a", id="x"))) == "re a"  # the same id again is safe
        assert manager.statistics().storage["failing"] is None


@simulated
async def test_outcomes_that_a_failing_storage_refuses_are_written_when_it_works() -> None:
    disk = Slow()
    async with kept(echo, disk) as manager:
        receipt = await manager.submit(say("a"))
        disk.fail = [False, False, False]
        outcome = await receipt.outcome()
        assert outcome.name == "replied"  # it is not held back, and not pretended to be saved
        assert manager.statistics().storage["unsealed"] == 1
        assert not disk.turns
        await trio.sleep(20)
        assert disk.turns[1].outcome == "replied"
        assert manager.statistics().storage["unsealed"] == 0


@simulated
async def test_a_bot_may_go_on_without_its_storage() -> None:
    disk = Slow()
    disk.fail = [False] * 3
    async with kept(echo, disk, on_storage_failure="degrade") as manager:
        assert [str(await manager.ask(say(text))) for text in "abcd"] == ["re a", "re b", "re c", "re d"]
        assert manager.statistics().unjournaled == 3
    assert [settle.said[0].text for settle in disk.turns.values()] == ["d"]


@simulated
async def test_somebody_is_told_while_the_storage_fails() -> None:
    disk, told = Slow(), list[str]()

    async def on_alert(event: AlertRaised | AlertCleared) -> None:
        level = event.alert.level if isinstance(event, AlertRaised) else "clear"
        told.append(f"{trio.current_time():g} {event.alert.kind} {level}")
        await trio.lowlevel.checkpoint()

    rules = ccm.AlertRules(storage=ccm.Threshold(2, 6), idle=None)
    async with kept(echo, disk, on_storage_failure="degrade", alerts=rules, on_alert=on_alert) as manager:
        await manager.ask(say("a"))
        disk.fail = [False] * 6
        await trio.sleep_until(10)
        await manager.ask(say("b"))  # in memory; the settlement of nobody has to wait
        assert manager.statistics().storage["failing"]
        await trio.sleep_until(30)
        disk.fail = []
        await manager.ask(say("c"))
        await trio.sleep(2)
    assert told[0].endswith("storage warning")
    assert told[1:] == [
        f"{float(told[1].split()[0]):g} storage critical",
        f"{told[2].split()[0]} storage clear",
    ]
    assert float(told[1].split()[0]) - float(told[0].split()[0]) == 4


@simulated
async def test_a_storage_that_cannot_be_opened_is_an_error_at_once() -> None:
    class Locked(Disk):
        def open(self) -> None:
            raise ccm.StorageError("somebody else has it")

    with pytest.raises(ccm.StorageError, match="somebody else"):
        async with kept(echo, Locked("d")):
            raise AssertionError


# -- dead letters ------------------------------------------------------------------------------------------


@simulated
async def test_dead_letters_outlive_the_process() -> None:
    disk = Disk("d")

    async def broken(turn: Turn) -> None:
        raise ValueError("no")

    async with kept(broken, disk, retry=ONCE) as manager:
        for text in "ab":
            with pytest.raises(ccm.HandlerFailed):
                await manager.ask(say(text, conversation=text))
    async with kept(broken, disk, retry=ONCE) as manager:
        assert [(letter.id, letter.text) for letter in manager.dead_letters()] == [(1, "a"), (2, "b")]
        with pytest.raises(ccm.HandlerFailed) as caught:
            await manager.ask(say("c"))
        assert caught.value.dead_letter == 3


# -- what others do with messages --------------------------------------------------------------------------


@simulated
async def test_merged_messages_are_settled_together() -> None:
    batches: list[list[Settle]] = []

    class Watching(Disk):
        def commit(self, operations: Any) -> list[Any]:
            batches.append([op for op in operations if isinstance(op, Settle)])
            return super().commit(operations)

    disk = Watching("d")
    async with kept(echo, disk, on_busy=OnBusy.MERGE) as manager:
        receipts = [await manager.submit(say(text)) for text in "abc"]
        outcomes = [(await receipt.outcome()).name for receipt in receipts]
    assert outcomes == ["replied", "replied", "merged"]
    (together,) = [batch for batch in batches if len(batch) == 2]
    assert [said.text for said in together[0].said] == ["b", "c", "re b\nc"]
    assert together[1].said == ()


@simulated
async def test_side_turns_have_numbers_of_their_own() -> None:
    router, seen = Router(), []

    @router.route("watch", answers=False, ordered=False)
    async def watch(turn: Turn) -> None:
        seen.append(turn.id)

    router.route("chat")(echo)
    disk = Disk("d")
    async with kept(router, disk) as manager:
        for text in "ab":
            await manager.ask(say(text))
    assert sorted(disk.turns) == [1, 2]
    assert all(number < 0 for number in seen)
    assert len(set(seen)) == 2


def test_operations_are_values() -> None:
    assert Operation is not None
    assert Settle(
        seq=1, conversation="c", tenant="", user="u", route="r", outcome="replied", accepted=0, ended=1
    ) == Settle(
        seq=1, conversation="c", tenant="", user="u", route="r", outcome="replied", accepted=0, ended=1
    )
