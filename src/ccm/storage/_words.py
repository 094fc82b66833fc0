"""Words of a text as the full-text search sees them: queries, how well a text fits, snippets.

The storages rank and cut here instead of with SQLite's `bm25()` and `snippet()`. `bm25()` visits every row
that has one of the words, which takes seconds for a common word among a million rows; and so both storages
find the same.
"""

from __future__ import annotations

import re
import unicodedata
from typing import final

import attrs

from ._codec import clean

# As FTS5's "unicode61": letters and digits are words, with the accents that stand behind them.
_WORD = re.compile(r"(?:[^\W_][\u0300-\u036f]*)+")
_ASCII = re.compile(r"[0-9a-z]+")
_AROUND = 6
"""Words on each side of the first one found that a snippet shows."""
_LONGEST = 64
"""Words of a query at most."""
_USUAL = 20.0
"""Words in a usual utterance: longer ones need more of what is looked for to rank as high."""


def fold(text: str) -> str:
    """`text` without case and accents. O(length)."""
    text = text.lower()
    if text.isascii():
        return text
    apart = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in apart if not "\u0300" <= c <= "\u036f"))


def words(text: str) -> list[str]:
    """The words of `text`, folded. O(length)."""
    if text.isascii():
        return _ASCII.findall(text.lower())
    return [fold(word) for word in _WORD.findall(text)]


@final
@attrs.frozen
class Query:
    """What a search looks for: `phrases` of folded words in a row; the last word may be the beginning of one.

    Attributes:
        phrases: what was written without a space in between is one phrase: "don't" is "don" and "t".
        fts, fts_beginning: the same for FTS5, where nothing that a user writes is an operator: with the last
            word as it stands, and as a beginning.
    """

    phrases: tuple[tuple[str, ...], ...]
    fts: str
    fts_beginning: str

    def score(self, text: str) -> float | None:
        """How well `text` fits, better when smaller; None when it lacks a phrase. O(length)."""
        found = words(text)
        long = len(found) / _USUAL
        score = 0.0
        for phrase in self.phrases:
            times = len(self._places(found, phrase))
            if not times:
                return None
            # The saturation of BM25 with its usual constants; the rarity of words counts for all alike.
            score -= times * 2.2 / (times + 1.2 * (0.25 + 0.75 * long))
        return score

    def _places(self, found: list[str], phrase: tuple[str, ...]) -> list[int]:
        """Where in `found` the phrase begins."""
        first, last = phrase[0], phrase[-1]
        whole = phrase is not self.phrases[-1] or _is_whole(phrase)
        if len(phrase) == 1:
            if whole:
                return [n for n, word in enumerate(found) if word == first]
            return [n for n, word in enumerate(found) if word.startswith(first)]
        size = len(phrase)
        return [
            n
            for n in range(len(found) - size + 1)
            if found[n] == first
            and tuple(found[n : n + size - 1]) == phrase[:-1]
            and (found[n + size - 1] == last if whole else found[n + size - 1].startswith(last))
        ]

    def snippet(self, text: str) -> str:
        """The words around the first one found, those looked for in brackets. O(length)."""
        spans = [(match.start(), match.end()) for match in _WORD.finditer(text)]
        found = [fold(text[start:end]) for start, end in spans]
        marked: set[int] = set()
        for phrase in self.phrases:
            for place in self._places(found, phrase):
                marked.update(range(place, place + len(phrase)))
        first = max(0, min(marked, default=0) - _AROUND)
        last = min(len(spans), first + 2 * _AROUND + 1)
        if not spans:
            return text
        parts = ["…" if first else text[: spans[0][0]]]
        for number in range(first, last):
            start, end = spans[number]
            parts.append(f"[{text[start:end]}]" if number in marked else text[start:end])
            if number + 1 < last:
                parts.append(text[end : spans[number + 1][0]])
        parts.append("…" if last < len(spans) else text[spans[-1][1] :])
        return "".join(parts)


def parse(text: str) -> Query:
    """What a user's `text` asks for. O(length).

    Raises:
        ValueError: it has no words, or too many.
    """
    asked = [(part, tuple(words(part))) for part in clean(text).split()]
    asked = [(part, phrase) for part, phrase in asked if phrase]
    if not asked:
        raise ValueError(f"a search needs at least one word or number, got {text!r}; name what was said")
    if sum(len(phrase) for _, phrase in asked) > _LONGEST:
        raise ValueError(f"a search takes at most {_LONGEST} words, got {len(text.split())}; leave some out")
    fts = " ".join('"' + part.replace('"', " ") + '"' for part, _ in asked)
    return Query(tuple(phrase for _, phrase in asked), fts, fts if _is_whole(asked[-1][1]) else f"{fts}*")


def _is_whole(phrase: tuple[str, ...]) -> bool:
    """A single letter begins half of all words; where a letter can be a word by itself, it begins few."""
    return len(phrase[-1]) == 1 and phrase[-1] < "\u2e80"
