"""Features compose: in every row of an all-pairs matrix, each feature still does what it is for (trap 13)."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import pytest
import trio

from ccm import (
    CRITICAL,
    LOW,
    BusyConversation,
    Change,
    Draining,
    Message,
    OnBusy,
    Overflow,
    Overloaded,
    Rejected,
    Stopped,
)
from ccm.testing import simulate

from .allpairs import all_pairs
from .matrix import CLEANUP, LIMIT, REPLACING, SORRY, Row, Sent, World

SEEDS = range(2)
FEATURES: dict[str, list[Any]] = {
    "policy": list(OnBusy),
    "retry": ["never", "once", "always", "busy"],
    "how": ["ask", "submit", "stream"],
    "cancel": ["none", "caller", "stop", "retract", "edit"],
    "drain": ["idle", "busy", "cancelled"],
    "overflow": list(Overflow),
    "storage": ["memory"],
    "preempt": [False, True],
    "fallback": [False, True],
}
# Unordered turns meet no busy conversation: pairs with a policy count only where turns are ordered.
ORDERED = [row | {"ordered": True} for row in all_pairs(FEATURES)]
ROWS = ORDERED + all_pairs(FEATURES | {"ordered": [True, False]}, given=ORDERED)


def name(row: dict[str, Any]) -> str:
    switches = [feature for feature in ("preempt", "fallback", "ordered") if row[feature]]
    values = [str(row[axis]) for axis in ("policy", "retry", "how", "cancel", "drain", "overflow")]
    return "-".join(values + switches)


def test_every_pair_of_features_is_in_the_matrix() -> None:
    axes = FEATURES | {"ordered": [True, False]}
    for rows, names in ((ORDERED, FEATURES), (ROWS, axes)):
        for a, b in combinations(names, 2):
            assert {(row[a], row[b]) for row in rows} == set(product(axes[a], axes[b]))


@pytest.mark.parametrize("row", [Row(**row) for row in ROWS], ids=[name(row) for row in ROWS])
def test_no_feature_switches_another_off(row: Row) -> None:
    for seed in SEEDS:
        try:
            simulate(program, row, seed=seed)
        except BaseException as error:
            error.add_note(f"simulated with seed={seed}")
            raise


async def program(row: Row) -> None:
    world = World(row)
    async with trio.open_nursery() as world.senders:
        with trio.CancelScope() as scope:
            async with world.opening() as world.manager:
                for scene in (busy_conversation, taken_back, taken_back_late, protected, urgent, full):
                    await scene(world, await world.quiet())
                last = await leave(world, await world.quiet(), scope)
        check_left(world, *last)
    world.check()


# -- a busy conversation -----------------------------------------------------------------------------


async def busy_conversation(world: World, start: float) -> None:
    """Three messages of one conversation, 1/4 s apart."""
    row = world.row
    first, second, third = expected_of_three(row)
    one = world.send("p1", "p", first)
    await world.at(start + 0.5)
    two = world.send("p2", "p", second)
    await world.at(start + 0.75)
    three = world.send("p3", "p", third)
    await world.quiet()
    begun = [(when - start, text) for when, text in world.starts("p")]
    texts = {text for _, text in begun}
    if row.meets is OnBusy.MERGE:
        assert texts == {"p1", "p2\np3"}
        assert two.text == three.text
    elif row.meets in REPLACING:
        assert begun[:3] == [(0, "p1"), (0.5 + CLEANUP, "p2"), (0.75 + CLEANUP, "p3")]
        check_history(world, one, two)
    elif row.meets is OnBusy.STEER and row.steers:
        assert texts == {"p1"}
        assert one.text == two.text == three.text or row.how == "stream"
    elif row.meets is OnBusy.REJECT:
        assert texts == {"p1"}
        assert isinstance(two.error, BusyConversation)
        assert isinstance(three.error, BusyConversation)
    else:
        assert texts == {"p1", "p2", "p3"}
        assert row.ordered or begun[:2] == [(0, "p1"), (0.5, "p2")]
    check_attempts(world, [one, two, three])


def expected_of_three(row: Row) -> tuple[str, str, str]:
    final = row.final
    if row.meets is OnBusy.MERGE:
        return final, final, row.final_member
    if row.meets in REPLACING:
        return "superseded", "superseded", final
    if row.meets is OnBusy.STEER and row.steers:
        return "replied", "merged", "merged"
    if row.meets is OnBusy.REJECT:
        return final, "rejected", "rejected"
    return final, final, final


def expected_of_two(row: Row) -> tuple[str, str]:
    first, _, third = expected_of_three(row)
    return first, row.final if row.meets is OnBusy.MERGE else third


def check_history(world: World, one: Sent, two: Sent) -> None:
    """What was interrupted is kept with INTERRUPT, and leaves no trace with ROLLBACK."""
    row = world.row
    if row.retry == "always":
        return  # nobody came so far as to look
    said = [(entry.role, entry.text, entry.partial) for entry in world.history]
    marks = [next(span.mark for span in world.spans if span.text == text) for text in ("p1", "p2")]
    kept = [
        entry
        for text, mark in zip(("p1", "p2"), marks, strict=True)
        for entry in (("user", text, False), ("assistant", mark, True))
    ]
    assert said == (kept if row.policy is OnBusy.INTERRUPT else []) + [("user", "p3", False)]
    if row.how == "stream":
        assert ["".join(part) for sent in (one, two) for part in sent.parts] == marks


def check_attempts(world: World, sent: list[Sent]) -> None:
    """Turns that nothing kept from their end had all their attempts, and streams began again with each."""
    row = world.row
    for one in sent:
        attempts = [span.attempt for span in world.spans if span.text == one.message.text]
        if attempts and one.expected in ("replied", "failed"):
            assert sorted(attempts) == row.attempts
        if one.seen == "answered" and row.how == "stream":
            late = row.meets is OnBusy.STEER and one.expected == "merged"  # read by the last attempt alone
            restarts = 0 if late else len(row.attempts) - 1
            assert len(one.parts) - 1 == restarts + (one.text == SORRY), one.parts
            assert len(one.parts[-1]) > 1 or late or one.text == SORRY, "the reply came in one piece"


# -- messages are taken back ----------------------------------------------------------------------------


async def taken_back(world: World, start: float) -> None:
    """A message in a busy conversation is taken back while it waits, is merged, is handed over or runs."""
    row = world.row
    final, rejected = row.final, row.meets is OnBusy.REJECT
    first, second = expected_of_two(row)
    one = world.send("x1", "x", first)
    await world.at(start + 0.5)
    two = world.send("x2", "x", second)
    await world.at(start + 0.75)
    runs = not row.ordered or row.meets in (*REPLACING, OnBusy.REJECT)
    where = "runs" if runs else "handed" if row.meets is OnBusy.STEER else "waits"
    others = 0 if row.meets in (*REPLACING, OnBusy.REJECT) else 1
    target, other = (one, two) if rejected else (two, one)
    await take_back(world, target, where, start + 0.75)
    if row.cancel == "stop":
        if other.expected not in ("superseded", "rejected"):
            other.expected = "cancelled"
    elif row.cancel in ("caller", "retract") and target.expected == "cancelled" and others:
        other.expected = final  # its turn goes on, or is the only one
    await world.quiet()
    if row.cancel == "edit" and row.final == "replied" and row.steers:
        edited = one if where == "handed" else target
        assert f"{target.message.text} edited" in edited.text
    await take_back_again(world, target)


async def take_back(world: World, target: Sent, where: str, now: float) -> None:
    """Do what the row says to `target`, which waits, runs, was handed to a running turn, or retries."""
    row, manager = world.row, world.manager
    id = target.message.id
    if row.cancel == "caller":
        target.scope.cancel()
        # Who submitted has the receipt and only waits for it: the turn goes on.
        target.expected = target.expected if row.how == "submit" else "cancelled"
    elif row.cancel == "stop":
        target.expected = "cancelled"
        assert await manager.stop(target.message.conversation) == stopped(row, where)
    elif row.cancel == "retract":
        target.expected = "cancelled"
        done = {"runs": Change.INTERRUPTED, "handed": Change.WITHDRAWN}.get(where, Change.CANCELLED)
        assert await manager.retract(id) is done
    elif row.cancel == "edit":
        assert await manager.edit(id, f"{id} edited") is (
            Change.RESTARTED if where == "runs" else Change.REPLACED
        )
    # Who ends a turn waits for its cleanup, and for nothing more.
    cleans_up = row.cancel == "stop" and where != "alone and retries"
    cleans_up |= row.cancel == "retract" and where == "runs"
    assert trio.current_time() == now + CLEANUP * cleans_up
    await world.at(now + CLEANUP)


def stopped(row: Row, where: str) -> Stopped:
    if where == "alone and runs":
        return Stopped(waiting=0, running=1, stuck=0)
    if where == "alone and retries":
        return Stopped(waiting=1, running=0, stuck=0)
    if not row.ordered:
        return Stopped(waiting=0, running=2, stuck=0)
    return Stopped(waiting=0 if where == "runs" else 1, running=1, stuck=0)


async def take_back_again(world: World, target: Sent) -> None:
    """What has its outcome keeps it; only an answer can still be retracted."""
    manager, id = world.manager, target.message.id
    if world.row.cancel == "stop":
        assert await manager.stop(target.message.conversation) == Stopped(waiting=0, running=0, stuck=0)
        await everything_stopped(world, await world.quiet())
    elif world.row.cancel == "retract":
        assert await manager.retract(id) is Change.ENDED
        await answer_retracted(world)
    elif world.row.cancel == "edit":
        assert await manager.edit(id, "too late") is Change.ENDED


async def everything_stopped(world: World, start: float) -> None:
    """Trap 8: not the first of what waits alone, and nothing starts meanwhile."""
    row, before = world.row, world.calls
    for number in range(4):
        world.send(f"s{number}", "s", "cancelled", on_busy=OnBusy.ENQUEUE)
        await world.at(start + number / 16)
    running = 1 if row.ordered else LIMIT
    expected = Stopped(waiting=4 - running, running=running, stuck=0)
    assert await world.manager.stop("s") == expected
    await world.quiet()
    assert world.calls == before + running


async def answer_retracted(world: World) -> None:
    """A retracted answer is not in the history that the next turn sees."""
    row = world.row
    world.send("r1", "r", row.final)
    await world.quiet()
    answered = row.final == "replied"
    assert await world.manager.retract("r1") is (Change.RETRACTED if answered else Change.ENDED)
    world.send("r2", "r", row.final)
    await world.quiet()
    if row.ordered:
        said = [entry.text for entry in world.history if entry.role == "user"]
        assert said == (["r2"] if answered else ["r1", "r2"])


async def taken_back_late(world: World, start: float) -> None:
    """A message is taken back in its turn's second attempt, or while it waits for that."""
    row = world.row
    one = world.send("y1", "y", row.final)
    await world.at(start + 1.25)
    retries = row.retry == "busy"
    where = "retries" if retries else "runs"
    if row.cancel == "stop":
        where = f"alone and {where}"
    await take_back(world, one, where, start + 1.25)
    await world.quiet()
    if row.cancel == "edit" and row.final == "replied" and row.steers:
        assert "y1 edited" in one.text


async def protected(world: World, start: float) -> None:
    """The first second of these turns is not to be interrupted, whatever comes."""
    row = world.row
    first, second = expected_of_two(row)
    world.send("u1", "u", first)
    await world.at(start + 0.25)
    world.send("u2", "u", second)
    await world.quiet()
    assert next(span.ended >= start + 1 for span in world.spans if span.conversation == "u")
    if row.meets in REPLACING and row.retry == "never":
        assert world.starts("u")[1] == (start + 1 + CLEANUP, "u2")


# -- slots and queue --------------------------------------------------------------------------------------


async def urgent(world: World, start: float) -> None:
    """All slots are held by LOW turns when a CRITICAL message comes in, and one of them loses its slot."""
    row = world.row
    final = row.final
    world.send("l1", "l1", final, priority=LOW)
    await world.at(start + 0.25)
    low = world.send("l2", "l2", final, priority=LOW)
    await world.at(start + 0.5)
    world.send("k", "k", final, priority=CRITICAL)
    await world.at(start + 0.75)
    later = world.send("l3", "l2", final, priority=LOW)
    starts_at = 0.5 + CLEANUP if row.preempt else 2.0 if row.retry == "never" else 1.0
    if row.meets in REPLACING:
        low.expected = "superseded"
        starts_at = min(starts_at, 0.75 + CLEANUP)  # the newer message of the conversation waits for CRITICAL
    elif row.meets is OnBusy.REJECT:
        later.expected = "rejected"
    elif row.meets is OnBusy.MERGE and row.preempt:
        later.expected = row.final_member  # its turn lost its slot, so it may be joined again
    elif row.meets is OnBusy.STEER and not row.preempt and row.steers:
        later.expected = "merged"
    await world.quiet()
    assert world.starts("k")[0] == (start + starts_at, "k")
    first_of_low = next(span for span in world.spans if span.conversation == "l2")
    assert first_of_low.begun == start + 0.25
    assert (first_of_low.ended == start + 0.5 + CLEANUP) == row.preempt
    if row.preempt and low.expected == "replied":
        attempts = [s.attempt for s in world.spans if s.conversation == "l2" and s.text == low.message.text]
        assert row.meets is OnBusy.MERGE or attempts == [1, *row.attempts]


async def full(world: World, start: float) -> None:
    """All slots are taken and the queue is at its bound when two more messages come in."""
    row = world.row
    final = row.final
    for number in (1, 2):
        world.send(f"f{number}", f"f{number}", final)
        await world.at(start + number / 16)
    waiting = []
    for number in (1, 2, 3):
        waiting.append(world.send(f"w{number}", f"w{number}", final, priority=LOW))
        await world.at(start + (number + 2) / 16)
    new = world.send("a", "a", final)
    await world.at(start + 0.5)
    at_the_bound(world, new, waiting[2])
    newer = world.send("b", "w2", final)
    await world.at(start + 0.75)
    before = world.manager.statistics().outcomes["shed"]
    in_its_conversation(row, newer, waiting[1])
    assert world.manager.statistics().waiting <= 3 + (row.meets is OnBusy.MERGE)
    await world.quiet()
    assert world.manager.statistics().outcomes["shed"] == before


def at_the_bound(world: World, new: Sent, youngest: Sent) -> None:
    row, manager = world.row, world.manager
    assert manager.statistics().senders == (row.overflow is Overflow.WAIT)
    if row.overflow is Overflow.REJECT_NEW:
        new.expected = "rejected"
        assert isinstance(new.error, Overloaded)
    elif row.overflow is Overflow.SHED_LOWEST:
        shed(row, youngest)
    else:
        assert not new.seen
        with pytest.raises(trio.WouldBlock):
            manager.submit_nowait(Message("n", "nobody", "another"))


def shed(row: Row, victim: Sent) -> None:
    """It is told at once: by the fallback, if there is one."""
    victim.expected = "replied" if row.fallback else "shed"
    victim.says = ""
    assert victim.seen == ("answered" if row.fallback else "shed")


def in_its_conversation(row: Row, newer: Sent, waiting: Sent) -> None:
    """The policy comes first where it makes room; else the bound holds for the newcomer as well."""
    if row.meets is OnBusy.REJECT:
        newer.expected = "rejected"
        assert isinstance(newer.error, BusyConversation)
    elif row.meets is OnBusy.MERGE:
        newer.expected = row.final_member
    elif row.meets in REPLACING:
        waiting.expected = "superseded"
    elif row.overflow is Overflow.REJECT_NEW:
        newer.expected = "rejected"
        assert isinstance(newer.error, Overloaded)
    elif row.overflow is Overflow.SHED_LOWEST:
        shed(row, waiting)


# -- the end ---------------------------------------------------------------------------------------------


async def leave(world: World, start: float, scope: trio.CancelScope) -> tuple[float, list[Sent]]:
    """Leave the block: idle, with turns that run and wait, or because it is cancelled."""
    row = world.row
    if row.drain == "idle":
        return start, []
    first, second = expected_of_two(row)
    sent = [world.send("d1", "d", first)]
    await world.at(start + 0.25)
    sent.append(world.send("d2", "e", row.final))
    await world.at(start + 0.5)
    sent.append(world.send("d3", "d", second))
    await world.at(start + 0.5)
    world.senders.start_soon(too_late, world)
    if row.drain == "cancelled":
        for one in sent:
            if one.expected not in ("superseded", "rejected"):
                one.expected = "cancelled"
        scope.cancel()
    return start, sent


async def too_late(world: World) -> None:
    late = world.send("late", "late", "rejected")
    await trio.testing.wait_all_tasks_blocked()
    assert isinstance(late.error, Draining)


def check_left(world: World, start: float, sent: list[Sent]) -> None:
    """The drain waited for what was to be answered, and not a moment longer."""
    row, now = world.row, trio.current_time()
    if row.drain == "idle":
        assert now == start
    elif row.drain == "cancelled":
        assert now == start + 0.75 + CLEANUP
    else:
        assert row.seconds <= now - start <= 20
    for one in sent:
        assert not isinstance(one.error, Rejected) or one.expected == "rejected"
