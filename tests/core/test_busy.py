"""What a message does to a busy conversation: the whole table, and a state machine over a conversation."""

from __future__ import annotations

from itertools import product
from math import inf

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ccm import OnBusy
from ccm._core.busy import Bounce, Decision, Hand, Join, Proceed, Supersede, decide
from ccm._core.lanes import RUNNING, WAITING, Entry

NOW, ARRIVED = 100.0, 99.0
ALL = list(OnBusy)


def entry(id: int, state: int, arrived: float = ARRIVED) -> Entry:
    made = Entry(id, "c", "", 2, arrived)
    made.state = state
    return made


def expected(
    policy: OnBusy, running: Entry | None, waiting: tuple[Entry, ...], joinable: Entry | None
) -> Decision:
    """The table of the six policies, row by row."""
    busy = running is not None or waiting != ()
    match policy:
        case OnBusy.MERGE:
            return Join(joinable, NOW) if joinable is not None else Proceed(NOW)
        case OnBusy.REJECT if busy:
            return Bounce()
        case OnBusy.STEER if running is not None and not waiting:
            return Hand(running)
        case OnBusy.INTERRUPT | OnBusy.ROLLBACK if busy:
            return Supersede(running, waiting, policy is OnBusy.ROLLBACK)
        case _:
            return Proceed()


@pytest.mark.parametrize(("policy", "runs", "waits"), list(product(ALL, [False, True], [0, 1, 3])))
def test_the_whole_table(policy: OnBusy, runs: bool, waits: int) -> None:
    running = entry(1, RUNNING) if runs else None
    waiting = tuple(entry(2 + n, WAITING) for n in range(waits))
    for joinable in (None, *waiting[-1:]):
        found = decide(policy, running, waiting, NOW, joinable=joinable, settle=0.0, max_settle=5.0)
        assert found == expected(policy, running, waiting, joinable)


@pytest.mark.parametrize("policy", ALL)
def test_a_quiet_conversation_is_never_held_up_but_by_merge(policy: OnBusy) -> None:
    found = decide(policy, None, (), NOW, settle=2.0, max_settle=5.0)
    assert found == (Proceed(NOW + 2.0) if policy is OnBusy.MERGE else Proceed())


@pytest.mark.parametrize(
    ("settle", "max_settle", "arrived", "not_before"),
    [
        (0.0, 5.0, 99.0, 100.0),
        (2.0, 5.0, 99.0, 102.0),
        (2.0, 2.5, 99.0, 101.5),  # the bound counts from the first message
        (2.0, 0.5, 99.0, 99.5),  # it passed while the turn had to wait for something else
        (inf, 5.0, 99.0, 104.0),
    ],
)
def test_a_joined_turn_starts_when_it_is_quiet_and_at_the_bound_at_the_latest(
    settle: float, max_settle: float, arrived: float, not_before: float
) -> None:
    host = entry(1, WAITING, arrived)
    found = decide(OnBusy.MERGE, None, (host,), NOW, joinable=host, settle=settle, max_settle=max_settle)
    assert found == Join(host, not_before)


def test_the_first_message_settles_within_the_bound_too() -> None:
    assert decide(OnBusy.MERGE, None, (), NOW, settle=9.0, max_settle=0.5) == Proceed(NOW + 0.5)


def test_a_turn_that_has_started_is_not_joined() -> None:
    started = entry(1, RUNNING)
    assert decide(OnBusy.MERGE, started, (), NOW, joinable=started) == Proceed(NOW)


TICK = 1 / 64


class BusyMachine(RuleBasedStateMachine):
    """A conversation that does what was decided: whatever was typed, the promises of each policy hold."""

    @initialize(settle=st.integers(0, 64), max_settle=st.integers(0, 128))
    def begin(self, settle: int, max_settle: int) -> None:
        self.now = 0.0
        self.settle, self.max_settle = settle * TICK, max_settle * TICK
        self.ids = 0
        self.running: Entry | None = None
        self.waiting: list[Entry] = []
        self.mergeable: set[int] = set()
        self.handed: list[int] = []
        self.joined: dict[int, list[float]] = {}

    @rule(policy=st.sampled_from(ALL))
    def message(self, policy: OnBusy) -> None:
        last = self.waiting[-1] if self.waiting else None
        joinable = last if last is not None and last.id in self.mergeable else None
        decision = decide(
            policy, self.running, tuple(self.waiting), self.now, joinable=joinable, settle=self.settle,
            max_settle=self.max_settle,
        )  # fmt: skip
        self.ids += 1
        match decision:
            case Bounce():
                assert policy is OnBusy.REJECT
            case Hand(host):
                # It may not be read before a message that came earlier and still waits.
                assert host is self.running
                assert not self.waiting
                self.handed.append(self.ids)
            case Join(host, not_before):
                assert host is self.waiting[-1]
                self.joined[host.id].append(self.now)
                host.not_before = not_before
            case Supersede(running, waiting, _):
                assert (running, list(waiting)) == (self.running, self.waiting)
                self.running, self.waiting = None, []
                self.put(0.0, merge=False)
            case Proceed(not_before):
                self.put(not_before, merge=policy is OnBusy.MERGE)

    def put(self, not_before: float, *, merge: bool) -> None:
        new = entry(self.ids, WAITING, self.now)
        new.not_before = not_before
        self.waiting.append(new)
        self.joined[new.id] = [self.now]
        if merge:
            self.mergeable.add(new.id)

    @rule(ticks=st.integers(0, 64))
    def time_passes(self, ticks: int) -> None:
        self.now += ticks * TICK

    @precondition(lambda self: self.running is None and self.waiting)
    @rule()
    def start(self) -> None:
        head = self.waiting[0]
        self.now = max(self.now, head.not_before)
        self.waiting.pop(0)
        self.running, head.state = head, RUNNING

    @precondition(lambda self: self.running is not None)
    @rule()
    def finish(self) -> None:
        self.running = None

    @invariant()
    def nobody_is_postponed_for_ever(self) -> None:
        for turn in self.waiting:
            first, last = self.joined[turn.id][0], self.joined[turn.id][-1]
            if turn.id in self.mergeable:
                assert turn.not_before == min(last + self.settle, first + self.max_settle)
            else:
                assert turn.not_before in (0.0, min(last + self.settle, first + self.max_settle))

    @invariant()
    def the_order_is_that_of_arrival(self) -> None:
        ids = [turn.id for turn in self.waiting]
        assert ids == sorted(ids)


TestBusy = BusyMachine.TestCase
