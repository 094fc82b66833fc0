"""The protocol against a server that may send anything at any time."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ccm.discord._actions import Action, Close, Deliver, Dial, Fatal, Identify, SavedSession, Send
from ccm.discord._models import Event, Gap, Ready, Resumed
from ccm.discord._protocol import Protocol
from tests.discord_client.scripted import FIRST, RESUME

FATAL = {4004, *range(4010, 4015)}
NEW = {4003, 4005, 4007, 4009}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(
        st.sampled_from(["heartbeat_interval", "session_id", "user", "guilds"]), st.integers(), max_size=2
    ),
)
SEQ = st.one_of(st.integers(0, 40), st.sampled_from([None, True, -1, 1.5, "3", 2**70]))
KINDS: Any = st.sampled_from(["MESSAGE_CREATE", "READY", "RESUMED", "", None, 5, []])
CODES = st.one_of(st.none(), st.integers(4000, 4015), st.sampled_from([1000, 1001, 1005, 1006, 1011, 4900]))
HELLO = {"op": 10, "d": {"heartbeat_interval": 10_000}}


def ready(seq: Any = 1) -> dict[str, Any]:
    data = {"session_id": "s", "resume_gateway_url": RESUME, "user": {"id": "1"}, "guilds": [{"id": "2"}]}
    return {"op": 0, "t": "READY", "s": seq, "d": data}


class ProtocolMachine(RuleBasedStateMachine):
    @initialize(saved=st.booleans(), draws=st.randoms(use_true_random=False))
    def begin(self, saved: bool, draws: Any) -> None:
        session = SavedSession("old", 7, RESUME) if saved else None
        self.protocol = Protocol(token="t", intents=1, url=FIRST, random=draws.random, saved=session)
        self.now = 0.0
        self.plan: Dial | Fatal | None = self.protocol.start(0.0)
        self.connected = self.closing = self.permitted = False
        self.sessions = 0  # IDENTIFY and RESUME sent on this connection
        self.resumes = 0  # in a row
        self.resumable = saved  # what the server would let us go on with
        self.sends: list[float] = []
        self.unanswered, self.heard = 0, 0.0  # due heartbeats without an answer; when the last frame came

    def do(self, actions: tuple[Action, ...]) -> None:
        assert not (actions and self.closing), "after a close nothing counts"
        for action in actions:
            if isinstance(action, Close):
                assert action.code == 4000
                self.closing = True
            elif isinstance(action, Send):
                self.sends.append(self.now)
                if action.op in (2, 6):
                    self.sessions += 1
                    assert (action.op == 2) == self.permitted
                if action.op == 6:
                    self.resumes += 1
                    assert self.resumes <= 3
                    assert self.resumable
            elif isinstance(action, Identify):
                assert self.sessions == 0
            elif isinstance(action, Deliver) and isinstance(action.event, Ready | Resumed):
                self.resumes = 0
        assert self.sessions <= 1

    @rule(step=st.integers(0, 320).map(lambda n: n / 16))
    def pass_time(self, step: float) -> None:
        end = self.now + step
        while self.connected and (due := self.protocol.next_deadline()) <= end:
            self.now = max(self.now, due)
            actions = self.protocol.tick(self.now)
            assert actions, "a deadline that brings nothing is a busy loop"
            self.do(actions)
            if isinstance(actions[0], Send):
                link = self.protocol._link
                assert link is not None
                if self.unanswered:
                    assert self.now - self.heard <= link.interval / 4, "nobody is there, and another is sent"
                self.unanswered += 1
                assert self.unanswered <= 3, "so many were not answered, and another is sent"
        self.now = end

    @precondition(lambda self: not self.connected and isinstance(self.plan, Dial))
    @rule(works=st.booleans())
    def dial(self, works: bool) -> None:
        assert isinstance(self.plan, Dial)
        assert self.plan.url.startswith((FIRST, RESUME))
        assert self.plan.at - self.now <= 60 or self.plan.at <= self.now
        self.now = max(self.now, self.plan.at)
        if not works:
            self.plan = self.protocol.handshake_failed(self.now)
            assert self.plan.url.startswith(FIRST)
            return
        self.protocol.opened(self.now)
        self.connected, self.closing, self.permitted, self.sessions = True, False, False, 0
        self.sends, self.unanswered, self.heard = [], 0, self.now
        if not self.plan.resume:
            self.resumes, self.resumable = 0, False

    @precondition(lambda self: self.connected)
    @rule(payload=st.one_of(
        st.just(HELLO),
        st.builds(ready, SEQ),
        st.builds(lambda s, t, d: {"op": 0, "s": s, "t": t, "d": d}, SEQ, KINDS, ODD),
        st.builds(lambda op, d: {"op": op, "d": d}, st.integers(-1, 12), ODD),
        st.dictionaries(st.sampled_from(["op", "d", "s", "t"]), ODD, max_size=4),
        ODD,
    ))  # fmt: skip
    def receive(self, payload: Any) -> None:
        if payload == {"op": 9, "d": False} and not self.closing:
            self.resumable = False
        if isinstance(payload, dict) and payload.get("op") in (11, 10):
            self.unanswered = 0
        self.heard = self.now
        self.protocol.heard(self.now)
        actions = self.protocol.receive(payload, self.now)
        if any(isinstance(action, Deliver) and isinstance(action.event, Ready) for action in actions):
            self.resumable = True
        self.do(actions)

    @precondition(lambda self: self.connected)
    @rule()
    def permit(self) -> None:
        self.permitted = True
        self.do(self.protocol.identify(self.now))
        self.permitted = False

    @precondition(lambda self: self.connected)
    @rule(broken=st.booleans())
    def garbage(self, broken: bool) -> None:
        actions = self.protocol.broken("x") if broken else self.protocol.undecodable(self.now)
        assert self.closing == (actions == ())
        self.do(actions)

    @precondition(lambda self: self.connected)
    @rule(many=st.integers(1, 60))
    def send(self, many: int) -> None:
        for _ in range(many):
            answer = self.protocol.send(3, None, self.now)
            if not isinstance(answer, Send):
                assert answer > self.now
                assert (answer < math.inf) == self.protocol.live
                return
            assert self.protocol.live
            self.do((answer,))

    @precondition(lambda self: self.connected)
    @rule(many=st.integers(1, 130))
    def ask_for_heartbeats(self, many: int) -> None:
        for _ in range(many):
            self.do(self.protocol.receive({"op": 1}, self.now))

    @precondition(lambda self: self.connected)
    @rule(code=CODES)
    def close(self, code: int | None) -> None:
        self.plan = self.protocol.closed(code, self.now)
        self.connected = False
        assert isinstance(self.plan, Fatal) == (code in FATAL)
        if code in NEW:
            assert isinstance(self.plan, Dial)
            assert not self.plan.resume
            assert self.plan.url.startswith(FIRST)

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "protocol"):
            self.protocol._check()
            recent = [time for time in self.sends if time > self.now - 60]
            assert len(recent) <= 120


TestProtocol = ProtocolMachine.TestCase


# -- one by one ------------------------------------------------------------------------------------


def live(seq: Any = 1) -> Protocol:
    protocol = Protocol(token="t", intents=1, url=FIRST, random=lambda: 0.5)
    protocol.start(0.0)
    protocol.opened(0.0)
    assert protocol.receive(HELLO, 0.0) == (Identify(),)
    assert protocol.next_deadline() == 5.0
    protocol.identify(0.0)
    protocol.receive(ready(seq), 0.0)
    return protocol


def test_heartbeats_carry_the_last_number_or_null() -> None:
    protocol = live(None)
    assert protocol.tick(5.0) == (Send(1, None),)
    protocol.receive({"op": 0, "t": "X", "s": 9}, 5.0)
    protocol.receive({"op": 0, "t": "X", "s": 4}, 5.0)
    protocol.receive({"op": 0, "t": "X"}, 5.0)
    assert protocol.receive({"op": 1}, 5.0) == (Send(1, 9),)


def beats(protocol: Protocol, *, data: float, answers: bool, until: float) -> list[float]:
    """When heartbeats are sent if a frame comes every `data` seconds, and when the connection ends."""
    times: list[float] = []
    now, frame = 0.0, data
    while now < until:
        due = protocol.next_deadline()
        if frame <= due:
            now, frame = frame, frame + data
            protocol.heard(now)
            protocol.receive({"op": 0, "t": "X", "s": None}, now)
            continue
        now = due
        (action,) = protocol.tick(now)
        times.append(now)
        if isinstance(action, Close):
            break
        if answers:
            protocol.heard(now)
            protocol.receive({"op": 11}, now)
    return times


def test_an_answer_may_stand_behind_a_burst_but_has_to_come() -> None:
    assert beats(live(), data=1.0, answers=False, until=100.0) == [5.0, 15.0, 25.0, 35.0]
    assert beats(live(), data=1.0, answers=True, until=50.0) == [5.0, 15.0, 25.0, 35.0, 45.0]


def test_a_peer_that_falls_silent_after_a_heartbeat_is_left_before_the_next() -> None:
    protocol = live()
    protocol.tick(5.0)
    protocol.heard(12.4)  # more than a quarter of the interval ago
    (action,) = protocol.tick(15.0)
    assert isinstance(action, Close)
    protocol = live()
    protocol.tick(5.0)
    protocol.heard(12.5)
    assert protocol.tick(15.0) == (Send(1, 1),)
    protocol.receive({"op": 11}, 16.0)  # of both
    assert protocol.tick(25.0) == (Send(1, 1),)
    assert isinstance(protocol.tick(35.0)[0], Close)


def test_a_second_hello_sets_a_new_rhythm_and_begins_no_session() -> None:
    protocol = live()
    protocol.tick(5.0)  # not answered
    assert protocol.receive(HELLO, 6.0) == ()
    assert protocol.next_deadline() == 11.0
    assert protocol.tick(11.0) == (Send(1, 1),)


def test_the_state_of_a_connection_goes_with_it() -> None:
    protocol = live()
    protocol.tick(5.0)  # not answered
    plan = protocol.closed(None, 6.0)
    assert plan == Dial(6.0, f"{RESUME}/?v=10&encoding=json", True)
    protocol.opened(6.0)
    assert protocol.receive(HELLO, 6.0)[0] == Send(6, {"token": "t", "session_id": "s", "seq": 1})
    assert protocol.tick(11.0) == (Send(1, 1),)


def test_a_short_life_is_no_stable_one() -> None:
    protocol = live()
    plans = []
    for _ in range(3):
        plan = protocol.closed(None, 10.0)
        assert isinstance(plan, Dial)
        plans.append(plan.at)
        protocol.opened(10.0)
        protocol.receive(HELLO, 10.0)
        protocol.receive({"op": 0, "t": "RESUMED", "s": 2}, 10.0)
    assert plans == [10.0, 11.0, 12.0]
    plan = protocol.closed(None, 40.0)
    assert isinstance(plan, Dial)
    assert plan.at == 40.0


def test_a_ready_in_place_of_resumed_is_a_new_session() -> None:
    protocol = live()
    protocol.closed(None, 1.0)
    protocol.opened(1.0)
    protocol.receive(HELLO, 1.0)
    (action,) = protocol.receive(ready(), 1.0)
    assert isinstance(action, Deliver)
    assert isinstance(action.event, Ready)
    assert action.event.new_session


@pytest.mark.parametrize("sequence", [[2, 3], [None, 2], [2, None]])
def test_replays_without_holes_are_no_gap(sequence: list[int | None]) -> None:
    protocol = live()
    protocol.closed(None, 1.0)
    protocol.opened(1.0)
    protocol.receive(HELLO, 1.0)
    first = protocol.receive({"op": 0, "t": "A", "s": sequence[0]}, 1.0)
    then = protocol.receive({"op": 0, "t": "RESUMED", "s": sequence[1]}, 1.0)
    last = protocol.receive({"op": 0, "t": "B", "s": (protocol.seq or 0) + 1}, 1.0)
    found = [action.event for action in first + then + last if isinstance(action, Deliver)]
    assert not any(isinstance(event, Gap) for event in found)
    assert Resumed(1) in found


def gaps(actions: tuple[Action, ...]) -> list[Gap]:
    return [
        action.event for action in actions if isinstance(action, Deliver) and isinstance(action.event, Gap)
    ]


def test_numbers_that_are_left_out_while_a_session_is_live_are_told_in_their_place() -> None:
    protocol = live()
    assert gaps(protocol.receive({"op": 0, "t": "A", "s": 2}, 1.0)) == []
    actions = protocol.receive({"op": 0, "t": "A", "s": 5}, 1.0)
    gap, event = (action.event for action in actions if isinstance(action, Deliver))
    assert gap == Gap("hole", 2, 2)
    assert isinstance(gap, Gap)
    assert isinstance(event, Event)
    assert (gap.seq, gap.session, event.seq) == (3, event.session, 5)
    # What comes late or again, and what has no number, leaves no hole.
    assert not any(gaps(protocol.receive({"op": 0, "t": "A", "s": seq}, 1.0)) for seq in (4, 5, None, 6))
    assert gaps(protocol.receive({"op": 0, "s": 8}, 1.0)) == [Gap("hole", 1, 1)]  # also without a name
    assert protocol.holes == 3


def test_what_cannot_be_read_is_told_once() -> None:
    protocol = live()
    told = [*protocol.undecodable(1.0), *protocol.undecodable(1.0)]
    assert gaps(tuple(told)) == [Gap("undecodable", 1, 1)] * 2
    assert gaps(protocol.receive({"op": 0, "t": "A", "s": 5}, 1.0)) == [Gap("hole", 1, 1)]
    protocol.undecodable(1.0)  # no event, as the next number shows
    assert gaps(protocol.receive({"op": 0, "t": "A", "s": 6}, 1.0)) == []
    assert gaps(protocol.receive({"op": 0, "t": "A", "s": 8}, 1.0)) == [Gap("hole", 1, 1)]
    assert protocol.holes == 2


def test_numbers_before_there_is_a_session_leave_no_hole() -> None:
    protocol = Protocol(token="t", intents=1, url=FIRST, random=lambda: 0.5)
    protocol.opened(0.0)
    protocol.receive(HELLO, 0.0)
    for seq in (1, 5, 9):
        assert gaps(protocol.receive({"op": 0, "t": "A", "s": seq}, 0.0)) == []
    protocol.identify(0.0)
    protocol.undecodable(0.0)  # of no session, so it explains no hole in one
    assert gaps(protocol.receive(ready(20), 0.0)) == []
    assert gaps(protocol.receive({"op": 0, "t": "A", "s": 22}, 0.0)) == [Gap("hole", 1, 1)]


def test_heartbeats_that_are_asked_for_leave_room_for_those_that_are_due() -> None:
    protocol = live()
    answers = [protocol.receive({"op": 1}, 0.0) for _ in range(200)]
    sent = 1 + sum(map(len, answers))  # IDENTIFY counts, too
    for due in (5.0, 15.0, 25.0, 35.0, 45.0, 55.0):
        assert protocol.tick(due) == (Send(1, 1),)
        protocol.receive({"op": 11}, due)
        sent += 1
    assert 100 < sent <= 120
    assert protocol.receive({"op": 1}, 60.0) == (Send(1, 1),)


@pytest.mark.parametrize("phase", ["identify", "resume"])
def test_a_session_that_is_asked_for_and_does_not_come_is_not_waited_for_for_ever(phase: str) -> None:
    saved = SavedSession("old", 7, RESUME) if phase == "resume" else None
    protocol = Protocol(token="t", intents=1, url=FIRST, random=lambda: 0.5, saved=saved)
    protocol.opened(0.0)
    protocol.receive({"op": 10, "d": {"heartbeat_interval": 3_600_000}}, 0.0)
    protocol.identify(0.0)
    assert protocol.next_deadline() == 60.0
    (close,) = protocol.tick(60.0)
    assert isinstance(close, Close)
    assert phase in close.why


def test_connections_are_opened_and_closed_in_turn() -> None:
    protocol = live()
    with pytest.raises(RuntimeError, match="already"):
        protocol.opened(0.0)
    with pytest.raises(RuntimeError, match="say closed"):
        protocol.handshake_failed(0.0)
    protocol.closed(None, 0.0)
    with pytest.raises(RuntimeError, match="not connected"):
        protocol.closed(None, 0.0)
