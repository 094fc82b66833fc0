"""The rate limit and a storage: what is not accepted in the end does not count; on virtual time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import ccm
from ccm import ConversationManager, Message, Overflow, RateLimit, Turn
from ccm.testing import CancelAt, simulate
from tests.faults.disk import Disk
from tests.manager.kit import say, simulated

from .durable_kit import Slow, echo, kept, leave

ONE = RateLimit(1, per=10)


class Forked(Slow):
    """A commit that is told to fail as unknown has been made all the same."""

    def commit(self, operations: Any) -> list[Any]:
        if self.fail and self.fail[0]:
            Disk.commit(self, operations)
        return super().commit(operations)


async def refused(manager: ConversationManager, message: Message, retry_after: float | None = None) -> None:
    with pytest.raises(ccm.RateLimited) as caught:
        await manager.submit(message)
    assert retry_after is None or caught.value.retry_after == retry_after


@simulated
async def test_what_the_storage_refuses_does_not_count() -> None:
    disk = Slow()
    async with kept(echo, disk, rate_limit=ONE) as manager:
        for unknown in (False, True, False):
            disk.fail.append(unknown)
            with pytest.raises(ccm.StorageError):
                await manager.submit(say("a", id="1"))
        accepted = trio.current_time()
        await manager.submit(say("a", id="1"))
        await refused(manager, say("b"), accepted + 10.0 - trio.current_time())


@simulated
async def test_while_it_is_written_it_counts() -> None:
    disk = Slow()
    disk.fail = [False]
    async with kept(echo, disk, rate_limit=ONE) as manager, trio.open_nursery() as nursery:

        async def fails() -> None:
            with pytest.raises(ccm.StorageError):
                await manager.submit(say("a"))

        nursery.start_soon(fails)
        await trio.sleep(0.5)
        await refused(manager, say("b"), 9.5)
        await trio.sleep(1.0)
        await manager.submit(say("b"))


@simulated
async def test_those_in_between_count_from_their_own_times() -> None:
    disk = Slow()
    async with (
        kept(echo, disk, rate_limit=RateLimit(2, per=10)) as manager, trio.open_nursery() as nursery
    ):  # fmt: skip

        async def fails() -> None:
            with pytest.raises(ccm.StorageError):
                await manager.submit(say("a"))

        nursery.start_soon(fails)
        await trio.sleep(0.5)
        nursery.start_soon(manager.submit, say("b"))  # written after the other has failed
        disk.fail = [False]
        await trio.sleep(1.0)
        await manager.submit(say("c"))
        await refused(manager, say("d"), 10.5 - trio.current_time())


@simulated
async def test_what_is_there_all_the_same_is_a_repetition_and_does_not_count() -> None:
    disk = Forked()
    async with kept(echo, disk, rate_limit=ONE) as manager:
        disk.fail.append(True)
        with pytest.raises(ccm.StorageError) as caught:
            await manager.submit(say("a", id="1"))
        assert caught.value.unknown
        for _ in range(2):
            with pytest.raises(ccm.Duplicate):
                await manager.submit(say("a", id="1"))
        await manager.submit(say("b"))
        await refused(manager, say("c"))


@simulated
async def test_repetitions_that_only_the_storage_knows_do_not_count() -> None:
    disk = Slow()
    await leave(disk, *(say(text, id=text) for text in "abc"))
    async with kept(echo, disk, rate_limit=ONE) as manager:
        await manager.wait_idle()
    async with kept(echo, disk, rate_limit=ONE) as manager:
        for text in "abc":
            with pytest.raises(ccm.Duplicate):
                await manager.submit(say(text, id=text))
        await manager.submit(say("d"))


@simulated
async def test_what_is_accepted_without_the_storage_counts() -> None:
    disk = Slow()
    disk.fail = [False]
    async with kept(echo, disk, rate_limit=ONE, on_storage_failure="degrade") as manager:
        await manager.submit(say("a"))
        assert manager.statistics().unjournaled == 1
        await refused(manager, say("b"), 9.0)


@simulated
async def test_a_sender_that_leaves_before_it_is_written_does_not_count() -> None:
    async with kept(echo, Slow(), rate_limit=ONE) as manager, trio.open_nursery() as nursery:
        nursery.start_soon(manager.submit, say("other", user="bob"))
        await trio.sleep(0.5)  # the disk is busy with that
        with trio.move_on_after(0.25) as scope:
            await manager.submit(say("a"))
        assert scope.cancelled_caught
        await manager.submit(say("b"))
        await refused(manager, say("c"))


@simulated
async def test_a_sender_that_leaves_when_it_has_room_does_not_count() -> None:
    """It waited for room, got it, and has gone before its message was written."""
    ends = [trio.Event() for _ in range(3)]

    async def waits(turn: Turn) -> None:
        if turn.text.isdigit():
            await ends[int(turn.text)].wait()

    settings: Any = {"limit": 1, "queue_limit": 2, "overflow": Overflow.WAIT, "rate_limit": ONE}
    async with kept(waits, Slow(), **settings) as manager, trio.open_nursery() as nursery:
        for text in "012":
            await manager.submit(say(text, conversation=text, user=text))
        scope = trio.CancelScope()

        async def leaves() -> None:
            with scope:
                await manager.submit(say("a"))

        nursery.start_soon(manager.submit, say("other", user="bob"))
        await trio.sleep(0.25)
        nursery.start_soon(leaves)
        await trio.sleep(1)
        assert manager.statistics().senders == 2
        ends[0].set()
        await trio.sleep(0.25)  # the disk is busy with the one before
        ends[1].set()
        await trio.sleep(0.25)
        assert manager.statistics().senders == 0
        scope.cancel()
        ends[2].set()
        await trio.sleep(5)
        assert scope.cancelled_caught
        await manager.submit(say("b"))
        await refused(manager, say("c"))


@simulated
async def test_who_sent_too_much_is_told_at_once_and_does_not_wait_for_room() -> None:
    settings: Any = {"limit": 1, "queue_limit": 1, "overflow": Overflow.WAIT, "rate_limit": ONE}
    async with kept(echo, Slow(), **settings) as manager, trio.open_nursery() as nursery:
        for user in ("bob", "ada", "cid"):
            nursery.start_soon(manager.submit, say("a", conversation=user, user=user))
            await trio.sleep(0.125)
        assert manager.statistics().senders == 1
        with trio.fail_after(0.125):
            await refused(manager, say("b"), 9.75)


@simulated
async def test_what_never_counted_gives_nothing_back() -> None:
    router = ccm.Router()
    router.route("free", when=lambda message: message.text == "free", rate_limited=False)(echo)
    router.route("chat")(echo)
    disk = Slow()
    async with kept(router, disk, rate_limit=ONE) as manager, trio.open_nursery() as nursery:
        nursery.start_soon(manager.submit, say("other", user="bob"))
        await trio.sleep(0.5)
        nursery.start_soon(manager.submit, say("a"))
        with trio.move_on_after(0.25) as scope:
            await manager.submit(say("free"))  # at the same time
        assert scope.cancelled_caught
        await refused(manager, say("b"))


def test_whatever_step_its_sender_is_cancelled_at_it_counts_if_it_was_accepted() -> None:
    async def program(scope: trio.CancelScope) -> None:
        receipts: list[ccm.Receipt] = []
        async with kept(echo, Slow(), rate_limit=ONE) as manager, trio.open_nursery() as nursery:

            async def sends() -> None:
                with scope:
                    receipts.append(await manager.submit(say("a")))

            nursery.start_soon(manager.submit, say("other", user="bob"))
            nursery.start_soon(sends)
            await trio.sleep(5)
            if receipts:
                await refused(manager, say("b"), 5.0)
            else:
                await manager.submit(say("b"))
        seen.add(bool(receipts))

    for seed in range(3):
        seen: set[bool] = set()
        step, fired = 1, True
        while fired:
            scope = trio.CancelScope()
            cancel = CancelAt(step, scope)
            simulate(program, scope, seed=seed, instruments=[cancel])
            step, fired = step + 1, cancel.fired
        assert seen == {True, False}
