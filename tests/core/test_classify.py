"""Priorities and rules from what a text looks like."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccm import Message, Priority
from ccm._core.classify import SUPPORT_WORDS, by_content, matches, words

CRITICAL, HIGH, NORMAL, LOW = Priority


def say(text: str, **metadata: Any) -> Message:
    return Message("c", "u", text, metadata=metadata)


@pytest.mark.parametrize(
    ("text", "priority"),
    [
        ("hello", NORMAL),
        ("", NORMAL),
        ("@bot good morning", HIGH),
        ("good morning, @bot", HIGH),
        ("what now?", HIGH),
        ("please help", HIGH),
        ("URGENT", HIGH),
        ("an Emergency!", HIGH),
        ("error: 42", HIGH),
        ("this is an issue.", HIGH),
        ("no problem", HIGH),
        ("helpful people", NORMAL),
        ("terrors", NORMAL),
        ("mail me: someone@example.org", NORMAL),
        ("at @ the end", NORMAL),
        ("join discord.gg/abc", CRITICAL),
        ("discordapp.com/invite/abc", CRITICAL),
        ("see https://example.org", CRITICAL),
        ("see http://example.org", CRITICAL),
        ("HTTPS://EXAMPLE.ORG", CRITICAL),
        ("what the shit?", CRITICAL),
        ("Fucking error", CRITICAL),
        ("scunthorpe and shiitake", NORMAL),
        ("help, @bot, see https://example.org?", CRITICAL),
    ],
)
def test_by_content_without_settings(text: str, priority: Priority) -> None:
    assert by_content()(say(text), None) is priority


@pytest.mark.parametrize("metadata", [{"mention": True}, {"to": "bot"}, {"mention": True, "to": "bot"}])
def test_a_front_end_can_say_that_somebody_is_addressed(metadata: dict[str, Any]) -> None:
    assert by_content()(say("good morning", **metadata), None) is HIGH


@pytest.mark.parametrize("metadata", [{"mention": False}, {"to": ""}, {"mention": None}, {"other": True}])
def test_other_metadata_address_nobody(metadata: dict[str, Any]) -> None:
    assert by_content()(say("good morning", **metadata), None) is NORMAL


TEXT = st.text(max_size=30)


@given(
    before=TEXT,
    word=st.sampled_from(SUPPORT_WORDS),
    upper=st.booleans(),
    after=TEXT,
    glue=st.sampled_from([" ", "\n", "!", ",", "…", "'", "/"]),
)
def test_urgent_words_count_wherever_they_stand(
    before: str, word: str, upper: bool, after: str, glue: str
) -> None:
    text = before + glue + (word.upper() if upper else word) + glue + after
    assert by_content()(say(text), None) <= HIGH


@given(before=TEXT, link=st.sampled_from(["https://x", "HTTP://x", "discord.gg/x"]), after=TEXT)
def test_a_violation_counts_wherever_it_stands_and_whatever_else_is_said(
    before: str, link: str, after: str
) -> None:
    assert by_content()(say(before + link + after), None) is CRITICAL


PRIORITIES = st.sampled_from(Priority)


@given(TEXT, PRIORITIES, st.none() | PRIORITIES, st.none() | PRIORITIES, st.none() | PRIORITIES)
def test_the_most_urgent_rule_wins_and_none_switches_a_rule_off(
    text: str,
    default: Priority,
    violation: Priority | None,
    question: Priority | None,
    keyword: Priority | None,
) -> None:
    rule = by_content(violation=violation, mention=None, question=question, keyword=keyword, default=default)
    for said, found in (
        (text + " help", [keyword]),
        (text + " help?", [keyword, question]),
        ("https://x help?" + text, [keyword, question, violation]),
    ):
        applies = [priority for priority in (*found, default) if priority is not None]
        assert rule(say(said), None) <= min(applies)
        assert rule(say(said), None) in {default, violation, question, keyword}


def test_own_words_and_patterns_replace_the_usual_ones() -> None:
    rule = by_content(keywords=["c++", "feu"], violations=[r"\bspam\b"], default=LOW)
    assert rule(say("help https://x"), None) is LOW
    assert rule(say("au feu"), None) is HIGH
    assert rule(say("feuille"), None) is LOW
    assert rule(say("SPAM"), None) is CRITICAL


def test_no_words_and_no_patterns_match_nothing() -> None:
    rule = by_content(keywords=[], violations=[])
    assert rule(say("help https://x"), None) is NORMAL
    assert words([]) is None


def test_words_are_taken_literally_and_whole() -> None:
    found = words(["a.b", "stop"])
    assert found is not None
    assert found.search("Stop it")
    assert found.search("x a.b y")
    assert not found.search("a-b")
    assert not found.search("stopped")


def test_matches_searches_anywhere_and_ignores_case_unless_told() -> None:
    assert matches("spam")(say("some SPAM here"))
    assert not matches("^spam")(say("some spam"))
    assert not matches("spam", 0)(say("SPAM"))
    with pytest.raises(re.error):
        matches("(")
