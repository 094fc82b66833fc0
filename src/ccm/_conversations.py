"""`ConversationManager.conversations`: the history of conversations, and what people do with them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Self, TypeVar, final

import trio

from ._journal import Journal
from .storage import (
    Analytics,
    Annotate,
    Archive,
    Conversation,
    Ended,
    Entry,
    Forget,
    Hit,
    Page,
    Storage,
)

T = TypeVar("T")
Stages = Mapping[str, Collection[str]]
"""Which stages may follow a stage; "" is that of a new conversation."""
DAY = 86400.0
PIECE = 200
"""Lines that are read from the storage at a time for an export."""
MOST_METADATA = 64
LARGEST_METADATA = 16_384
"""Names, and bytes as JSON, of a conversation's metadata."""


@final
class Lines:
    """The lines of an export: an async iterator of dicts. Reads in pieces, so cancelling it ends it soon."""

    def __init__(self, journal: Journal, lines: Iterator[dict[str, Any]]) -> None:
        self._journal = journal
        self._lines = lines
        self._piece: deque[dict[str, Any]] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        """The next line."""
        if self._piece:
            await trio.lowlevel.checkpoint()
        else:
            self._piece.extend(await self._journal.read(lambda: [*islice(self._lines, PIECE)]))
        if not self._piece:
            raise StopAsyncIteration
        return self._piece.popleft()


@final
class Conversations:
    """The conversations that a storage keeps. All methods are safe while messages are answered.

    Changes are durable when a method returns. When cancelled before its change is being written, nothing has
    happened; after that, the cancellation waits for the end of the write. Methods raise `StorageError` when
    the storage fails, and those of one conversation KeyError when there is none of that key; only `get`
    returns None then, and `archive` and `export` have nothing to do.
    """

    def __init__(
        self, journal: Journal, stages: Stages | None, on_pause: Callable[[str, bool], object],
        on_forget: Callable[[str], object],
    ) -> None:  # fmt: skip
        self._journal = journal
        self._storage: Storage = journal.storage
        self._stages = stages
        self._on_pause = on_pause
        self._on_forget = on_forget

    def _now(self) -> float:
        return self._journal.clock() + self._journal.shift

    async def _read(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        await self._journal.flush()  # what has been said by now is part of it
        return await self._journal.read(function, *args, **kwargs)

    async def _change(self, key: str, **fields: Any) -> Conversation:
        changed: Conversation | None = await self._journal.call(
            Annotate(conversation=key, at=self._now(), **fields)
        )
        if changed is None:
            raise _unknown(key)
        return changed

    # -- one conversation --------------------------------------------------------------------------

    async def find_or_create(self, key: str, *, tenant: str = "", channel: str = "") -> Conversation:
        """The conversation of this key, made if there is none."""
        return await self._change(key, create=True, tenant=tenant, channel=channel)

    async def get(self, key: str) -> Conversation | None:
        """The conversation of this key, or None."""
        return await self._read(self._storage.conversation, key)

    async def history(
        self, key: str, *, limit: int = 50, before: int | None = None, after: int | None = None
    ) -> Page[Entry]:
        """What was said and done, oldest first; archived lines included.

        Args:
            key: the conversation.
            limit: lines at most, 1 to 1000.
            before: the last lines whose id is below this (default: the last there are).
            after: the first lines whose id is above this instead.

        Returns:
            The lines, and the id that the next call takes (`before` or `after`), as text; None: no more.
        """
        _check_limit(limit)
        page = await self._read(self._storage.history, key, before=before, after=after, limit=limit)
        if not page.items:
            await self._existing(key)
        return page

    async def add_event(
        self, key: str, kind: str, *, by: str = "", text: str = "", data: Mapping[str, Any] | None = None
    ) -> Conversation:
        """Note in the history that something happened: `kind`, by whom, why, and more as `data` (JSON)."""
        if not kind:
            raise ValueError(f"kind must not be empty, got {kind!r}; name what happened")
        return await self._change(key, kind=kind, by=by, text=text, data=_as_json(data or {}))

    async def set_stage(self, key: str, stage: str, *, by: str = "", why: str = "") -> Conversation:
        """Move a conversation to another stage. Moves of others that come in between are seen.

        Raises:
            ValueError: the configured transitions do not allow it; the text names those that they do.
        """
        current = await self._existing(key)
        while True:
            self._check_move(current.stage, stage)
            data = _as_json({"from": current.stage, "to": stage})
            changed = await self._change(
                key, kind="stage", by=by, text=why, data=data, fields={"stage": stage},
                expect={"stage": current.stage},
            )  # fmt: skip
            if changed.stage == stage:
                return changed
            current = changed

    def _check_move(self, current: str, stage: str) -> None:
        if self._stages is None:
            return
        allowed = self._stages.get(current, ())
        if stage not in allowed:
            names = ", ".join(map(repr, allowed)) or "none"
            raise ValueError(f"stage must follow {current!r}, got {stage!r}; allowed: {names}")

    async def _existing(self, key: str) -> Conversation:
        found = await self.get(key)
        if found is None:
            raise _unknown(key)
        return found

    async def hand_off(self, key: str, agent: str, *, reason: str = "", by: str = "") -> Conversation:
        """Put somebody else in charge: `agent` is a name, "" nobody in particular."""
        data = _as_json({"agent": agent})
        return await self._change(
            key, kind="hand_off", by=by, text=reason, data=data, fields={"agent": agent}
        )

    async def pause(self, key: str, *, by: str = "", reason: str = "") -> Conversation:
        """A human takes over: messages are recorded from now on and not answered.

        Their outcome is `Replied` with an empty reply. A turn that runs goes on.
        """
        changed = await self._change(key, kind="pause", by=by, text=reason, fields={"paused": True})
        self._on_pause(key, True)
        return changed

    async def resume(self, key: str, *, by: str = "", reason: str = "") -> Conversation:
        """The bot answers again."""
        changed = await self._change(key, kind="resume", by=by, text=reason, fields={"paused": False})
        self._on_pause(key, False)
        return changed

    async def qualify(
        self, key: str, criterion: str, *, met: bool, confidence: float = 1.0, notes: str = "", by: str = ""
    ) -> Conversation:
        """Note whether a criterion is met. `Conversation.score` is the mean confidence of those that are,
        over all that were looked at.

        Args:
            key: the conversation.
            criterion: its name; what was noted of it before is replaced.
            met: whether it is.
            confidence: how sure that is, 0.0 to 1.0.
            notes: why.
            by: who says so.
        """
        if not 0.0 <= confidence <= 1.0:
            raise ValueError(f"confidence must be from 0.0 to 1.0, got {confidence!r}")
        current = await self._existing(key)
        while True:
            criteria: dict[str, Any] = json.loads(current.criteria)
            criteria[criterion] = {"met": met, "confidence": confidence, "notes": notes}
            score = sum(c["confidence"] for c in criteria.values() if c["met"]) / len(criteria)
            text = _as_json(criteria)
            changed = await self._change(
                key, kind="qualify", by=by, text=notes, data=_as_json({criterion: criteria[criterion]}),
                fields={"criteria": text, "score": score}, expect={"criteria": current.criteria},
            )  # fmt: skip
            if changed.criteria == text:
                return changed
            current = changed

    async def set_summary(self, key: str, summary: str, *, by: str = "") -> Conversation:
        """Keep what the conversation is about, in place of what was kept before."""
        return await self._change(key, kind="summary", by=by, fields={"summary": summary})

    async def set_metadata(
        self, key: str, changes: Mapping[str, Any], *, by: str = ""
    ) -> Conversation:  # fmt: skip
        """Keep what the application knows of a conversation, as JSON: `Conversation.metadata`.

        Args:
            key: the conversation.
            changes: new values by name; None removes the name, and names that are not there stay as they
                are. Names have 1 to 200 characters.
            by: who says so.

        Raises:
            ValueError: it would be more than 64 names, or 16,384 bytes of JSON; nothing was changed.
            TypeError: a value is not made of JSON's types.
        """
        current = await self._existing(key)
        while True:
            text = changed_metadata(current.metadata, changes)
            changed = await self._change(
                key, kind="metadata", by=by, data=_as_json(changes), fields={"metadata": text},
                expect={"metadata": current.metadata},
            )  # fmt: skip
            if changed.metadata == text:
                return changed
            current = changed

    async def turn(self, turn_id: int) -> Ended | None:
        """The turn of this number, if it has its outcome and was not erased; also of an earlier process."""
        return await self._read(self._storage.ended, turn_id)

    # -- many of them ------------------------------------------------------------------------------

    async def list(
        self, *, user: str | None = None, tenant: str | None = None, status: str | None = None,
        stage: str | None = None, paused: bool | None = None, cursor: str | None = None, limit: int = 50,
    ) -> Page[Conversation]:  # fmt: skip
        """Conversations that match all that is given, the last changed first.

        Args:
            user: in which this user has spoken.
            tenant, status ("open", "archived"), stage, paused: of these only.
            cursor: of the page before.
            limit: at most so many, 1 to 1000.
        """
        _check_limit(limit)
        return await self._read(
            self._storage.conversations, user=user, tenant=tenant, status=status, stage=stage, paused=paused,
            cursor=cursor, limit=limit,
        )  # fmt: skip

    async def search(
        self, text: str, *, conversation: str | None = None, user: str | None = None,
        tenant: str | None = None, limit: int = 20, offset: int = 0,
    ) -> tuple[Hit, ...]:  # fmt: skip
        """Utterances that have all words of `text`, the best first; the last word may be a beginning.

        Archived conversations are not searched. The work is bounded: of a conversation, user or tenant with
        more than 2,000 lines, a SQLite file finds only what is among the 10,000 newest matches of all.

        Args:
            text: at least one word.
            conversation, user, tenant: what was said there, by them, in its conversations only.
            limit: at most so many, 1 to 1000.
            offset: leave out so many of the best.

        Raises:
            ValueError: there is no word in `text`.
        """
        _check_limit(limit)
        found = await self._read(
            self._storage.search, text, conversation=conversation, user=user, tenant=tenant, limit=limit,
            offset=offset,
        )  # fmt: skip
        return tuple(found)

    async def analytics(self, since: float, until: float) -> Analytics:
        """Figures of the turns that ended between two times (seconds since 1970)."""
        return await self._read(self._storage.analytics, since, until)

    @asynccontextmanager
    async def export(self, key: str | None = None) -> AsyncIterator[Lines]:
        """Everything of a conversation, or of all, as dicts for JSON Lines; memory does not grow with it.

        Use: `async with manager.conversations.export() as lines: async for line in lines: ...`. What is
        exported is what there is when the block is entered.
        """
        await self._journal.flush()
        lines = self._storage.export(key)
        try:
            yield Lines(self._journal, lines)
        finally:
            close: Callable[[], None] | None = getattr(lines, "close", None)
            if close is not None:
                close()

    async def archive(self, key: str | None = None, *, idle_days: float | None = None) -> int:
        """Close a conversation, or all that have been idle for so many days, and move their lines out of the
        way; how many there were. A message opens its conversation again."""
        if (key is None) == (idle_days is None):
            raise TypeError(f"archive takes either a key or idle_days, got {key!r} and {idle_days!r}")
        now, count = self._now(), 0
        while True:
            operation = Archive(key, now - DAY * (idle_days or 0.0), now)
            done: int = await self._journal.call(operation)
            count += done
            if key is not None or done < operation.limit:
                return count

    async def forget(self, user: str) -> int:
        """Erase a user: what they said, the replies to it, and what waits; how many utterances that were.

        Messages of theirs that wait or run are cancelled. Conversations in which nobody else spoke go as a
        whole. Afterwards nothing of it is found in the storage, nor in the manager's memory.
        """
        self._on_forget(user)
        await self._journal.flush()
        erased: int = await self._journal.call(Forget(user))
        return erased


def _unknown(key: str) -> KeyError:
    return KeyError(f"there is no conversation {key!r}; find_or_create makes it")


def changed_metadata(kept: str, changes: Mapping[str, Any]) -> str:
    """What is kept of a conversation, as JSON, with these changes; raises as `set_metadata`. O(length)."""
    for name in changes:
        if not isinstance(name, str) or not 0 < len(name) <= 200:
            raise ValueError(f"a name in metadata must have 1 to 200 characters, got {name!r:.300}")
    merged: dict[str, Any] = json.loads(kept) | dict(changes)
    merged = {name: value for name, value in merged.items() if value is not None}
    text = _as_json(merged)
    if len(merged) > MOST_METADATA:
        raise ValueError(f"metadata must have at most {MOST_METADATA} names; remove some first")
    if len(text) > LARGEST_METADATA:
        raise ValueError(
            f"metadata must be at most {LARGEST_METADATA} bytes as JSON, got {len(text)}; keep less in it"
        )
    return text


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= 1000:
        raise ValueError(f"limit must be from 1 to 1000, got {limit!r}")


def _as_json(data: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(data), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"data must be made of JSON's types, got {data!r} ({error})") from None
