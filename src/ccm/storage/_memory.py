"""`MemoryStorage`: dicts and lists, for tests and for bots that may forget."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, final

import attrs

from .._errors import StorageError
from ._abc import Storage
from ._analytics import Analytics, sum_up
from ._codec import clean
from ._cursors import decode_cursor, encode_cursor
from ._memory_rooms import Room, without_reply
from ._records import (
    Accept,
    Accepted,
    Annotate,
    Archive,
    Attempted,
    Conversation,
    Delivered,
    Delivery,
    Discard,
    Ended,
    Entry,
    Forget,
    Health,
    Hit,
    Letter,
    Operation,
    Page,
    Repeated,
    Retract,
    Rewrite,
    Settle,
    Stored,
)
from ._shared import (
    MAX_LETTERS,
    MAX_SEEN,
    PRUNED,
    as_ended,
    check_annotation,
    conversation_as_dict,
    entry_as_dict,
)
from ._words import parse

_OPERATIONS = (
    Accept, Settle, Attempted, Rewrite, Retract, Delivered, Discard, Annotate, Archive, Forget
)  # fmt: skip


@final
@attrs.define(eq=False)
class _Waiting:
    """A message in the inbox."""

    accept: Accept
    body: str
    attempts: int = 0


@final
class MemoryStorage(Storage):
    """Everything in memory, as long as the object lives: closing it and opening it again changes nothing.

    It does all that the contract says, and grows with what it keeps: for tests, and for programs that do not
    mind to start with nothing. A search looks at every text that is not archived.
    """

    kind = "memory"
    blocking = False
    durable = False

    def __init__(self) -> None:
        self._is_open = False
        self._seq = 0
        self._entry = 0
        self._inbox: dict[int, _Waiting] = {}
        self._seen: dict[tuple[str, str], tuple[int, float, str]] = {}
        self._turns: dict[int, Settle] = {}
        self._rooms: dict[str, Room] = {}
        self._outbox: dict[int, Delivery] = {}
        self._letters: dict[int, Letter] = {}

    def __repr__(self) -> str:
        return "MemoryStorage()"

    def open(self) -> None:
        if self._is_open:
            raise StorageError("the storage in memory is open already; use one object for each manager")
        self._is_open = True

    def close(self) -> None:
        self._is_open = False

    def _usable(self) -> None:
        if not self._is_open:
            raise StorageError("the storage in memory is closed; open it first")

    # -- transactions ----------------------------------------------------------------------------

    def commit(self, operations: Sequence[Operation]) -> list[Any]:
        self._usable()
        # Nothing can fail once this is checked, so all is done or nothing.
        for operation in operations:
            if not isinstance(operation, _OPERATIONS):
                raise TypeError(f"a storage has no operation {operation!r}")
            if isinstance(operation, Annotate):
                check_annotation(operation)
        results: list[Any] = [None] * len(operations)
        for number, operation in enumerate(operations):
            if isinstance(operation, Accept):
                results[number] = self._accept(operation)
        self._settle([operation for operation in operations if isinstance(operation, Settle)])
        for number, operation in enumerate(operations):
            if not isinstance(operation, (Accept, Settle)):
                results[number] = self._other(operation)
        return results

    def _accept(self, operation: Accept) -> Accepted | Repeated:
        seq = self._seq + 1
        self._seq = seq
        if operation.message_id:
            key = (operation.tenant, operation.message_id)
            earlier, at, digest = self._seen.get(key, (0, 0.0, ""))
            if earlier and at > operation.since:
                turn = self._turns.get(earlier)
                ended = ("", "{}") if turn is None else (turn.outcome, turn.detail)
                return Repeated(earlier, *ended, digest)
            self._seen.pop(key, None)
            self._seen[key] = (seq, operation.at, operation.digest)
            if len(self._seen) >= MAX_SEEN + PRUNED:
                for old in list(self._seen)[:PRUNED]:
                    del self._seen[old]
        self._inbox[seq] = _Waiting(operation, operation.body)
        if operation.letter is not None:
            self._letters.pop(operation.letter, None)
        return Accepted(seq)

    def _settle(self, settles: list[Settle]) -> None:
        settles = [op for op in {op.seq: op for op in reversed(settles)}.values() if op.seq in self._inbox]
        settles.reverse()
        for key in dict.fromkeys(op.conversation for op in settles if op.conversation not in self._rooms):
            own = [op for op in settles if op.conversation == key]
            self._make(key, own[0].tenant, own[0].channel, min(op.accepted for op in own))
            self._rooms[key].change(updated=own[0].ended)
        for op in settles:
            del self._inbox[op.seq]
            room = self._rooms[op.conversation]
            about = room.about
            room.change(
                updated=max(about.updated, op.ended), status="open", messages=about.messages + 1,
                replies=about.replies + (op.outcome in ("replied", "merged")),
                failures=about.failures + (op.outcome == "failed"),
            )  # fmt: skip
            room.turns.add(op.seq)
            room.members.add(op.user)
            room.members.update(said.user for said in op.said if said.user)
            self._turns[op.seq] = attrs.evolve(
                op, said=(), message_id=clean(op.message_id), detail=clean(op.detail)
            )
            for said in op.said:
                self._entry += 1
                room.lines.append(
                    Entry(
                        id=self._entry, conversation=op.conversation, turn_id=op.seq, role=said.role,
                        user=said.user, text=clean(said.text), at=op.accepted if said.user else op.ended,
                        message_id=clean(said.message_id), partial=said.partial, handled=said.handled,
                    )
                )  # fmt: skip
            if op.delivery is not None:
                self._outbox[op.delivery.seq] = attrs.evolve(
                    op.delivery, text=clean(op.delivery.text), metadata=clean(op.delivery.metadata)
                )
            if op.letter is not None:
                self._bury(op.letter)

    def _make(self, key: str, tenant: str, channel: str, at: float) -> None:
        number = next((room.number for room in reversed(self._rooms.values())), 0) + 1
        about = Conversation(key=key, tenant=tenant, channel=channel, created=at, updated=at)
        self._rooms[key] = Room(number, about)

    def _bury(self, letter: Letter) -> None:
        self._letters[letter.id] = attrs.evolve(letter, error=clean(letter.error))
        while (oldest := next(iter(self._letters))) <= letter.id - MAX_LETTERS:
            del self._letters[oldest]

    def _other(self, operation: Operation) -> Any:
        match operation:
            case Attempted(seq) if seq in self._inbox:
                self._inbox[seq].attempts += 1
            case Rewrite(seq, body) if seq in self._inbox:
                self._inbox[seq].body = body
            case Retract(seq, message_id):
                turn = self._turns.get(seq)
                # Without its turn it may still be there: others spoke in the turn of an erased user.
                for room in self._rooms.values() if turn is None else [self._rooms[turn.conversation]]:
                    room.retract(
                        seq, None if message_id is None else clean(message_id), cold=turn is not None
                    )
            case Delivered(seq, letter):
                was_there = self._outbox.pop(seq, None) is not None
                if letter is not None and was_there:  # else its user has been forgotten
                    self._bury(letter)
            case Discard(id):
                return self._letters.pop(id, None) is not None
            case Annotate():
                return self._annotate(operation)
            case Archive():
                return self._archive(operation)
            case Forget(user):
                return self._forget(user)
        return None

    def _annotate(self, operation: Annotate) -> Conversation | None:
        key = operation.conversation
        if operation.create and key not in self._rooms:
            self._make(key, operation.tenant, operation.channel, operation.at)
        room = self._rooms.get(key)
        if room is None:
            return None
        if any(getattr(room.about, name) != value for name, value in operation.expect.items()):
            return room.about
        fields = {name: clean(v) if isinstance(v, str) else v for name, v in operation.fields.items()}
        room.change(**fields)
        room.actors.update(clean(who) for who in (operation.by, operation.fields.get("agent")) if who)
        if operation.kind:
            self._entry += 1
            room.lines.append(
                Entry(
                    id=self._entry, conversation=key, turn_id=0, role="event", user=clean(operation.by),
                    text=clean(operation.text), at=operation.at, kind=operation.kind,
                    data=clean(operation.data),
                )
            )  # fmt: skip
            room.change(updated=max(room.about.updated, operation.at))
        return room.about

    def _archive(self, operation: Archive) -> int:
        if operation.conversation is not None:
            rooms = [self._rooms[key] for key in (operation.conversation,) if key in self._rooms]
        else:
            waiting = {message.accept.conversation for message in self._inbox.values()}
            idle = [
                room
                for key, room in self._rooms.items()
                if room.about.updated < operation.before and room.about.status == "open"
                if key not in waiting
            ]
            idle.sort(key=lambda room: (room.about.updated, room.number))
            rooms = idle[: operation.limit]
        for room in rooms:
            room.archived += room.lines
            room.lines = []
            room.change(status="archived")
        return len(rooms)

    # -- erasing a user --------------------------------------------------------------------------

    def _forget(self, user: str) -> int:
        waiting: dict[str, set[str]] = {}
        for message in self._inbox.values():
            waiting.setdefault(message.accept.conversation, set()).add(message.accept.user)
        own = {seq for seq, turn in self._turns.items() if turn.user == user}
        shared = own | {
            entry.turn_id
            for room in self._rooms.values()
            for entry in room.all_lines()
            if entry.role == "user" and entry.user == user
        }
        gone = own | {seq for seq, message in self._inbox.items() if message.accept.user == user}
        self._seen = {key: value for key, value in self._seen.items() if value[0] not in gone}
        self._inbox = {seq: message for seq, message in self._inbox.items() if seq not in gone}
        self._outbox = {
            seq: delivery
            for seq, delivery in self._outbox.items()
            if seq not in shared and _user(delivery.body) != user
        }
        self._letters = {id: letter for id, letter in self._letters.items() if _user(letter.body) != user}
        utterances = 0
        for key, room in list(self._rooms.items()):
            took_part = user in room.members or user in waiting.get(key, ())
            others = (room.members | waiting.get(key, set())) - {user}
            utterances += room.forget(user, shared, alone=took_part and not others)
            if room.about.agent == user:
                room.change(agent="")
            if took_part and not others:
                del self._rooms[key]
            room.turns -= own
            for seq in room.turns if took_part else ():
                turn = self._turns[seq]
                if seq in shared or json.loads(turn.detail).get("turn_id") in shared:
                    self._turns[seq] = without_reply(turn)
        for seq in own:
            del self._turns[seq]
        return utterances

    # -- reading ---------------------------------------------------------------------------------

    def recover(self, after: int, limit: int) -> list[Stored]:
        self._usable()
        return [
            Stored(seq=seq, body=message.body, at=message.accept.at, attempts=message.attempts)
            for seq, message in heapq.nsmallest(
                limit, ((s, m) for s, m in self._inbox.items() if s > after), key=lambda pair: pair[0]
            )
        ]

    def ended(self, seq: int) -> Ended | None:
        self._usable()
        turn = self._turns.get(seq)
        return None if turn is None else as_ended(turn)

    def undelivered(self, after: int, limit: int) -> list[Delivery]:
        self._usable()
        return [self._outbox[seq] for seq in heapq.nsmallest(limit, (s for s in self._outbox if s > after))]

    def letters(self, limit: int) -> list[Letter]:
        self._usable()
        return [self._letters[id] for id in sorted(heapq.nlargest(limit, self._letters))]

    def health(self) -> Health:
        self._usable()
        return Health(
            kind=self.kind, durable=False, version=0, inbox=len(self._inbox), outbox=len(self._outbox),
            letters=len(self._letters), conversations=len(self._rooms), bytes=0,
        )  # fmt: skip

    def conversation(self, key: str) -> Conversation | None:
        self._usable()
        room = self._rooms.get(key)
        return None if room is None else room.about

    def conversations(
        self, *, user: str | None = None, tenant: str | None = None, status: str | None = None,
        stage: str | None = None, paused: bool | None = None, cursor: str | None = None, limit: int = 50,
    ) -> Page[Conversation]:  # fmt: skip
        self._usable()
        asked = {"tenant": tenant, "status": status, "stage": stage, "paused": paused}
        asked = {name: value for name, value in asked.items() if value is not None}
        below = None if cursor is None else decode_cursor(cursor)
        found = heapq.nlargest(
            limit + 1,
            (
                (room.about.updated, room.number, room.about)
                for room in self._rooms.values()
                if (user is None or user in room.members)
                and all(getattr(room.about, name) == value for name, value in asked.items())
                and (below is None or (room.about.updated, room.number) < below)
            ),
            key=lambda row: row[:2],
        )
        following = encode_cursor(*found[limit - 1][:2]) if len(found) > limit else None
        return Page(tuple(about for _, _, about in found[:limit]), following)

    def history(
        self, key: str, *, before: int | None = None, after: int | None = None, limit: int = 50
    ) -> Page[Entry]:
        self._usable()
        room = self._rooms.get(key)
        return Page(()) if room is None else room.page(before, after, limit)

    def search(
        self, text: str, *, conversation: str | None = None, user: str | None = None,
        tenant: str | None = None, limit: int = 20, offset: int = 0,
    ) -> list[Hit]:  # fmt: skip
        self._usable()
        query = parse(text)
        rooms = [
            room
            for key, room in self._rooms.items()
            if conversation in (None, key) and tenant in (None, room.about.tenant)
        ]
        hits = [hit for room in rooms for hit in room.search(query, user)]
        hits.sort(key=lambda hit: (hit.rank, -hit.entry.id))
        return hits[offset : offset + limit]

    def export(self, key: str | None) -> Iterator[dict[str, Any]]:
        self._usable()
        for room in sorted(self._rooms.values(), key=lambda room: room.number):
            if key is None or room.about.key == key:
                yield conversation_as_dict(room.about)
                # What is said while somebody reads is not in the copy, as it is with a database.
                yield from map(entry_as_dict, list(room.all_lines()))

    def analytics(self, since: float, until: float) -> Analytics:
        self._usable()
        turns = [turn for turn in self._turns.values() if since <= turn.ended < until]
        rooms = [self._rooms[key].about for key in {turn.conversation for turn in turns}]
        return sum_up(
            (
                (
                    datetime.fromtimestamp(turn.ended, UTC).date().isoformat(), turn.route, turn.outcome, 1,
                    int(turn.waited >= 0), max(0.0, turn.waited), turn.served if turn.waited >= 0 else 0.0,
                )
                for turn in turns
            ),
            len({turn.user for turn in turns}),
            ((about.stage, about.agent, 1) for about in rooms),
        )  # fmt: skip


def _user(body: str) -> Any:
    return json.loads(body).get("user")
