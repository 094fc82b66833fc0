"""What can be seen of one run of a `TurnProgram` from outside, in the order in which it happened."""

from __future__ import annotations

from typing import Any

import attrs

import ccm

from .turn_programs import TurnProgram

ABANDONED = "abandoned"  # the caller was cancelled, or left its stream, before it knew
CLOSED = "closed"


@attrs.frozen
class Enter:
    """A handler was entered."""

    at: float
    turn_id: int
    attempt: int
    degraded: str | None
    messages: tuple[int, ...]
    texts: tuple[str, ...]


@attrs.frozen
class Left:
    """A handler was left: "replied", "raised", "cancelled" or "ignored"."""

    at: float
    turn_id: int
    degraded: str | None
    messages: tuple[int, ...]
    how: str


@attrs.frozen
class Called:
    """A message was handed in."""

    at: float
    call: int


@attrs.frozen
class Changed:
    """`edit` or `retract` returned (None: it was called)."""

    at: float
    call: int
    what: str
    change: ccm.Change | None
    text: str = ""


@attrs.frozen
class Stopping:
    """`stop` was called, or returned."""

    at: float
    conversation: str
    result: ccm.Stopped | None


@attrs.frozen
class Recalled:
    """A handler looked at the history."""

    at: float
    conversation: str
    turn_id: int
    history: tuple[ccm.HistoryEntry, ...]


@attrs.define
class Reading:
    """What a reader got: pieces in order, each `Restarted` among them, and how it ended."""

    pieces: list[str] = attrs.Factory(list)
    text: str = ""
    ended: str = ""

    @property
    def joined(self) -> str:
        starts = [n for n, piece in enumerate(self.pieces) if isinstance(piece, ccm.Restarted)]
        return "".join(self.pieces[starts[-1] + 1 if starts else 0 :])


@attrs.define
class Trace:
    """What could be seen of one run; `log` is in the order in which it happened."""

    program: TurnProgram
    log: list[Any] = attrs.Factory(list)
    results: dict[int, str] = attrs.Factory(dict)
    replies: dict[int, str] = attrs.Factory(dict)
    outcomes: dict[int, Any] = attrs.Factory(dict)
    receipts: dict[int, ccm.Receipt] = attrs.Factory(dict)
    readings: dict[int, Reading] = attrs.Factory(dict)
    delivered: list[int] = attrs.Factory(list)
    errors: list[str] = attrs.Factory(list)
    inside: int = 0
    outside: int = 0
    final: ccm.Statistics | None = None
