"""Splitting a text: nothing is lost, every part fits, every code block is closed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccm.discord import split
from ccm.discord._split import pieces

WORDS = st.sampled_from(
    [
        "```",
        "```py\n",
        "`",
        "``",
        "\n",
        "\n\n",
        " ",
        ". ",
        "word",
        "x" * 30,
        "y" * 150,
        "é",
        "👍",
        "    ",
        "\t",
    ]
)
TEXTS = st.one_of(st.lists(WORDS, max_size=60), st.lists(WORDS, min_size=20, max_size=60)).map("".join)
LIMITS = st.integers(100, 400)


@given(TEXTS, LIMITS)
def test_every_part_fits_and_its_code_blocks_are_closed(text: str, limit: int) -> None:
    for part in split(text, limit):
        assert len(part) <= limit
        assert part.strip()
        assert part.count("```") % 2 == 0


def reopened(before: str) -> str:
    """What a part begins with: the fence of the block that is open after `before`, or nothing."""
    blocks = before.split("```")
    if len(blocks) % 2:
        return ""
    language = re.match(r"[A-Za-z0-9_+.#-]{0,30}\n", blocks[-1])
    return "```" + (language[0] if language else "\n")


@given(TEXTS, LIMITS)
def test_nothing_is_lost(text: str, limit: int) -> None:
    """The parts, without the fences that were added, are the text: each character, in its place."""
    parts = iter(split(text, limit))
    whole = ""
    for piece in pieces(text, limit):
        assert piece.start == len(whole) < piece.end
        stretch = text[piece.start : piece.end]
        if stretch.strip():  # what would be a blank message is left out
            opening, part = reopened(whole), next(parts)
            assert part.startswith(opening)
            part = part.removeprefix(opening)
            if reopened(text[: piece.end]):
                assert part.endswith("```")
                part = part.removesuffix("```")
                if not stretch.endswith("\n"):
                    assert part.endswith("\n")
                    part = part.removesuffix("\n")
            stretch = part
        whole += stretch
    assert next(parts, None) is None
    assert whole == text


@given(TEXTS, LIMITS)
def test_a_text_that_fits_is_left_alone(text: str, limit: int) -> None:
    if len(text) <= limit and text.strip() and text.count("```") % 2 == 0:
        assert split(text, limit) == [text]


@pytest.mark.parametrize(
    ("text", "borders"),
    [
        ("a" * 60 + "\n\n" + "b" * 60, ["a" * 60 + "\n\n", "b" * 60]),
        ("a" * 60 + ". " + "b" * 60, ["a" * 60 + ". ", "b" * 60]),
        ("a" * 60 + " " + "b" * 60, ["a" * 60 + " ", "b" * 60]),
        ("a" * 50 + "\n```c\n" + "b" * 60 + "\n```", ["a" * 50 + "\n", "```c\n" + "b" * 60 + "\n```"]),
        ("```c\n" + "b" * 60 + "\n```\n" + "a" * 60, ["```c\n" + "b" * 60 + "\n```", "\n" + "a" * 60]),
    ],
)
def test_cuts_are_made_where_they_hurt_least(text: str, borders: list[str]) -> None:
    assert split(text, 100) == borders


def test_a_code_block_goes_on_in_its_language() -> None:
    lines = [f"line {number}\n" for number in range(60)]
    parts = split("```py\n" + "".join(lines) + "```", 200)
    assert len(parts) > 2
    assert all(part.startswith("```py\nline") and part.endswith("\n```") for part in parts)
    assert "".join(part[6:-3] for part in parts) == "".join(lines)


def test_long_words_and_rows_of_backticks_end_somewhere() -> None:
    assert [len(part) for part in split("x" * 5000)] == [1996, 1996, 1008]
    assert all(len(part) <= 2000 and part.count("```") % 2 == 0 for part in split("`" * 5000))


def test_blank_texts_are_no_message_and_tiny_limits_are_refused() -> None:
    assert split("") == split(" \n" * 3000) == []
    with pytest.raises(ValueError, match="100 or more, got 99"):
        split("x", 99)
