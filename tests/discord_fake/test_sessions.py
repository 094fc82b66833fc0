"""The fake's own rules: its sessions against a simple model, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.discord_fake.rules import TOKEN, Faults, Rules
from tests.discord_fake.sessions import Hangup, Hub, Link
from tests.discord_fake.world import World

QUERY = {"v": "10", "encoding": "json"}
IDENTITY: dict[str, Any] = {"token": TOKEN, "intents": 512, "properties": {"os": "x"}, "shard": [0, 1]}
REPLAY = 8


class Client:
    """A client that is as simple as can be: what it has seen of its session, and one connection."""

    def __init__(self) -> None:
        self.session = ""
        self.seq = 0
        self.link: Link | None = None


class Sessions(RuleBasedStateMachine):
    """One client, whose session must be in the end what the model says: all events, once, in order.

    `told` is every message of the session by number; `ended` says whether it may still be resumed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.limits = Rules(identify_spacing=0.0, replay=REPLAY, session_ttl=100.0, heartbeat_interval=1000.0)
        self.hub = Hub(self.limits, Faults())
        self.world = World(lambda: 1.8e9 + self.now, self.hub.tell)
        self.hub.world = self.world
        self.client = Client()
        self.said = 0
        self.expected: list[str] = []
        self.seen: list[str] = []
        self.alive = False
        self.left: float | None = None
        self.numbers: list[int] = []

    def connect(self, op: int, data: Any) -> list[Any]:
        link = self.client.link = self.hub.open("gateway", QUERY, self.now, lambda: None)
        link.begin()
        assert json.loads(str(link.out.popleft()))["op"] == 10
        link.receive(json.dumps({"op": op, "d": data}), self.now)
        return self.read()

    def read(self) -> list[Any]:
        """Take in what was sent."""
        link = self.client.link
        assert link is not None
        found: list[Any] = []
        while link.out:
            entry = link.out.popleft()
            found.append(entry if isinstance(entry, Hangup) else json.loads(entry))
            if isinstance(entry, str) and found[-1]["op"] == 0:
                payload = found[-1]
                assert payload["s"] > self.client.seq
                self.client.seq = payload["s"]
                if payload["t"] == "READY":
                    self.client.session = payload["d"]["session_id"]
                elif payload["t"] == "MESSAGE_CREATE":
                    self.seen.append(payload["d"]["id"])
        return found

    @precondition(lambda self: self.client.link is None)
    @rule()
    def identify(self) -> None:
        self.client.seq = 0
        self.expected, self.seen = [], []
        found = self.connect(2, IDENTITY)
        assert found[0]["t"] == "READY"
        self.alive, self.left = True, None

    @precondition(lambda self: self.client.link is None and self.client.session)
    @rule()
    def resume(self) -> None:
        missed = self.hub.sessions[self.client.session].seq - self.client.seq if self.alive else 0
        expired = self.left is not None and self.now - self.left >= self.limits.session_ttl
        found = self.connect(6, {"token": TOKEN, "session_id": self.client.session, "seq": self.client.seq})
        if not self.alive or expired or missed > REPLAY:
            assert [(each["op"], each["d"]) for each in found] == [(9, False)]
            self.forget()
            assert self.client.link is not None
            self.client.link.gone(4000, self.now)
            self.client.link = None
        else:
            assert found[-1]["t"] == "RESUMED"
            assert self.seen == self.expected
            self.left = None

    @precondition(lambda self: self.client.link is not None)
    @rule()
    def resume_from_the_future(self) -> None:
        link = self.hub.open("resume", QUERY, self.now, lambda: None)
        seq = self.hub.sessions[self.client.session].seq + 1
        link.receive(
            json.dumps({"op": 6, "d": {"token": TOKEN, "session_id": self.client.session, "seq": seq}}),
            self.now,
        )
        assert link.out.pop() == Hangup(4007)
        link.gone(None, self.now)

    @rule(count=st.integers(1, 6))
    def say(self, count: int) -> None:
        for _ in range(count):
            made = self.world.say("x")
            self.said += 1
            if self.alive:
                self.expected.append(made["id"])

    @precondition(lambda self: self.client.link is not None)
    @rule()
    def hear(self) -> None:
        self.read()
        assert self.seen == self.expected

    @precondition(lambda self: self.client.link is not None)
    @rule(code=st.sampled_from([None, 1000, 1001, 4000, 3000]), server=st.booleans())
    def cut(self, code: int | None, server: bool) -> None:
        """What was not read is lost on the way."""
        link = self.client.link
        assert link is not None
        if server:
            link.close(None)
        link.gone(code, self.now)
        self.client.link = None
        self.left = self.now
        if code in (1000, 1001) and not server:
            self.forget()

    def forget(self) -> None:
        self.alive, self.left = False, None

    @precondition(lambda self: self.client.link is not None)
    @rule(code=st.sampled_from([4003, 4005, 4007, 4009]))
    def end(self, code: int) -> None:
        link = self.client.link
        assert link is not None
        link.close(code)
        assert link.out.pop() == Hangup(code)
        link.gone(code, self.now)
        self.client.link = None
        self.forget()

    @rule(seconds=st.sampled_from([1.0, 50.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def all_is_well(self) -> None:
        self.hub._check()
        assert self.seen == self.expected[: len(self.seen)]


TestSessions = Sessions.TestCase


def opened(rules: Rules | None = None) -> Link:
    hub = Hub(rules or Rules(), Faults())
    hub.world = World(lambda: 1.8e9, hub.tell)
    link = hub.open("gateway", QUERY, 0.0, lambda: None)
    link.begin()
    return link


@pytest.mark.parametrize(
    ("code", "frames"),
    [
        (4001, ["99 null"]),
        (4002, ["no"]),
        (4002, ['3 "' + "x" * 4096 + '"']),
        (4002, ['1 "five"']),
        (4003, ["3 {}"]),
        (4004, [{"token": "wrong"}]),
        (4005, [{}, {}]),
        (4002, [{"intents": "512"}]),
        (4002, [{"intents": True}]),
        (4002, [{"properties": None}]),
        (4010, [{"shard": [1, 1]}]),
        (4013, [{"intents": 1 << 50}]),
        (4002, [{}, "3 {}"]),
        (4008, ["1 null"] * 121),
    ],
)
def test_what_a_client_may_not_say(code: int, frames: list[Any]) -> None:
    link = opened()
    for frame in frames:
        if isinstance(frame, dict):
            link.receive(json.dumps({"op": 2, "d": {**IDENTITY, **frame}}), 0.0)
        elif frame[0].isdigit():
            op, _, data = frame.partition(" ")
            link.receive(f'{{"op": {op}, "d": {data}}}', 0.0)
        else:
            link.receive(frame, 0.0)
    assert link.out.pop() == Hangup(code)


def test_one_session_too_many_costs_the_token() -> None:
    rules = Rules(session_total=2, identify_spacing=0.0)
    hub = Hub(rules, Faults())
    hub.world = World(lambda: 1.8e9, hub.tell)
    for count in range(3):
        link = hub.open("gateway", QUERY, 0.0, lambda: None)
        link.receive(json.dumps({"op": 2, "d": IDENTITY}), 0.0)
        assert link.closing == (count == 2)
    assert hub.starts.reset
    assert rules.token != TOKEN
    assert all(link.out[-1] == Hangup(4004) for link in hub.links)


def test_a_client_that_is_silent_is_cut() -> None:
    link = opened()
    link.tick(link.next_deadline() - 0.1)
    assert not link.closing
    link.tick(link.next_deadline())
    assert link.out.pop() == Hangup(4000)


def test_without_the_intent_only_what_concerns_the_bot_can_be_read() -> None:
    link = opened()
    link.receive(json.dumps({"op": 2, "d": {**IDENTITY, "intents": (1 << 9) | (1 << 12)}}), 0.0)
    world = link._hub.world
    assert world is not None
    world.say("secret")
    world.say("for the bot", mentions=[world.bot])
    world.say("private", channel=world.private(world.person))
    texts = [json.loads(text)["d"]["content"] for text in link.out if '"MESSAGE_CREATE"' in str(text)]  # type: ignore[arg-type]
    assert texts == ["", "for the bot", "private"]
