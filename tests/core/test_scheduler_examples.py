"""The scheduler's rules one by one, each as the shortest story that shows it."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccm._core.lanes import Entry, Lane
from ccm._core.scheduler import Scheduler

from .kit import CRITICAL, HIGH, LOW, NORMAL, Owner


def busy(limit: int = 1, priority: int = NORMAL, **settings: object) -> tuple[Owner, list[Entry]]:
    """An owner all of whose slots are taken, by conversations of their own."""
    owner = Owner(limit, **settings)
    return owner, [owner.add(f"busy {n}", priority=priority) for n in range(limit)]


def test_a_free_slot_is_taken_at_once() -> None:
    owner = Owner(2)
    first, second, third = owner.add("a"), owner.add("b"), owner.add("c")
    assert owner.started == [first, second]
    assert owner.finish(first) == [third]


def test_turns_of_a_conversation_start_in_order_and_never_overlap() -> None:
    owner = Owner(4)
    turns = [owner.add("a") for _ in range(5)]
    for turn, following in zip(turns, [*turns[1:], None], strict=True):
        assert list(owner.scheduler.running.values()) == [turn]
        assert owner.finish(turn) == ([following] if following else [])


def test_unordered_turns_of_a_conversation_overlap() -> None:
    owner = Owner(2)
    turns = [owner.add("a", ordered=False) for _ in range(3)]
    assert owner.started == turns[:2]


def test_the_more_urgent_class_goes_first_whoever_came_first() -> None:
    owner, (first,) = busy()
    turns = {
        priority: owner.add(f"c{priority}", priority=priority) for priority in (LOW, NORMAL, HIGH, CRITICAL)
    }
    owner.finish(first)
    owner.drain()
    assert owner.started[1:] == [turns[p] for p in (CRITICAL, HIGH, NORMAL, LOW)]


def test_an_urgent_message_lifts_its_conversation_and_reorders_nothing_in_it() -> None:
    owner, (first,) = busy()
    other = owner.add("other", priority=HIGH)
    low, urgent = owner.add("a", priority=LOW), owner.add("a", priority=CRITICAL)
    assert owner.finish(first) == [low]
    assert owner.finish(low) == [urgent]
    assert owner.finish(urgent) == [other]


def test_a_lifted_conversation_sinks_back_when_the_urgent_message_is_given_up() -> None:
    owner, (first,) = busy()
    low, urgent = owner.add("a", priority=LOW), owner.add("a", priority=CRITICAL)
    normal = owner.add("b")
    owner.scheduler.cancel(urgent, 0.0)
    assert owner.finish(first) == [normal]
    assert owner.finish(normal) == [low]


def test_headroom_keeps_slots_for_more_urgent_classes() -> None:
    owner = Owner(4, headroom=(0, 1, 2, 3))
    low = [owner.add(f"low {n}", priority=LOW) for n in range(3)]
    assert owner.started == low[:1]
    normal = [owner.add(f"normal {n}") for n in range(3)]
    assert owner.started == [low[0], normal[0]]
    high = [owner.add(f"high {n}", priority=HIGH) for n in range(3)]
    critical = owner.add("critical", priority=CRITICAL)
    assert owner.started == [low[0], normal[0], high[0], critical]
    # One free slot is reserved for CRITICAL, so nothing of what waits may have it.
    assert owner.finish(critical) == []
    assert owner.finish(low[0]) == [high[1]]


def test_headroom_is_that_of_the_effective_class() -> None:
    owner = Owner(2, headroom=(0, 1, 1, 1))
    owner.add("busy")
    low = owner.add("a", priority=LOW)
    owner.fill()
    assert owner.started[1:] == []
    owner.add("a", priority=CRITICAL)
    assert owner.fill() == [low]


def test_ageing_lifts_one_class_at_a_time_exactly_at_its_time_and_at_most_to_high() -> None:
    owner, (first,) = busy(ageing=30.0)
    low = owner.add("low", priority=LOW)
    lane = low.lane
    assert lane is not None
    for time, klass in ((0.0, LOW), (29.984375, LOW), (30.0, NORMAL), (59.984375, NORMAL), (60.0, HIGH)):
        owner.until(time)
        assert lane.klass == klass
    owner.until(1000.0)
    assert lane.klass == HIGH
    normal, critical = owner.add("normal"), owner.add("critical", priority=CRITICAL)
    assert owner.finish(first) == [critical]
    assert owner.finish(critical) == [low]
    assert owner.finish(low) == [normal]


@pytest.mark.parametrize("priority", [CRITICAL, HIGH])
def test_ageing_leaves_urgent_classes_alone(priority: int) -> None:
    owner, _ = busy(ageing=1.0)
    entry = owner.add("a", priority=priority)
    assert owner.scheduler.next_deadline() == inf
    owner.until(100.0)
    assert entry.lane is not None
    assert entry.lane.klass == priority


def test_the_next_head_ages_from_its_own_arrival() -> None:
    owner, (first,) = busy(ageing=10.0)
    old = owner.add("a")
    owner.until(8.0)
    young = owner.add("a")
    owner.until(10.0)
    assert owner.finish(first) == [old]
    waiting = owner.add("b", priority=HIGH)
    owner.until(12.0)
    assert owner.finish(old) == [waiting]
    assert young.lane is not None
    assert young.lane.klass == NORMAL
    owner.until(18.0)
    assert young.lane.klass == HIGH


@given(st.floats(0, 1e7), st.floats(1e-3, 1e4), st.sampled_from([NORMAL, LOW]), st.integers(1, 2))
def test_a_lift_that_is_announced_is_never_in_the_past(
    arrived: float, ageing: float, priority: int, lifts: int
) -> None:
    """Whoever sleeps until the announced time must find the lane lifted then, whatever rounding did."""
    lane = Lane("a")
    lane.append(Entry(1, "a", "", priority, arrived))
    now = arrived
    for _ in range(lifts):
        before, due = lane.effective(now, ageing)
        if due < inf:
            assert due > now
            now = due
            after, following = lane.effective(now, ageing)
            assert after == before - 1
            assert following > now


def test_a_timer_that_comes_due_while_its_lane_runs_is_no_error() -> None:
    owner, (first,) = busy(ageing=30.0)
    waiting = owner.add("a")
    assert owner.finish(first) == [waiting]
    assert owner.until(30.0) == []
    owner.scheduler._check()


# -- expiry ----------------------------------------------------------------------------------------


def test_a_turn_expires_at_its_time_and_not_when_it_is_its_turn() -> None:
    owner, _ = busy()
    entry = owner.add("a", expires=2.0)
    assert owner.scheduler.next_deadline() == 2.0
    assert owner.until(1.984375) == []
    assert owner.until(2.0) == [entry]
    assert owner.scheduler.waiting == 0


def test_expired_turns_come_in_the_order_of_their_times() -> None:
    owner, _ = busy()
    entries = [owner.add("a", expires=time) for time in (3.0, 1.0, 2.0)]
    assert owner.until(5.0) == [entries[1], entries[2], entries[0]]


def test_a_running_turn_does_not_expire() -> None:
    owner, (first,) = busy()
    entry = owner.add("a", expires=2.0)
    assert owner.finish(first) == [entry]
    assert owner.until(3.0) == []
    assert list(owner.scheduler.running) == [entry.id]


def test_a_turn_that_arrives_too_late_expires_instead_of_starting() -> None:
    owner = Owner(1)
    entry = owner.add("a", expires=0.0)
    assert owner.started == []
    assert owner.until(0.0) == [entry]


def test_the_rest_of_the_conversation_goes_on_behind_an_expired_head() -> None:
    owner, (first,) = busy()
    owner.add("a", expires=1.0)
    second = owner.add("a")
    owner.until(1.0)
    assert owner.finish(first) == [second]


def test_next_wants_the_timers_brought_up_first() -> None:
    owner, (first,) = busy()
    owner.add("a", expires=1.0)
    owner.scheduler.finish(first, 0.5)
    with pytest.raises(RuntimeError, match=r"call due\(1.0\) first"):
        owner.scheduler.next(1.0)


# -- turns that come back --------------------------------------------------------------------------


def test_a_retry_waits_in_its_place_and_holds_its_conversation_but_no_slot() -> None:
    owner = Owner(1)
    first, second = owner.add("a"), owner.add("a")
    other = owner.add("b")
    owner.scheduler.retry(first, 0.0, 5.0)
    assert owner.fill() == [other]
    owner.until(5.0)
    assert owner.finish(other) == [first]
    assert owner.finish(first) == [second]


def test_a_retry_starts_exactly_at_its_time() -> None:
    owner = Owner(1)
    first = owner.add("a")
    owner.scheduler.retry(first, 0.0, 5.0)
    assert owner.scheduler.next_deadline() == 5.0
    owner.until(4.984375)
    assert owner.fill() == []
    owner.until(5.0)
    assert owner.fill() == [first]


def test_a_retry_may_expire() -> None:
    owner = Owner(1)
    first, second = owner.add("a"), owner.add("a")
    owner.scheduler.retry(first, 0.0, 5.0, expires=3.0)
    assert owner.until(3.0) == [first]
    assert owner.fill() == [second]


def test_a_preempted_turn_returns_to_its_old_place() -> None:
    owner = Owner(1)
    first, second = owner.add("a", priority=LOW), owner.add("a", priority=LOW)
    critical = owner.add("b", priority=CRITICAL)
    assert owner.scheduler.preemptible() == [first]
    owner.scheduler.requeue(first, 0.0)
    assert owner.fill() == [critical]
    assert owner.finish(critical) == [first]
    assert owner.finish(first) == [second]


def test_a_preempted_turn_is_older_than_what_waited_all_along() -> None:
    """It must not be shed as if it were the youngest, and it is the oldest that waits."""
    owner = Owner(1)
    first = owner.add("a", priority=LOW)
    owner.until(1.0)
    young = [owner.add(key, priority=LOW) for key in "bc"]
    owner.scheduler.requeue(first, 1.0)
    assert owner.scheduler.victim(CRITICAL) is young[-1]
    assert owner.scheduler.queues()[LOW].oldest == 0.0
    assert [owner.scheduler.ahead(e) for e in (first, *young)] == [0, 1, 2]


def test_the_youngest_low_turn_is_preempted_first() -> None:
    owner = Owner(3)
    first, _, last = owner.add("a", priority=LOW), owner.add("b"), owner.add("c", priority=LOW)
    assert owner.scheduler.preemptible() == [last, first]


# -- bounds ----------------------------------------------------------------------------------------


def test_the_victim_is_the_youngest_of_the_least_urgent_class_below_the_newcomer() -> None:
    owner, _ = busy()
    normal = [owner.add(key) for key in "ab"]
    low = [owner.add(key, priority=LOW) for key in "cd"]
    scheduler = owner.scheduler
    assert scheduler.victim(CRITICAL) is low[1]
    assert scheduler.victim(NORMAL) is low[1]
    assert scheduler.victim(LOW) is None
    for entry in low:
        scheduler.cancel(entry, 0.0)
    assert scheduler.victim(HIGH) is normal[1]
    assert scheduler.victim(NORMAL) is None


def test_a_retrying_turn_is_no_victim() -> None:
    owner = Owner(1)
    entry = owner.add("a", priority=LOW)
    owner.scheduler.retry(entry, 0.0, 5.0)
    assert owner.scheduler.victim(CRITICAL) is None


def test_what_runs_does_not_count_for_the_bound_of_a_conversation() -> None:
    owner = Owner(1, conversation_limit=2)
    entries = [owner.add("a"), owner.add("a"), owner.add("a", ordered=False)]
    assert not owner.scheduler.conversation_has_room("a")
    assert owner.scheduler.conversation_has_room("b")
    owner.scheduler.cancel(entries[2], 0.0)
    assert owner.scheduler.conversation_has_room("a")


def test_a_smaller_limit_takes_no_slot_away_and_a_larger_one_can_be_used() -> None:
    owner = Owner(2)
    first, second, third = (owner.add(key) for key in "abc")
    owner.scheduler.set_limit(1)
    assert len(owner.scheduler.running) == 2
    assert owner.finish(first) == []
    assert owner.finish(second) == [third]
    fourth = owner.add("d")
    owner.scheduler.set_limit(2)
    assert owner.fill() == [fourth]


def test_dropping_everything_leaves_what_runs() -> None:
    owner = Owner(2)
    running = [owner.add("a"), owner.add("b")]
    retrying = owner.add("c")
    waiting = [owner.add("a"), owner.add("d", priority=LOW), owner.add("e", ordered=False)]
    assert owner.finish(running[1]) == [retrying]
    owner.scheduler.retry(retrying, 0.0, 5.0)
    started = owner.fill()
    assert owner.scheduler.drop_all(0.0) == [retrying, *(e for e in waiting if e not in started)]
    assert owner.scheduler.waiting == owner.scheduler.retrying == owner.scheduler.ready.count == 0
    assert list(owner.scheduler.running.values()) == [running[0], *started]
    owner.scheduler._check()


# -- misuse raises and changes nothing ---------------------------------------------------------------


def test_a_turn_ends_once() -> None:
    owner = Owner(1)
    entry = owner.add("a")
    owner.finish(entry)
    for act in (owner.scheduler.finish, owner.scheduler.requeue):
        with pytest.raises(ValueError, match="turn 1 does not run; it is done"):
            act(entry, 0.0)
    with pytest.raises(ValueError, match="turn 1 does not run; it is done"):
        owner.scheduler.retry(entry, 0.0, 1.0)
    with pytest.raises(ValueError, match="turn 1 does not wait; it is done"):
        owner.scheduler.cancel(entry, 0.0)
    with pytest.raises(ValueError, match="turn 1 was added before; it is done"):
        owner.scheduler.add(entry, 0.0)
    assert len(owner.scheduler.running) == owner.scheduler.waiting == 0


def test_what_runs_cannot_be_cancelled_as_if_it_waited() -> None:
    owner = Owner(1)
    entry = owner.add("a")
    with pytest.raises(ValueError, match="turn 1 does not wait; it is running"):
        owner.scheduler.cancel(entry, 0.0)
    assert list(owner.scheduler.running) == [1]


def test_ids_must_grow() -> None:
    owner, _ = busy()
    owner.add("a")
    with pytest.raises(ValueError, match="turn 1 arrived before 2; ids must grow"):
        owner.scheduler.add(Entry(1, "a", "", NORMAL, 0.0), 0.0)
    assert owner.scheduler.waiting == 1
    owner.scheduler._check()


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_must_leave_a_slot(limit: int) -> None:
    with pytest.raises(ValueError, match="limit must be >= 1"):
        Scheduler(limit=limit)
    owner = Owner(2)
    with pytest.raises(ValueError, match="limit must be >= 1"):
        owner.scheduler.set_limit(limit)
    assert owner.scheduler.limit == 2


@pytest.mark.parametrize("headroom", [(0, 0, 0, 2), (0, -1, 0, 0), (0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 0, 0)])
def test_headroom_rises_and_leaves_each_class_a_slot(headroom: tuple[int, ...]) -> None:
    owner = Owner(2, headroom=(0, 0, 1, 1))
    with pytest.raises(ValueError, match="headroom must be 4 rising numbers"):
        owner.scheduler.set_limit(2, headroom)
    owner.add("a", priority=LOW)
    assert not owner.scheduler.may_start("b", "", LOW)
    assert owner.scheduler.may_start("b", "", HIGH)
