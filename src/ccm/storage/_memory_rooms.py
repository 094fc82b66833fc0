"""Conversations in memory: `Room`, and what reads or erases its lines."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import final

import attrs

from ._records import Conversation, Entry, Hit, Page, Settle
from ._shared import JUDGEMENTS, names
from ._words import Query

_ID = attrgetter("id")


@final
@attrs.define(eq=False)
class Room:
    """A conversation and all that belongs to it.

    Attributes:
        number: its place among those that were made, the later the higher.
        about: what is told of it.
        lines, archived: its lines, by their ids; those of `archived` are all below those of `lines`.
        members: who spoke; actors: who did something to it, or is in charge of it.
        turns: ids of its turns.
    """

    number: int
    about: Conversation
    lines: list[Entry] = attrs.Factory(list)
    archived: list[Entry] = attrs.Factory(list)
    members: set[str] = attrs.Factory(set)
    actors: set[str] = attrs.Factory(set)
    turns: set[int] = attrs.Factory(set)

    def change(self, **fields: object) -> None:
        """Give fields of `about` new values."""
        self.about = attrs.evolve(self.about, **fields)  # type: ignore[arg-type]

    def all_lines(self) -> Iterator[Entry]:
        """Archived and other lines, oldest first."""
        yield from self.archived
        yield from self.lines

    def page(self, before: int | None, after: int | None, limit: int) -> Page[Entry]:
        """See `Storage.history`. O(limit + log n)."""
        archived, lines = self.archived, self.lines
        if after is not None:
            start = bisect_right(archived, after, key=_ID)
            shown = archived[start : start + limit + 1]
            start = bisect_right(lines, after, key=_ID)
            shown += lines[start : start + limit + 1 - len(shown)]
            more, shown = len(shown) > limit, shown[:limit]
            return Page(tuple(shown), str(shown[-1].id) if more else None)
        end = len(lines) if before is None else bisect_left(lines, before, key=_ID)
        shown = lines[max(0, end - limit - 1) : end]
        end = len(archived) if before is None else bisect_left(archived, before, key=_ID)
        shown = archived[max(0, end - limit - 1 + len(shown)) : end] + shown
        more, shown = len(shown) > limit, shown[-limit:]
        return Page(tuple(shown), str(shown[0].id) if more else None)

    def search(self, query: Query, user: str | None) -> Iterator[Hit]:
        """Its utterances that match. O(length of all)."""
        for entry in self.lines:
            if entry.role == "event" or user not in (None, entry.user):
                continue
            rank = query.score(entry.text)
            if rank is not None:
                yield Hit(entry=entry, snippet=query.snippet(entry.text), rank=rank)

    def drop(self, goes: Callable[[Entry], bool]) -> list[Entry]:
        """Take lines out, archived ones too; returns them. O(lines)."""
        dropped = [entry for entry in self.all_lines() if goes(entry)]
        self.lines = [entry for entry in self.lines if not goes(entry)]
        self.archived = [entry for entry in self.archived if not goes(entry)]
        return dropped

    def retract(self, seq: int, message_id: str | None, *, cold: bool) -> None:
        """Take a turn out, or what was said in one message of it; `cold`: look among archived lines too."""

        def goes(entry: Entry) -> bool:
            return entry.turn_id == seq and message_id in (None, entry.message_id)

        if any(map(goes, self.lines)):
            self.lines = [entry for entry in self.lines if not goes(entry)]
        elif cold:
            self.archived = [entry for entry in self.archived if not goes(entry)]

    def forget(self, user: str, shared: set[int], *, alone: bool) -> int:
        """Erase what `user` said and what others made of it; returns how many utterances that were.

        Args:
            user: who.
            shared: turns in which something of the user's was answered.
            alone: nobody else spoke here, so all goes.
        """
        spoke = user in self.members

        def goes(entry: Entry) -> bool:
            if alone or entry.user == user or (spoke and entry.kind in JUDGEMENTS):
                return True
            if entry.role == "assistant":
                return entry.turn_id in shared
            return entry.role == "event" and names(json.loads(entry.data), user)

        dropped = self.drop(goes)
        if spoke:
            self.change(summary="", score=None, criteria="{}", metadata="{}")
        self.members.discard(user)
        self.actors.discard(user)
        return sum(entry.role != "event" for entry in dropped)


def without_reply(turn: Settle) -> Settle:
    """The turn of somebody else who was merged with an erased user, without the reply that was for both."""
    fields = json.loads(turn.detail)
    for name in ("text", "metadata"):
        fields.pop(name, None)
    if "error" in fields:
        fields["error"] = ""
    return attrs.evolve(turn, detail=json.dumps(fields))
