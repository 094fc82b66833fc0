"""Verdicts on the laws from outside: what senders, handlers and outcomes saw, compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import attrs

from ccm._message import Message
from ccm._statistics import Statistics
from ccm.testing._figures import GroupFigures

_SHOWN = 3


@final
@attrs.frozen
class Check:
    """Whether a law held, and the figures that show it."""

    law: str
    promise: str
    ok: bool
    detail: str


@final
class OrderWitness:
    """Laws G2 and G3, seen by whoever sends and by whoever answers.

    The sender sees that the ids of turns rise in the order in which it handed the messages in; the handler
    sees that the ids of a conversation's turns rise, and that none starts while another is at work.

    Attributes:
        peak: the most handlers at work at a time.
        running: conversations that have one at work; whoever leaves a handler takes its own out.

    Invariants: `_last` has the id of the last turn that started, by conversation.
    """

    def __init__(self, *, ordered: bool) -> None:
        self.peak = 0
        self.running: set[str] = set()
        self.turns = 0
        self._ordered = ordered
        self._last: dict[str, int] = {}
        self._accepted = 0
        self._found: list[str] = []
        self._count = 0

    def accepted(self, turn: int, message: Message) -> None:
        """`message`, handed in just now, became `turn`. O(1)."""
        if turn <= self._accepted:
            self._find(f"{message.id} became turn {turn}, after {self._accepted}")
        self._accepted = turn

    def accepted_later(self, turn: int) -> None:
        """A message that waited for room became `turn`: its place is behind those that came in meanwhile.
        O(1)."""
        self._accepted = max(self._accepted, turn)

    def start(self, conversation: str, turn: int) -> None:
        """A handler begins with `turn`. O(1)."""
        self.turns += 1
        last = self._last.get(conversation, 0)
        if self._ordered:
            if turn < last:
                self._find(f"turn {turn} of {conversation!r} started after turn {last}")
            if conversation in self.running:
                self._find(f"turn {turn} of {conversation!r} started beside another one")
        self._last[conversation] = turn
        self.running.add(conversation)

    def _find(self, what: str) -> None:
        self._count += 1
        if self._count <= _SHOWN:
            self._found.append(what)

    def order(self) -> Check:
        """The verdict on law G2."""
        detail = f"{self.turns} attempts in {len(self._last)} conversations"
        if not self._ordered:
            detail += "; not looked at, because enabled = false gives up the order"
        if self._count:
            detail = "; ".join(self._found) + f" ({self._count} in all)"
        return Check("G2", "order inside conversations", not self._count, detail)

    def capacity(self, limit: int | None) -> Check:
        """The verdict on law G3 with the highest `limit` there was; None is no limit."""
        ok = limit is None or self.peak <= limit
        return Check("G3", "capacity", ok, f"at most {self.peak} turns at once, limit {limit or 'off'}")


def conservation(
    statistics: Statistics, *, sent: int, accepted: int, rejected: int, ended: int,
    classes: Sequence[GroupFigures], tenants: Sequence[GroupFigures],
) -> Check:  # fmt: skip
    """The verdict on law G1 at the end: the books of the manager, the sender and the outcomes agree."""
    found = []
    try:
        statistics.check()
    except AssertionError as error:
        found.append(str(error))
    by_class, by_tenant = GroupFigures.sum(classes), GroupFigures.sum(tenants)
    live = statistics.waiting + statistics.running + statistics.retrying
    if not sent == statistics.received == accepted + rejected:
        found.append(f"{sent} sent, {statistics.received} received, {accepted} accepted, {rejected} rejected")
    if ended != accepted or live:
        found.append(f"{accepted} accepted, {ended} ended, {live} without an outcome")
    if not by_class.outcomes == by_tenant.outcomes == dict(statistics.outcomes):
        found.append(f"by class {by_class.outcomes}, by tenant {by_tenant.outcomes}")
    return Check("G1", "conservation", not found, "; ".join(found) or f"exact for {sent} messages")
