"""The history of a conversation against a plain list."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ccm import HistoryEntry
from ccm._core.history import History

TURNS = st.integers(1, 5)


class HistoryMachine(RuleBasedStateMachine):
    @initialize(limit=st.integers(1, 6))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.history = History(limit)
        self.model: list[HistoryEntry] = []
        self.said = 0

    @rule(turn=TURNS, role=st.sampled_from(["user", "assistant"]), partial=st.booleans())
    def add(self, turn: int, role: str, partial: bool) -> None:
        self.said += 1
        entry = HistoryEntry(role, str(self.said), turn, partial)
        self.history.add(entry)
        self.model = [*self.model, entry][-self.limit :]

    @rule(turn=TURNS)
    def take_out(self, turn: int) -> None:
        kept = [entry for entry in self.model if entry.turn_id != turn]
        assert self.history.take_out(turn) == len(self.model) - len(kept)
        self.model = kept

    @invariant()
    def it_is_the_list(self) -> None:
        self.history._check()
        for limit in range(self.limit + 2):
            assert self.history.last(limit) == tuple(reversed(self.model[::-1][:limit]))


TestHistory = HistoryMachine.TestCase


@pytest.mark.parametrize("limit", [0, -1])
def test_a_history_has_room_for_something(limit: int) -> None:
    with pytest.raises(ValueError, match=f"limit must be >= 1, got {limit}"):
        History(limit)
