"""A storage in memory that outlives the manager, fails when it is told to, and can be killed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import trio

from ccm import StorageError
from ccm.storage import (
    Accept,
    Accepted,
    Analytics,
    Attempted,
    Conversation,
    Delivered,
    Delivery,
    Ended,
    Entry,
    Health,
    Hit,
    Letter,
    Operation,
    Page,
    Repeated,
    Settle,
    Storage,
    Stored,
)
from ccm.storage._shared import as_ended


class Disk(Storage):
    """What a file would hold; `failures` and `unknown` are the shares of commits that fail, and fail so that
    nobody knows whether they happened. After the latter nothing works until it is opened again."""

    kind = "disk"
    blocking = False

    def __init__(self, seed: str, failures: float = 0.0, unknown: float = 0.0, slow: float = 0.0) -> None:
        self.draw = random.Random(seed)
        self.failures, self.unknown, self.slow = failures, unknown, slow
        self.seq = 0
        self.inbox: dict[int, Stored] = {}
        self.ids: dict[tuple[str, str], int] = {}
        self.turns: dict[int, Settle] = {}
        self.outbox: dict[int, Delivery] = {}
        self.kept: dict[int, Letter] = {}
        self.dead = self.broken = False
        self.ever_failed = False
        self.start = 1e9

    def wall(self) -> float:
        """Time that goes on from life to life."""
        return self.start + trio.current_time()

    def open(self) -> None:
        self.dead = self.broken = self.ever_failed = False

    def close(self) -> None:
        pass

    def kill(self) -> None:
        """The process is gone: nothing that is still running reaches the disk."""
        self.dead = True

    def latency(self) -> float:
        return self.draw.choice((0.0, 1 / 64, 2 / 64)) if self.draw.random() < self.slow else 0.0

    def _usable(self) -> None:
        if self.dead or self.broken:
            raise StorageError("the disk does not work any more", unknown=self.dead)

    def commit(self, operations: Sequence[Operation]) -> list[Any]:
        self._usable()
        fate = self.draw.random()
        if fate < self.failures:
            self.ever_failed = True
            raise StorageError("the disk is full")
        if fate < self.failures + self.unknown:
            self.broken = self.ever_failed = True
            if self.draw.random() < 0.5:
                self._apply(operations)
            raise StorageError("the disk has failed", unknown=True)
        return self._apply(operations)

    def _apply(self, operations: Sequence[Operation]) -> list[Any]:
        results: list[Any] = [None] * len(operations)
        order = sorted(range(len(operations)), key=lambda n: _rank(operations[n]))
        for number in order:
            results[number] = self._one(operations[number])
        return results

    def _one(self, operation: Operation) -> Any:
        match operation:
            case Accept():
                return self._accept(operation)
            case Settle():
                if self.inbox.pop(operation.seq, None) is not None:
                    self.turns[operation.seq] = operation
                    if operation.delivery is not None:
                        self.outbox[operation.seq] = operation.delivery
                    if operation.letter is not None:
                        self.kept[operation.letter.id] = operation.letter
            case Attempted(seq):
                if seq in self.inbox:
                    stored = self.inbox[seq]
                    self.inbox[seq] = Stored(
                        seq=seq, body=stored.body, at=stored.at, attempts=stored.attempts + 1
                    )
            case Delivered(seq, letter):
                self.outbox.pop(seq, None)
                if letter is not None:
                    self.kept[letter.id] = letter
        return None

    def _accept(self, operation: Accept) -> Accepted | Repeated:
        key = (operation.tenant, operation.message_id)
        if operation.message_id and key in self.ids:
            first = self.ids[key]
            ended = self.turns.get(first)
            return Repeated(first, ended.outcome if ended else "", ended.detail if ended else "{}")
        self.seq += 1
        self.inbox[self.seq] = Stored(seq=self.seq, body=operation.body, at=operation.at, attempts=0)
        if operation.message_id:
            self.ids[key] = self.seq
        return Accepted(self.seq)

    def recover(self, after: int, limit: int) -> list[Stored]:
        self._usable()
        return [self.inbox[seq] for seq in sorted(self.inbox) if seq > after][:limit]

    def ended(self, seq: int) -> Ended | None:
        turn = self.turns.get(seq)
        return None if turn is None else as_ended(turn)

    def undelivered(self, after: int, limit: int) -> list[Delivery]:
        self._usable()
        return [self.outbox[seq] for seq in sorted(self.outbox) if seq > after][:limit]

    def letters(self, limit: int) -> list[Letter]:
        return [self.kept[id] for id in sorted(self.kept)][-limit:]

    def health(self) -> Health:
        return Health(
            kind=self.kind, durable=True, version=1, inbox=len(self.inbox), outbox=len(self.outbox),
            letters=len(self.kept), conversations=0, bytes=0,
        )  # fmt: skip

    # Histories are not what is simulated.

    def conversation(self, key: str) -> Conversation | None:
        return None

    def conversations(self, **_: Any) -> Page[Conversation]:
        return Page(())

    def history(self, key: str, **_: Any) -> Page[Entry]:
        return Page(())

    def search(self, text: str, **_: Any) -> list[Hit]:
        return []

    def export(self, key: str | None) -> Iterator[dict[str, Any]]:
        return iter(())

    def analytics(self, since: float, until: float) -> Analytics:
        raise NotImplementedError


def _rank(operation: Operation) -> int:
    return 0 if isinstance(operation, Accept) else 1 if isinstance(operation, Settle) else 2
