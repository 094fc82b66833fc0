"""The books of law G1: whatever happens to messages, received = outcomes + those without one."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ccm import Reason
from ccm._core.lanes import RETRYING, RUNNING, WAITING
from ccm._core.ledger import Ledger
from ccm._outcome import OUTCOMES

PLACES = (WAITING, RUNNING, RETRYING)
FATES = tuple(name for name in OUTCOMES if name != "rejected")


class LedgerMachine(RuleBasedStateMachine):
    """Against a list that keeps every message with its place or its outcome."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.live: list[int] = []
        self.ended: list[str] = []
        self.reasons: list[str] = []

    @rule(place=st.sampled_from((WAITING, RUNNING)))
    def accept(self, place: int) -> None:
        self.ledger.accept(place)
        self.live.append(place)

    @rule(reason=st.sampled_from(Reason))
    def reject(self, reason: Reason) -> None:
        self.ledger.reject(reason)
        self.ended.append("rejected")
        self.reasons.append(reason.value)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 100), place=st.sampled_from(PLACES))
    def move(self, which: int, place: int) -> None:
        which %= len(self.live)
        self.ledger.move(self.live[which], place)
        self.live[which] = place

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 100), fate=st.sampled_from(FATES))
    def end(self, which: int, fate: str) -> None:
        self.ledger.end(self.live.pop(which % len(self.live)), fate)
        self.ended.append(fate)

    @invariant()
    def balances(self) -> None:
        ledger = self.ledger
        ledger._check()
        assert ledger.received == len(self.live) + len(self.ended)
        assert ledger.live == len(self.live)
        assert [ledger.places[place] for place in PLACES] == [self.live.count(place) for place in PLACES]
        assert ledger.outcomes == {name: self.ended.count(name) for name in OUTCOMES}
        assert ledger.by_reason == Counter(self.reasons)


TestLedger = LedgerMachine.TestCase


def test_an_empty_ledger_names_every_outcome() -> None:
    ledger = Ledger()
    assert ledger.outcomes == dict.fromkeys(OUTCOMES, 0)
    assert ledger.received == ledger.live == 0


def test_the_check_finds_a_message_that_ended_twice() -> None:
    ledger = Ledger()
    ledger.accept(WAITING)
    ledger.end(WAITING, "replied")
    ledger._check()
    ledger.end(WAITING, "failed")
    with pytest.raises(AssertionError):
        ledger._check()


def test_the_check_finds_a_message_that_was_never_received() -> None:
    ledger = Ledger()
    ledger.outcomes["replied"] += 1
    with pytest.raises(AssertionError):
        ledger._check()


def test_an_unknown_outcome_is_no_outcome() -> None:
    ledger = Ledger()
    ledger.accept(RUNNING)
    with pytest.raises(KeyError):
        ledger.end(RUNNING, "forgotten")
