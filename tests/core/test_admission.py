"""Admission: which bound is named first, what happens at the queue bound, and that asking changes nothing."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from ccm import Message, Overflow, RateLimit, Reason
from ccm._core.admission import Admission, Displace, Refuse, Repeat, Wait
from ccm._core.dedupe import DedupeWindow
from ccm._core.lanes import Entry
from ccm._core.ratelimit import RateLimiter
from ccm._core.scheduler import Scheduler
from ccm._core.sessions import SessionTable

CRITICAL, HIGH, NORMAL, LOW = range(4)
NOW = 100.0
MAX_TEXT = 64
BOUNDS = ("draining", "invalid", "duplicate", "rate", "conversation", "sessions", "queue")
"""The order in which they are checked."""


def admission(overflow: Overflow = Overflow.REJECT_NEW, violated: frozenset[str] = frozenset()) -> Admission:
    """One slot, taken; five turns wait in conversation "full"; and the bounds in `violated` are reached."""
    scheduler = Scheduler(limit=1, queue_limit=5 if "queue" in violated else 6, conversation_limit=5)
    for number in range(6):
        scheduler.add(Entry(number, "full", "", LOW, NOW), NOW)
    sessions = SessionTable(max_sessions=1, timeout=10.0)
    if "sessions" in violated:
        sessions.enter("another", "", "", "u", NOW)
    limiter = RateLimiter(default=RateLimit(1, per=8.0))
    if "rate" in violated:
        limiter.record("t", "u", NOW - 2.0)
    window: DedupeWindow[Any] = DedupeWindow(window=60.0)
    if "duplicate" in violated:
        window.put(("t", "id"), "the first", NOW)
    return Admission(
        scheduler=scheduler,
        sessions=sessions,
        limiter=limiter,
        window=window,
        overflow=overflow,
        max_text=MAX_TEXT,
        draining="draining" in violated,
    )


def message(violated: frozenset[str] = frozenset(), **changes: Any) -> Message:
    text = "x" * (MAX_TEXT + ("invalid" in violated))
    conversation = "full" if "conversation" in violated else "empty"
    return Message(conversation, "u", text, id="id", tenant="t").replace(**changes)


def ask(judge: Admission, said: Message, priority: int = NORMAL, limited: bool = True) -> Any:
    """What the owner does: the checks of the message, then those of its turn."""
    try:
        verdict = judge.message(said, NOW)
    except ValueError:
        return "invalid"
    return judge.turn(said, priority, True, limited, NOW) if verdict is None else verdict


def photograph(judge: Admission) -> Any:
    scheduler, limiter, window = judge.scheduler, judge.limiter, judge.window
    assert window is not None
    logs = [(key, repr(log)) for group in limiter._groups for key, log in group.logs.items()]
    turns = ([list(queue) for queue in scheduler._queued], list(scheduler.running), list(scheduler._lanes))
    return (
        turns,
        judge.sessions.statistics(),
        logs,
        limiter.tracked,
        list(window._rows.items()),
        judge.senders,
    )


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("flags", list(product((False, True), repeat=len(BOUNDS))))
def test_the_first_violated_bound_is_named_and_only_what_comes_in_is_counted(
    flags: tuple[bool, ...], overflow: Overflow
) -> None:
    """Every combination of violated bounds, with every policy at the queue bound."""
    violated = frozenset(bound for bound, flag in zip(BOUNDS, flags, strict=True) if flag)
    judge, said = admission(overflow, violated), message(violated)
    at_queue_bound = {
        Overflow.REJECT_NEW: Refuse(Reason.OVERLOADED),
        Overflow.SHED_LOWEST: Displace(judge.scheduler._queued[LOW][5]),
        Overflow.WAIT: Wait(),
    }
    expected: dict[str, Any] = {
        "draining": Refuse(Reason.DRAINING),
        "invalid": "invalid",
        "duplicate": Repeat("the first"),
        "rate": Refuse(Reason.RATE_LIMITED, 6.0),
        "conversation": Refuse(Reason.CONVERSATION_FULL),
        "sessions": Refuse(Reason.TOO_MANY_SESSIONS),
        "queue": at_queue_bound[overflow],
    }
    before = photograph(judge)
    winner = next((expected[bound] for bound in BOUNDS if bound in violated), None)
    assert ask(judge, said) == winner
    if winner is None or isinstance(winner, Displace):
        assert judge.limiter.check("t", "u", NOW) == 8.0
        assert ask(judge, said) == Refuse(Reason.RATE_LIMITED, 8.0)
    else:
        assert ask(judge, said) == winner
        assert photograph(judge) == before


# -- the queue bound -------------------------------------------------------------------------------

FULL = frozenset({"queue"})


def test_a_full_queue_does_not_stop_who_may_start_at_once() -> None:
    judge = admission(violated=FULL)
    judge.scheduler.set_limit(3, (0, 0, 1, 2))
    assert ask(judge, message(), NORMAL, limited=False) is None
    assert ask(judge, message(), LOW, limited=False) == Refuse(Reason.OVERLOADED)


def test_a_busy_conversation_may_not_start_even_with_a_free_slot() -> None:
    judge = admission(violated=FULL)
    judge.scheduler.conversation_limit = 10
    judge.scheduler.set_limit(3)
    assert judge.turn(message(conversation="full"), NORMAL, True, False, NOW) == Refuse(Reason.OVERLOADED)
    assert judge.turn(message(conversation="full"), NORMAL, False, False, NOW) is None


@pytest.mark.parametrize("priority", [CRITICAL, HIGH, NORMAL])
def test_shedding_displaces_the_youngest_of_the_least_urgent_class(priority: int) -> None:
    judge = admission(Overflow.SHED_LOWEST, FULL)
    assert ask(judge, message(), priority) == Displace(judge.scheduler._queued[LOW][5])


def test_shedding_displaces_nobody_as_urgent_as_the_newcomer() -> None:
    judge = admission(Overflow.SHED_LOWEST, FULL)
    assert ask(judge, message(), LOW) == Refuse(Reason.OVERLOADED)


@pytest.mark.parametrize("full", [True, False])
def test_nobody_overtakes_a_sender_that_waits_for_room(full: bool) -> None:
    judge = admission(Overflow.WAIT, FULL if full else frozenset())
    judge.senders = 1
    judge.scheduler.set_limit(3)
    assert ask(judge, message(), CRITICAL) == Wait()


@pytest.mark.parametrize("bound", ["rate", "conversation", "sessions"])
def test_a_sender_is_refused_before_it_would_wait(bound: str) -> None:
    """Waiting for room in the queue would not help who is over another bound."""
    violated = frozenset({bound, "queue"})
    judge = admission(Overflow.WAIT, violated)
    judge.senders = 1
    assert isinstance(ask(judge, message(violated)), Refuse)


# -- the other bounds ------------------------------------------------------------------------------


def test_the_rate_limit_says_exactly_when_to_come_back() -> None:
    judge = admission(violated=frozenset({"rate"}))
    verdict = judge.turn(message(), NORMAL, True, True, NOW)
    assert isinstance(verdict, Refuse)
    assert verdict.retry_after is not None
    assert judge.turn(message(), NORMAL, True, True, NOW + verdict.retry_after) is None
    assert judge.turn(message(), NORMAL, True, True, NOW + verdict.retry_after - 1e-6) is not None


def test_an_exempt_route_and_another_user_or_tenant_are_not_limited() -> None:
    judge = admission(violated=frozenset({"rate"}))
    assert ask(judge, message(), limited=False) is None
    assert ask(judge, message(user="other")) is None
    assert ask(judge, message(tenant="other")) is None


def test_a_known_conversation_and_an_idle_session_leave_room() -> None:
    judge = admission(violated=frozenset({"sessions"}))
    assert ask(judge, message(conversation="another")) is None
    (session,) = judge.sessions
    judge.sessions.leave(session, NOW)
    assert ask(judge, message(), limited=False) is None
    assert judge.sessions.get("another") is session, "asking has evicted it"


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("x" * MAX_TEXT, True),
        ("x" * MAX_TEXT + "x", False),
        ("é" * (MAX_TEXT // 2), True),
        ("é" * (MAX_TEXT // 2) + "x", False),
        ("🦉" * (MAX_TEXT // 4), True),
        ("🦉" * (MAX_TEXT // 4) + "x", False),
        ("\ud800" * 22, False),
        ("", True),
    ],
)
def test_the_length_of_a_text_is_counted_in_bytes(text: str, fits: bool) -> None:
    assert (ask(admission(), message(text=text)) != "invalid") == fits


def test_a_text_that_is_too_long_is_named_with_bound_and_length() -> None:
    with pytest.raises(ValueError, match=r"at most 64 bytes of UTF-8, got 65: 'xxx.*raise Config.max_text"):
        admission().message(message(text="x" * 65), NOW)


def test_ids_are_remembered_by_tenant_for_a_time_and_only_when_the_sender_gave_one() -> None:
    judge = admission(violated=frozenset({"duplicate"}))
    assert judge.message(message(), NOW) == Repeat("the first")
    assert judge.message(message(tenant="other"), NOW) is None
    assert judge.message(message(), NOW + 60.0) is None
    judge.window = None
    assert judge.message(message(), NOW) is None


def test_generated_ids_are_not_looked_up() -> None:
    judge = admission()
    said = Message("c", "u", "hello", tenant="t")
    assert judge.window is not None
    judge.window.put(("t", said.id), "impossible", NOW)
    assert judge.message(said, NOW) is None
