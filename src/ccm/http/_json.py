"""What is checked in JSON before it is parsed: how deep it is nested, and what no program should be sent."""

from __future__ import annotations

import re

# Strings first, so that brackets inside of them do not count.
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]|NaN|Infinity', re.DOTALL)
# One half of a surrogate pair alone is no character; storage and network could not write it. An escaped
# backslash is skipped first, so that it does not escape what follows.
_LONE = re.compile(
    rb"(?:\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u])|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def json_error(data: bytes, max_depth: int) -> str | None:
    """What is wrong with it, in a few words; None when a parser may have it. It need not be JSON at all.

    O(length), and next to nothing for the usual body, which has fewer brackets than it may be deep.
    """
    if data.count(b"[") + data.count(b"{") > max_depth or b"NaN" in data or b"Infinity" in data:
        depth = 0
        for token in _TOKENS.finditer(data):
            mark = data[token.start()]
            if mark in b"[{":
                depth += 1
                if depth > max_depth:
                    return f"JSON is nested deeper than {max_depth}"
            elif mark in b"]}":
                depth -= 1
            elif mark in b"NI":
                return "NaN and Infinity are not JSON"
    if b"\\u" in data and any(match[1] for match in _LONE.finditer(data)):
        return "JSON holds half of a surrogate pair"
    return None
