"""Splitting a text: nothing is lost, every part fits, every code block is closed."""

from __future__ import annotations

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
TEXTS = st.lists(WORDS, max_size=60).map("".join)
LIMITS = st.integers(100, 400)


@given(TEXTS, LIMITS)
def test_every_part_fits_and_its_code_blocks_are_closed(text: str, limit: int) -> None:
    for part in split(text, limit):
        assert len(part) <= limit
        assert part.strip()
        assert part.count("```") % 2 == 0


@given(TEXTS, LIMITS)
def test_nothing_is_lost(text: str, limit: int) -> None:
    at = 0
    for piece in pieces(text, limit):
        assert piece.start == at
        assert piece.end > at
        at = piece.end
        assert piece.opening == "" or (piece.opening.startswith("```") and piece.opening.endswith("\n"))
        assert piece.closing in ("", "```", "\n```")
    assert at == len(text)
    kept = "".join("".join(split(text, limit)).replace("`", "").split())
    assert kept.startswith("".join(text[:1].replace("`", "").split()))
    assert sum(map(len, split(text, limit))) >= len("".join(text.split()))


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
