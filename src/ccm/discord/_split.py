"""Cuts a text into messages: between paragraphs if it can, and no code block is ever left open."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, NamedTuple, final

__all__ = ["LIMIT", "split"]

LIMIT: Final = 2000
"""Characters of one message."""
SMALLEST: Final = 100
FENCE: Final = "```"
LANGUAGE = re.compile(r"[A-Za-z0-9_+.#-]{0,30}\n")
CLOSING: Final = "\n" + FENCE
SOONEST: Final = 0.4
"""A border is good if the part before it is at least so long, as a share of what would fit."""
PARAGRAPH = re.compile(r"\n[ \t]*\n")
LINE = re.compile(r"\n")
SENTENCE = re.compile(r"[.!?…][\"')\]*_]*\s|[\u3002\uff01\uff1f]")
SPACE = re.compile(r"\s")


class Piece(NamedTuple):
    """A part: a stretch of the text, with what opens and closes the code block it is in."""

    opening: str
    start: int
    end: int
    closing: str


def split(text: str, limit: int = LIMIT) -> list[str]:
    """Cut `text` into parts of at most `limit` characters, in order.

    The parts together are the text, but for fences: a code block that is cut is closed in one part and
    opened again, in its language, in the next; one that the text leaves open is closed. Parts that would be
    blank are left out. A cut is made, where there is a choice, before or after a code block, between
    paragraphs, lines, sentences or words.

    Args:
        text: anything.
        limit: characters (code points) of a part at most, 100 or more.

    Raises:
        ValueError: the limit is too small.
    """
    if limit < SMALLEST:
        raise ValueError(f"limit must be {SMALLEST} or more, got {limit!r}")
    return [
        piece.opening + text[piece.start : piece.end] + piece.closing
        for piece in pieces(text, limit)
        if text[piece.start : piece.end].strip()
    ]


def pieces(text: str, limit: int) -> Iterator[Piece]:
    """The cuts: stretches that follow each other from the first character to the last. O(characters)."""
    fences = _Fences(text)
    start, opening = 0, ""
    while start < len(text):
        rest = len(opening) + len(text) - start + (len(CLOSING) if fences.state(len(text)) else 0)
        end = len(text) if rest <= limit else _cut(text, fences, start, limit - len(opening) - len(CLOSING))
        state = fences.state(end)
        yield Piece(opening, start, end, "" if not state else FENCE if text[end - 1] == "\n" else CLOSING)
        start, opening = end, state


@final
class _Fences:
    """Where code blocks begin and end, as Discord finds them: each ``` in turn opens and closes one.

    Attributes:
        starts: where each fence is, ascending.
        ends: where what it opens or follows it begins, behind the language.
        openings: what opens the block again, empty for a closing fence.
    """

    __slots__ = ("ends", "openings", "starts")

    def __init__(self, text: str) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.openings: list[str] = []
        at = text.find(FENCE)
        while at >= 0:
            end, opening = at + len(FENCE), ""
            if len(self.starts) % 2 == 0:
                language = LANGUAGE.match(text, end)
                end = language.end() if language else end
                opening = FENCE + (language[0] if language else "\n")
            self.starts.append(at)
            self.ends.append(end)
            self.openings.append(opening)
            at = text.find(FENCE, end)

    def state(self, position: int) -> str:
        """What opens the block again that is open at a position, empty outside of blocks. O(log n)."""
        before = bisect_left(self.starts, position) - 1
        return self.openings[before] if before >= 0 else ""

    def around(self, position: int) -> tuple[int, int] | None:
        """The fence, with its language, that a cut at a position would tear apart. O(log n)."""
        before = bisect_left(self.starts, position) - 1
        if before >= 0 and position < self.ends[before]:
            return self.starts[before], self.ends[before]
        return None

    def borders(self, low: int, high: int) -> Iterator[int]:
        """Positions in front of blocks and behind them."""
        for number in range(bisect_left(self.starts, low - len(FENCE)), len(self.starts)):
            if self.starts[number] > high:
                return
            yield self.starts[number] if number % 2 == 0 else self.ends[number]


def _cut(text: str, fences: _Fences, start: int, room: int) -> int:
    """Where the part from `start` of at most `room` characters ends best."""
    high = start + room
    low = start + int(room * SOONEST)
    end = _border(text, fences, low, high)
    torn = fences.around(end)
    if torn is not None:
        end = torn[0] if torn[0] > start else torn[1]
    if fences.state(end):
        # If the block ends here anyhow, its own fence takes the place that is kept for one.
        for closing in (FENCE, CLOSING):
            if text.startswith(closing, end) and not fences.state(end + len(closing)):
                return end + len(closing)
    return end


def _border(text: str, fences: _Fences, low: int, high: int) -> int:
    def best(positions: Iterator[int], outside: bool = False) -> int:
        last = 0
        for position in positions:
            if low <= position <= high and not (outside and fences.state(position)):
                last = max(last, position)
        return last

    def ends_of(pattern: re.Pattern[str]) -> Iterator[int]:
        return (match.end() for match in pattern.finditer(text, low - 1, high))

    return (
        best(fences.borders(low, high))
        or best(ends_of(PARAGRAPH), outside=True)
        or best(ends_of(LINE))
        or best(ends_of(SENTENCE), outside=True)
        or best(ends_of(SPACE))
        or high
    )
