"""How urgent a text looks, and whether a pattern occurs in it: the rules that routes are built from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from .._message import Message, Priority

SUPPORT_WORDS = ("help", "urgent", "emergency", "issue", "problem", "error")
"""Words that make a message HIGH by default."""

VIOLATIONS = (
    r"discord(?:\.gg|app\.com/invite)/",
    r"https?://",
    r"\b(?:fuck\w*|shit\w*|bitch\w*|asshole\w*|bastards?)\b",
)
"""Patterns that make a message CRITICAL by default: invitations, links, bad language."""


def matches(pattern: str, flags: int = re.IGNORECASE) -> Callable[[Message], bool]:
    """A rule for `Router.route(when=...)`: true for messages whose text contains `pattern`.

    Args:
        pattern: a regular expression, searched anywhere in the text.
        flags: of `re.compile`; case is ignored by default.
    """
    search = re.compile(pattern, flags).search

    def rule(message: Message) -> bool:
        return search(message.text) is not None

    return rule


def words(keywords: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern that finds any of the keywords as a whole word, or None for no keywords."""
    listed = "|".join(re.escape(word) for word in keywords)
    return re.compile(rf"\b(?:{listed})\b", re.IGNORECASE) if listed else None


def by_content(
    *,
    violation: Priority | None = Priority.CRITICAL,
    mention: Priority | None = Priority.HIGH,
    question: Priority | None = Priority.HIGH,
    keywords: Iterable[str] = SUPPORT_WORDS,
    keyword: Priority | None = Priority.HIGH,
    violations: Iterable[str] = VIOLATIONS,
    default: Priority = Priority.NORMAL,
) -> Callable[[Message, Any], Priority]:
    """A priority for `Router.route(priority=...)`: the most urgent of what the text looks like.

    A mention is `@name` in the text, `metadata["mention"]` that is true, or `metadata["to"]`. None
    switches a rule off.

    Args:
        violation: priority of a text that matches one of `violations` (regular expressions).
        mention: priority of a text that addresses somebody.
        question: priority of a text with a question mark.
        keywords: words that ask for support.
        keyword: priority of a text with one of them.
        violations: see `violation`.
        default: priority of everything else.
    """
    bad = re.compile("|".join(violations) or r"(?!)", re.IGNORECASE)
    support = words(keywords)
    address = re.compile(r"(?<!\w)@\w")

    def priority(message: Message, session: Any = None) -> Priority:
        text, found = message.text, default
        if violation is not None and violation < found and bad.search(text):
            found = violation
        if mention is not None and mention < found and _addressed(message, address):
            found = mention
        if question is not None and question < found and "?" in text:
            found = question
        if keyword is not None and keyword < found and support is not None and support.search(text):
            found = keyword
        return found

    return priority


def _addressed(message: Message, address: re.Pattern[str]) -> bool:
    metadata = message.metadata
    return bool(metadata.get("mention") or metadata.get("to")) or address.search(message.text) is not None
