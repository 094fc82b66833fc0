"""What a transaction of `SqliteStorage` does, statement by statement."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast, final

from . import _sqlite_archive as archive
from ._codec import clean
from ._records import (
    Accept,
    Accepted,
    Annotate,
    Archive,
    Attempted,
    Conversation,
    Delivered,
    Discard,
    Forget,
    Letter,
    Operation,
    Repeated,
    Retract,
    Rewrite,
    Settle,
)
from ._shared import COLUMNS, MAX_LETTERS, MAX_SEEN, PRUNED, check_annotation
from ._sqlite_forget import forget
from ._sqlite_rows import MOST, run_with

SELECT_CONVERSATION = f"SELECT id, {', '.join(COLUMNS)} FROM conversations"  # noqa: S608 - names of ours


_NOT_COUNTED: Final = 1 << 62
"""More ids than there can be: they are counted when the next one comes."""
_TAKE_IN: Final = "INSERT INTO inbox (seq, conversation, tenant, user, at, body) SELECT *"
_NOT_EMPTY: Final = "WHERE v.column1 IS NOT NULL"
_ALONE: Final = f"{_NOT_EMPTY} AND (SELECT data_version FROM pragma_data_version) = ?"  # noqa: S608
"""Somebody else's commit would have changed it; judged once the transaction keeps everybody else out."""
_OF_CONVERSATION: Final = "CROSS JOIN conversations AS c WHERE c.key = v.column1"
"""CROSS: SQLite must look conversations up by what is new, never go through all of them."""
_IN_ORDER: Final = f"{_OF_CONVERSATION} ORDER BY v.column10"
_NEW_OR_EXPIRED: Final = (
    f"{_NOT_EMPTY} ON CONFLICT DO UPDATE SET seq = excluded.seq, at = excluded.at,"
    " digest = excluded.digest WHERE seen.at <= ?"
)
_ADDED_UP: Final = (
    f"{_NOT_EMPTY} ON CONFLICT (key) DO UPDATE SET"
    " updated = max(updated, excluded.updated), messages = messages + excluded.messages,"
    " replies = replies + excluded.replies, failures = failures + excluded.failures, status = 'open'"
)


def _rows(accepts: Iterable[tuple[int, Accept]]) -> list[tuple[Any, ...]]:
    return [(own, op.conversation, op.tenant, op.user, op.at, op.body) for own, op in accepts]


@final
class Writer:
    """Applies operations on a connection that is in a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._run = connection.execute
        self._last_seq: int | None = None
        self._version = -1
        self._ids = _NOT_COUNTED  # how many are remembered, at most

    def apply(self, operations: Sequence[Operation]) -> list[Any]:
        """Do them all; one result for each, see `Storage.commit`."""
        results: list[Any] = [None] * len(operations)
        accepts = [(n, op) for n, op in enumerate(operations) if isinstance(op, Accept)]
        settles = [op for op in operations if type(op) is Settle]
        if accepts:
            accepted = self._accept([op for _, op in accepts])
            for (number, _), result in zip(accepts, accepted, strict=True):
                results[number] = result
        if settles:
            self._settle(settles)
        if len(accepts) + len(settles) < len(operations):
            for number, operation in enumerate(operations):
                if not isinstance(operation, (Accept, Settle)):
                    results[number] = self._other(operation)
        return results

    # -- messages come in --------------------------------------------------------------------------

    def accept_alone(self, operations: Sequence[Operation]) -> list[Any] | None:
        """Messages without ids, and nothing else, as one statement that is its own transaction.

        Each statement gives Python's lock away and has to get it back from a busy program, so one is a good
        deal faster than four. None: nothing was done, it needs more than that.
        """
        if self._last_seq is None or len(operations) > MOST:
            return None
        for operation in operations:
            if not isinstance(operation, Accept) or operation.message_id or operation.letter is not None:
                return None
        first = self._last_seq + 1
        rows = _rows(enumerate(cast("Sequence[Accept]", operations), first))
        written = run_with(self._run, _TAKE_IN, _ALONE, rows, self._version)
        if written != len(operations):
            return None
        self._last_seq += written
        return [Accepted(seq) for seq in range(first, first + written)]

    def _accept(self, accepts: list[Accept]) -> list[Accepted | Repeated]:
        first = self._next_seq()
        seqs = [*range(first, first + len(accepts))]
        repeated: dict[int, Repeated] = {}
        if any(operation.message_id for operation in accepts):
            repeated = self._repeated(accepts, seqs)
        new = [(own, op) for own, op in zip(seqs, accepts, strict=True) if own not in repeated]
        run_with(self._run, _TAKE_IN, _NOT_EMPTY, _rows(new))
        self._last_seq = seqs[-1]
        letters = [op.letter for own, op in zip(seqs, accepts, strict=True) if own not in repeated]
        self._forget_letters([letter for letter in letters if letter is not None])
        return [repeated.get(own) or Accepted(own) for own in seqs]

    def _next_seq(self) -> int:
        """The number of the next message.

        It is counted in memory, because writing a counter would double what a lone message costs; and counted
        anew whenever somebody else has changed the file, or a transaction has failed.
        """
        (version,) = self._run("PRAGMA data_version").fetchone()
        if self._last_seq is None or version != self._version:
            self._version = version
            self._last_seq = self.highest_seq()
            self._ids = _NOT_COUNTED
        return self._last_seq + 1

    def highest_seq(self) -> int:
        """The highest number that a message in the file has, or had when it was erased. O(log n)."""
        (seq,) = self._run(
            "SELECT max((SELECT value FROM meta WHERE key = 'seq'),"
            " coalesce((SELECT max(seq) FROM inbox), 0), coalesce((SELECT max(seq) FROM turns), 0),"
            " coalesce((SELECT max(seq) FROM seen), 0), coalesce((SELECT max(seq) FROM outbox), 0))"
        ).fetchone()
        return int(seq)

    def rolled_back(self) -> None:
        """What was written last is gone again."""
        self._last_seq = None

    def _repeated(self, accepts: list[Accept], seqs: list[int]) -> dict[int, Repeated]:
        """Remember the ids; which messages are repetitions of others, by their numbers."""
        rows = [
            (own, op.tenant, op.message_id, op.at, op.digest)
            for own, op in zip(seqs, accepts, strict=True)
            if op.message_id
        ]
        self._ids += run_with(
            self._run, "INSERT INTO seen (seq, tenant, message_id, at, digest) SELECT *",
            _NEW_OR_EXPIRED, rows, min(op.since for op in accepts if op.message_id),
        )  # fmt: skip
        found = self._run(
            "SELECT value->>0, s.seq, t.outcome, t.detail, s.digest FROM json_each(?)"
            " JOIN seen AS s ON s.tenant = value->>1 AND s.message_id = value->>2"
            " LEFT JOIN turns AS t ON t.seq = s.seq WHERE s.seq <> value->>0",
            (json.dumps(rows),),
        )
        repeated = {
            own: Repeated(seq, outcome or "", detail or "{}", digest)
            for own, seq, outcome, detail, digest in found
        }
        if self._ids >= MAX_SEEN + PRUNED:
            self._forget_ids()
        return repeated

    def _forget_ids(self) -> None:
        """Forget the oldest ids, if there are too many."""
        # Counting takes 3 ms: not with each message.
        (self._ids,) = self._run("SELECT count(*) FROM seen").fetchone()
        if self._ids >= MAX_SEEN + PRUNED:
            self._ids -= self._run(
                "DELETE FROM seen WHERE seq IN (SELECT seq FROM seen ORDER BY seq LIMIT ?)",
                (self._ids - MAX_SEEN,),
            ).rowcount

    # -- messages get their outcomes ---------------------------------------------------------------

    def _settle(self, settles: list[Settle]) -> None:
        run = self._run
        known = {
            seq
            for (seq,) in run(
                "SELECT seq FROM inbox WHERE seq IN (SELECT value FROM json_each(?))",
                (json.dumps([op.seq for op in settles]),),
            )
        }
        # Settling twice changes nothing, also in one transaction.
        settles = list({op.seq: op for op in reversed(settles) if op.seq in known}.values())[::-1]
        if not settles:
            return
        self._count(settles)
        turns = [
            (op.conversation, op.seq, op.tenant, op.user, clean(op.message_id), clean(op.route), op.outcome,
             clean(op.detail), op.accepted, op.ended, op.waited, op.served, op.attempts)
            for op in settles
        ]  # fmt: skip
        run_with(
            run,
            "INSERT INTO turns (conversation, seq, tenant, user, message_id, route, outcome, detail,"
            " accepted, ended, waited, served, attempts) SELECT c.id, v.column2, v.column3, v.column4,"
            " v.column5, v.column6, v.column7, v.column8, v.column9, v.column10, v.column11, v.column12,"
            " v.column13",
            _OF_CONVERSATION,
            turns,
        )
        # Whose message was merged into somebody else's turn has spoken as well.
        spoke = {(op.conversation, op.user): None for op in settles}
        spoke |= {(op.conversation, said.user): None for op in settles for said in op.said if said.user}
        run_with(
            run, "INSERT OR IGNORE INTO members (conversation, user) SELECT c.id, v.column2",
            _OF_CONVERSATION, [*spoke],
        )  # fmt: skip
        self._say(settles)
        self._send(settles)
        run("DELETE FROM inbox WHERE seq IN (SELECT value FROM json_each(?))", (json.dumps([*known]),))

    def _count(self, settles: list[Settle]) -> None:
        """What conversations know of their turns; those that are new begin with it."""
        counts: dict[str, list[Any]] = {}
        for op in settles:
            replied, failed = op.outcome in ("replied", "merged"), op.outcome == "failed"
            found = counts.get(op.conversation)
            if found is None:
                counts[op.conversation] = [
                    op.conversation, op.tenant, op.channel, op.accepted, op.ended, 1, int(replied),
                    int(failed),
                ]  # fmt: skip
            else:
                found[3], found[4] = min(found[3], op.accepted), max(found[4], op.ended)
                found[5] += 1
                found[6] += replied
                found[7] += failed
        run_with(
            self._run,
            "INSERT INTO conversations (key, tenant, channel, created, updated, messages, replies, failures)"
            " SELECT *",
            _ADDED_UP,
            [*counts.values()],
        )

    def _say(self, settles: list[Settle]) -> None:
        said = [
            (op.conversation, op.seq, s.role, s.user, clean(s.text), op.accepted if s.user else op.ended,
             clean(s.message_id), int(s.partial), int(s.handled))
            for op in settles
            for s in op.said
        ]  # fmt: skip
        if not said:
            return
        (last,) = self._run("SELECT coalesce(max(id), 0) FROM entries").fetchone()
        run_with(
            self._run,
            "INSERT INTO entries (conversation, turn, role, user, text, at, message_id, partial, handled,"
            " kind, data) SELECT c.id, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7,"
            " v.column8, v.column9, '', '{}'",
            _IN_ORDER,
            [(*row, number) for number, row in enumerate(said)],
        )
        self._run(
            "INSERT INTO search (rowid, text) SELECT id, text FROM entries WHERE id > ? AND role <> 'event'",
            (last,),
        )

    def _send(self, settles: list[Settle]) -> None:
        deliveries = [op.delivery for op in settles if op.delivery is not None]
        if deliveries:
            rows = [(d.seq, d.conversation, d.body, clean(d.text), clean(d.metadata)) for d in deliveries]
            run_with(
                self._run, "INSERT INTO outbox (seq, conversation, body, text, metadata) SELECT *",
                _NOT_EMPTY, rows,
            )  # fmt: skip
        for operation in settles:
            if operation.letter is not None:
                self._bury(operation.letter)

    def _bury(self, letter: Letter) -> None:
        self._run(
            "INSERT OR REPLACE INTO letters (id, body, route, attempts, error, at) VALUES (?, ?, ?, ?, ?, ?)",
            (letter.id, letter.body, letter.route, letter.attempts, clean(letter.error), letter.at),
        )
        self._run("DELETE FROM letters WHERE id <= ?", (letter.id - MAX_LETTERS,))

    def _forget_letters(self, letters: list[int]) -> None:
        for letter in letters:
            self._run("DELETE FROM letters WHERE id = ?", (letter,))

    # -- the rest ----------------------------------------------------------------------------------

    def _other(self, operation: Operation) -> Any:
        run = self._run
        match operation:
            case Attempted(seq):
                run("UPDATE inbox SET attempts = attempts + 1 WHERE seq = ?", (seq,))
            case Rewrite(seq, body):
                run("UPDATE inbox SET body = ? WHERE seq = ?", (body, seq))
            case Retract(seq, message_id):
                self._retract(seq, message_id)
            case Delivered(seq, letter):
                was_there = run("DELETE FROM outbox WHERE seq = ?", (seq,)).rowcount
                if letter is not None and was_there:  # else its user has been forgotten
                    self._bury(letter)
            case Discard(letter_id):
                return run("DELETE FROM letters WHERE id = ?", (letter_id,)).rowcount == 1
            case Annotate():
                return self._annotate(operation)
            case Archive():
                return self._archive(operation)
            case Forget(user):
                run("UPDATE meta SET value = ? WHERE key = 'seq'", (self.highest_seq(),))
                return self._forget(user)
            case _:
                raise TypeError(f"a storage has no operation {operation!r}")
        return None

    def _unsay(self, where: str, arguments: tuple[Any, ...]) -> int:
        """Take lines out of the history and out of the search. The index has to be told what was in it."""
        spoken = f"FROM entries WHERE role <> 'event' AND {where}"
        self._run(f"INSERT INTO search (search, rowid, text) SELECT 'delete', id, text {spoken}", arguments)
        return self._run(f"DELETE FROM entries WHERE {where}", arguments).rowcount  # noqa: S608

    def _retract(self, seq: int, message_id: str | None) -> None:
        # Only lines of a turn are in the index, which SQLite has to be told.
        where, arguments = "turn = ? AND turn > 0", list[Any]([seq])
        if message_id is not None:
            message_id = clean(message_id)
            where += " AND message_id = ?"
            arguments.append(message_id)
        if self._unsay(where, tuple(arguments)):
            return
        found = self._run("SELECT conversation FROM turns WHERE seq = ?", (seq,)).fetchone()
        if found is not None:
            archive.rewrite(
                self._connection,
                found[0],
                lambda line: line[archive.TURN] != seq or message_id not in (None, line[archive.MESSAGE_ID]),
            )

    def _annotate(self, operation: Annotate) -> Conversation | None:
        run = self._run
        check_annotation(operation)
        if operation.create:
            run(
                "INSERT OR IGNORE INTO conversations (key, tenant, channel, created, updated)"
                " VALUES (?, ?, ?, ?, ?)",
                (operation.conversation, operation.tenant, operation.channel, operation.at, operation.at),
            )
        found = read_conversation(self._connection, operation.conversation)
        if found is None:
            return None
        number, conversation = found
        if any(getattr(conversation, name) != value for name, value in operation.expect.items()):
            return conversation
        for name, value in operation.fields.items():
            value = clean(value) if isinstance(value, str) else value
            run(f"UPDATE conversations SET {name} = ? WHERE id = ?", (value, number))  # noqa: S608
        for actor in (operation.by, operation.fields.get("agent")):
            if actor:
                run("INSERT OR IGNORE INTO actors VALUES (?, ?)", (clean(actor), number))
        if operation.kind:
            run(
                "INSERT INTO entries (conversation, turn, role, user, text, at, message_id, partial, handled,"
                " kind, data) VALUES (?, 0, 'event', ?, ?, ?, '', 0, 1, ?, ?)",
                (number, clean(operation.by), clean(operation.text), operation.at, operation.kind,
                 clean(operation.data)),
            )  # fmt: skip
            run("UPDATE conversations SET updated = max(updated, ?) WHERE id = ?", (operation.at, number))
        after = read_conversation(self._connection, operation.conversation)
        assert after is not None
        return after[1]

    def _archive(self, operation: Archive) -> int:
        run = self._run
        if operation.conversation is not None:
            rows = run("SELECT id FROM conversations WHERE key = ?", (operation.conversation,)).fetchall()
        else:
            rows = run(
                "SELECT id FROM conversations AS c WHERE updated < ? AND status = 'open' AND NOT EXISTS"
                " (SELECT 1 FROM inbox AS i WHERE i.conversation = c.key) ORDER BY updated, id LIMIT ?",
                (operation.before, operation.limit),
            ).fetchall()
        for (number,) in rows:
            statement = f"SELECT {archive.LINE} FROM entries WHERE conversation = ? ORDER BY id"  # noqa: S608
            archive.store(self._connection, number, run(statement, (number,)))
            self._unsay("conversation = ?", (number,))
            run("UPDATE conversations SET status = 'archived' WHERE id = ?", (number,))
        return len(rows)

    def _forget(self, user: str) -> int:
        return forget(self._connection, self._unsay, user)


def read_conversation(connection: sqlite3.Connection, key: str) -> tuple[int, Conversation] | None:
    """A conversation and its row's number."""
    row = connection.execute(f"{SELECT_CONVERSATION} WHERE key = ?", (key,)).fetchone()
    return None if row is None else (row[0], make_conversation(row[1:]))


def make_conversation(row: Sequence[Any]) -> Conversation:
    """A row of `COLUMNS` as a `Conversation`."""
    fields = dict(zip(COLUMNS, row, strict=True))
    fields["paused"] = bool(fields["paused"])
    return Conversation(**fields)
