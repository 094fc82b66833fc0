"""What was said in a conversation lately, in the order in which it was handled."""

from __future__ import annotations

from typing import final

import attrs


@final
@attrs.frozen
class HistoryEntry:
    """One utterance.

    Attributes:
        role: "user" or "assistant".
        text: what was said.
        turn_id: the turn it belongs to.
        partial: the assistant was interrupted while saying it.
        message_id: the message in which a user said it; "" for the assistant.
    """

    role: str
    text: str
    turn_id: int
    partial: bool = False
    message_id: str = ""


@final
class History:
    """The last utterances of one conversation, at most `limit`; the oldest are forgotten first.

    Turns of a conversation do not overlap, so what a turn says is never mixed with another's. Invariant:
    at most `limit` entries.
    """

    __slots__ = ("_entries", "_limit")

    def __init__(self, limit: int = 100) -> None:
        if limit < 1:
            raise ValueError(f"limit must be >= 1, got {limit!r}")
        self._limit = limit
        self._entries: list[HistoryEntry] = []

    def add(self, entry: HistoryEntry) -> None:
        """Append an utterance. O(limit) at worst."""
        self._entries.append(entry)
        if len(self._entries) > self._limit:
            del self._entries[0]

    def take_out(self, turn_id: int, message_id: str | None = None) -> int:
        """Forget what a turn said, questions included; how many entries that were. O(limit).

        With `message_id`, only what was said in that message of the turn.
        """
        before = len(self._entries)
        self._entries = [
            entry for entry in self._entries
            if entry.turn_id != turn_id or message_id not in (None, entry.message_id)
        ]  # fmt: skip
        return before - len(self._entries)

    def last(self, limit: int) -> tuple[HistoryEntry, ...]:
        """The last `limit` utterances, oldest first. O(limit)."""
        return tuple(self._entries[-limit:]) if limit > 0 else ()

    def _check(self) -> None:
        assert len(self._entries) <= self._limit
