"""The session table against a plain list of sessions, longest idle first."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field
from math import inf, nan

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ccm._core.sessions import Session, SessionStatistics, SessionTable

CONVERSATIONS = st.sampled_from("abcdefgh")
USERS = st.sampled_from(["ann", "bob", "cid"])
STEPS = st.integers(0, 128).map(lambda n: n / 64)


@dataclass
class Model:
    conversation: str
    created: float
    last_active: float
    messages: int = 0
    active: int = 0
    users: list[str] = field(default_factory=list)

    def same_as(self, session: Session) -> bool:
        return (
            session.conversation == self.conversation
            and session.created == self.created
            and session.last_active == self.last_active
            and session.messages == self.messages
            and session.active == self.active
            and session.users == tuple(self.users)
        )


class SessionMachine(RuleBasedStateMachine):
    @initialize(
        max_sessions=st.integers(1, 5), timeout=st.integers(1, 256).map(lambda n: n / 64) | st.just(inf)
    )
    def begin(self, max_sessions: int, timeout: float) -> None:
        self.table = SessionTable(max_sessions=max_sessions, timeout=timeout)
        self.max, self.timeout = max_sessions, timeout
        self.now = 0.0
        self.model: dict[str, Model] = {}  # idle ones in the order in which they became idle
        self.gone: list[str] = []
        self.peak = self.created = self.expired = self.evicted = 0

    def idle(self) -> list[Model]:
        return [known for known in self.model.values() if not known.active]

    @rule(step=STEPS)
    def pass_time(self, step: float) -> None:
        self.now += step

    @rule(conversation=CONVERSATIONS, user=USERS)
    def enter(self, conversation: str, user: str) -> None:
        room = conversation in self.model or len(self.model) < self.max or bool(self.idle())
        assert self.table.has_room(conversation) == room
        if not room:
            before = self.table.statistics()
            with pytest.raises(RuntimeError, match="no room"):
                self.table.enter(conversation, "t", "ch", user, self.now)
            assert self.table.statistics() == before
            return
        session = self.table.enter(conversation, "t", "ch", user, self.now)
        if conversation not in self.model:
            self.make_room()
            self.model[conversation] = Model(conversation, self.now, self.now)
            self.created += 1
        known = self.model[conversation]
        known.messages += 1
        known.active += 1
        known.last_active = self.now
        if user not in known.users:
            known.users.append(user)
        assert self.table.get(conversation) is session
        assert (session.tenant, session.channel, session.replies, session.failures) == ("t", "ch", 0, 0)

    def make_room(self) -> None:
        if len(self.model) == self.max:
            longest_idle = self.idle()[0].conversation
            del self.model[longest_idle]
            self.gone = [*self.gone, longest_idle][-self.max :]
            self.evicted += 1

    @rule(conversation=CONVERSATIONS)
    def hold(self, conversation: str) -> None:
        if conversation not in self.model:
            return
        session = self.table.get(conversation)
        assert session is not None
        if self.model[conversation].active:
            self.table.hold(session)
            self.model[conversation].active += 1
        else:
            with pytest.raises(RuntimeError, match="is idle"):
                self.table.hold(session)

    @rule(conversation=CONVERSATIONS)
    def leave(self, conversation: str) -> None:
        if conversation not in self.model:
            return
        session = self.table.get(conversation)
        assert session is not None
        if not self.model[conversation].active:
            with pytest.raises(RuntimeError, match="no turn left"):
                self.table.leave(session, self.now)
            return
        self.table.leave(session, self.now)
        known = self.model.pop(conversation)
        known.active -= 1
        known.last_active = self.now
        self.model[conversation] = known

    @rule()
    def expire(self) -> None:
        over = [known.conversation for known in self.idle() if known.last_active + self.timeout <= self.now]
        assert [session.conversation for session in self.table.expire(self.now)] == over
        for conversation in over:
            del self.model[conversation]
        self.expired += len(over)
        assert self.table.next_deadline() > self.now

    @precondition(lambda self: self.table.next_deadline() < inf)
    @rule()
    def expire_at_the_deadline(self) -> None:
        self.now = max(self.now, self.table.next_deadline())
        held = len(self.table)
        self.expire()
        assert len(self.table) < held

    @rule()
    def take_evicted(self) -> None:
        assert [session.conversation for session in self.table.take_evicted()] == self.gone
        self.gone = []

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "table"):
            return
        self.table._check()
        assert {session.conversation for session in self.table} == set(self.model)
        assert all(self.model[session.conversation].same_as(session) for session in self.table)
        idle = self.idle()
        active = len(self.model) - len(idle)
        self.peak = max(self.peak, active)
        assert self.table.next_deadline() == (idle[0].last_active + self.timeout if idle else inf)
        assert self.table.statistics() == SessionStatistics(
            active=active,
            idle=len(idle),
            total=len(self.model),
            max=self.max,
            utilisation=active / self.max,
            peak=self.peak,
            created=self.created,
            expired=self.expired,
            evicted=self.evicted,
        )


TestSessions = SessionMachine.TestCase


def table(max_sessions: int = 10, timeout: float = 10.0) -> SessionTable:
    return SessionTable(max_sessions=max_sessions, timeout=timeout)


def test_an_active_session_never_goes_and_the_longest_idle_goes_first() -> None:
    sessions = table(max_sessions=3)
    first = sessions.enter("a", "", "", "ann", 0.0)
    sessions.leave(sessions.enter("b", "", "", "ann", 1.0), 1.0)
    sessions.leave(sessions.enter("c", "", "", "ann", 2.0), 2.0)
    sessions.leave(sessions.enter("b", "", "", "ann", 3.0), 3.0)
    sessions.enter("d", "", "", "ann", 4.0)
    sessions.enter("e", "", "", "ann", 5.0)
    assert [session.conversation for session in sessions.take_evicted()] == ["c", "b"]
    assert sessions.take_evicted() == []
    assert sessions.expire(1e9) == []
    assert not sessions.has_room("f")
    sessions.leave(first, 6.0)
    assert sessions.has_room("f")


def test_an_idle_session_that_is_entered_again_starts_its_time_anew() -> None:
    sessions = table()
    sessions.leave(sessions.enter("a", "", "", "ann", 0.0), 0.0)
    again = sessions.enter("a", "", "", "ann", 9.0)
    assert sessions.next_deadline() == inf
    sessions.leave(again, 9.5)
    assert sessions.next_deadline() == 19.5
    assert sessions.expire(19.5) == [again]
    assert sessions.get("a") is None


def test_a_session_that_is_gone_can_neither_be_held_nor_left() -> None:
    sessions = table(max_sessions=1)
    old = sessions.enter("a", "", "", "ann", 0.0)
    sessions.leave(old, 0.0)
    sessions.enter("b", "", "", "ann", 0.0)
    with pytest.raises(RuntimeError, match="'a'"):
        sessions.hold(old)
    with pytest.raises(RuntimeError, match="'a'"):
        sessions.leave(old, 0.0)
    sessions._check()


def test_users_are_distinct_in_order_and_bounded() -> None:
    sessions = table()
    for name in ["zoe", "ann", "zoe", *map(str, range(100))]:
        session = sessions.enter("a", "", "", name, 0.0)
    assert session.users == ("zoe", "ann", *map(str, range(62)))
    assert session.messages == session.active == 103
    sessions._check()


def test_evicted_sessions_that_nobody_takes_stay_bounded() -> None:
    sessions = table(max_sessions=2)
    for n in range(10):
        sessions.leave(sessions.enter(str(n), "", "", "ann", float(n)), float(n))
    assert [session.conversation for session in sessions.take_evicted()] == ["6", "7"]


def test_a_clock_that_goes_back_stands_still() -> None:
    sessions = table()
    sessions.leave(sessions.enter("a", "", "", "ann", 50.0), 100.0)
    later = sessions.enter("b", "", "", "ann", 20.0)
    sessions.leave(later, 30.0)
    sessions._check()
    assert later.created == later.last_active == 100.0
    assert len(sessions.expire(110.0)) == 2


def test_a_hundred_thousand_idle_sessions_are_small() -> None:
    tracemalloc.start()
    try:
        sessions = table(max_sessions=100_000, timeout=inf)
        for n in range(100_000):
            session = sessions.enter(f"conversation {n}", "guild", "general", f"user {n}", float(n))
            sessions.leave(session, n + 0.5)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sessions.statistics().idle == 100_000
    assert held < 45 * 2**20  # with the strings that name the conversation and its user


@pytest.mark.parametrize("timeout", [0.0, -1.0, nan])
def test_a_timeout_outside_its_range_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be above 0"):
        SessionTable(max_sessions=1, timeout=timeout)


def test_a_bound_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_sessions must be 1 or more"):
        SessionTable(max_sessions=0, timeout=1.0)
