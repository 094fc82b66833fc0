"""Erasing a user from a SQLite storage.

What a user said stands in the turns, the lines and the search index, hot or archived; in what is not
finished; in the ids that are remembered; and in what others made of it: replies, summaries, judgements. All
of it goes. SQLite overwrites what it deletes (`secure_delete`), except in the index: FTS5 only notes that a
text is gone until the parts of the index that hold it are merged, so the whole index is merged, which takes
seconds with a million lines. `SqliteStorage.commit` empties the write-ahead log afterwards.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, final

from . import _sqlite_archive as archive
from ._shared import JUDGEMENTS, names

Unsay = Callable[[str, tuple[Any, ...]], int]
"""Takes lines out of the history and the search: `Writer._unsay`."""


def forget(connection: sqlite3.Connection, unsay: Unsay, user: str) -> int:
    """See `Forget`. O(lines of the conversations that the user took part in + size of the search index)."""
    erasure = _Erasure(connection, unsay, user)
    erasure.erase()
    connection.execute("INSERT INTO search (search) VALUES ('optimize')")
    return erasure.utterances


@final
class _Erasure:
    """One user's.

    Attributes:
        turns: the user's, and those in which something of the user's was merged.
        utterances: erased so far.
    """

    def __init__(self, connection: sqlite3.Connection, unsay: Unsay, user: str) -> None:
        self._connection = connection
        self._run = connection.execute
        self._unsay = unsay
        self._user = user
        self.turns: set[int] = set()
        self.utterances = 0

    def erase(self) -> None:
        """Do it."""
        user = self._user
        spoke = self._numbers("SELECT conversation FROM members WHERE user = ?")
        spoke |= self._numbers(
            "SELECT c.id FROM inbox AS i JOIN conversations AS c ON c.key = i.conversation WHERE i.user = ?"
        )
        acted = self._numbers("SELECT conversation FROM actors WHERE user = ?")
        alone = {number for number in spoke if not self._others(number)}
        for number in spoke:
            self._find_turns(number)
        for number in sorted(spoke | acted):
            self._erase_lines(number, number in alone)
        for number in sorted(spoke):
            self._erase_turns(number, number in alone)
        self._erase_unfinished()
        self._run("DELETE FROM members WHERE user = ?", (user,))
        self._run("DELETE FROM actors WHERE user = ?", (user,))
        self._run("UPDATE conversations SET agent = '' WHERE agent = ?", (user,))

    def _numbers(self, statement: str) -> set[int]:
        return {number for (number,) in self._run(statement, (self._user,))}

    def _others(self, number: int) -> bool:
        """Whether anybody else spoke in a conversation, or is about to."""
        return (
            self._run(
                "SELECT 1 FROM members WHERE conversation = :number AND user <> :user UNION ALL SELECT 1"
                " FROM inbox AS i JOIN conversations AS c ON c.key = i.conversation"
                " WHERE c.id = :number AND i.user <> :user LIMIT 1",
                {"number": number, "user": self._user},
            ).fetchone()
            is not None
        )

    def _find_turns(self, number: int) -> None:
        arguments = {"number": number, "user": self._user}
        self.turns.update(
            turn
            for (turn,) in self._run(
                "SELECT seq FROM turns WHERE conversation = :number AND user = :user UNION"
                " SELECT turn FROM entries WHERE conversation = :number AND user = :user AND role = 'user'",
                arguments,
            )
        )
        self.turns.update(
            line[archive.TURN]
            for line in archive.newer(self._connection, number, 0)
            if line[archive.ROLE] == "user" and line[archive.USER] == self._user
        )

    def _concerns(self, line: archive.Line) -> bool:
        """Whether a line goes, in a conversation that others spoke in as well."""
        role = line[archive.ROLE]
        if line[archive.USER] == self._user:
            return True
        if role == "assistant":
            return line[archive.TURN] in self.turns
        return role == "event" and names(json.loads(line[archive.DATA]), self._user)

    def _erase_lines(self, number: int, alone: bool) -> None:
        spoke = bool(
            self._run(
                "SELECT 1 FROM members WHERE conversation = ? AND user = ?", (number, self._user)
            ).fetchone()
        )

        def goes(line: archive.Line) -> bool:
            return alone or self._concerns(line) or (spoke and line[archive.KIND] in JUDGEMENTS)

        select = f"SELECT {archive.LINE} FROM entries WHERE conversation = ?"  # noqa: S608 - names of ours
        hot = [(line[archive.ID], line[archive.ROLE]) for line in self._run(select, (number,)) if goes(line)]
        ids = json.dumps([id for id, _ in hot])
        self._unsay("id IN (SELECT value FROM json_each(?))", (ids,))
        cold = archive.rewrite(self._connection, number, lambda line: not goes(line))
        roles = [role for _, role in hot] + [line[archive.ROLE] for line in cold]
        self.utterances += sum(role != "event" for role in roles)
        if spoke:
            self._run(
                "UPDATE conversations SET summary = '', score = NULL, criteria = '{}', metadata = '{}'"
                " WHERE id = ?",
                (number,),
            )

    def _erase_turns(self, number: int, alone: bool) -> None:
        run = self._run
        where = "conversation = ?" if alone else "conversation = ? AND user = ?"
        arguments = (number,) if alone else (number, self._user)
        run(f"DELETE FROM seen WHERE seq IN (SELECT seq FROM turns WHERE {where})", arguments)  # noqa: S608
        run(f"DELETE FROM turns WHERE {where}", arguments)  # noqa: S608
        if alone:
            for table in ("members", "actors"):
                run(f"DELETE FROM {table} WHERE conversation = ?", (number,))  # noqa: S608
            run("DELETE FROM conversations WHERE id = ?", (number,))
            return
        # Others who were merged with the user keep their outcomes, without the reply that was for both.
        shared = _json(self.turns)
        run(
            "UPDATE turns SET detail ="
            " json_remove(json_replace(detail, '$.error', ''), '$.text', '$.metadata')"
            " WHERE conversation = :number AND (seq IN (SELECT value FROM json_each(:turns))"
            " OR detail->>'turn_id' IN (SELECT value FROM json_each(:turns)))",
            {"number": number, "turns": shared},
        )

    def _erase_unfinished(self) -> None:
        run, user = self._run, self._user
        run("DELETE FROM seen WHERE seq IN (SELECT seq FROM inbox WHERE user = ?)", (user,))
        run("DELETE FROM inbox WHERE user = ?", (user,))
        run(
            "DELETE FROM outbox WHERE body->>'user' = ? OR seq IN (SELECT value FROM json_each(?))",
            (user, _json(self.turns)),
        )
        run("DELETE FROM letters WHERE body->>'user' = ?", (user,))


def _json(numbers: Iterable[int]) -> str:
    return json.dumps(sorted(numbers))
