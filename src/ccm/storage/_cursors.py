"""Cursors: where the next part of a list begins, as text that means nothing to whoever carries it."""

from __future__ import annotations

import base64
import binascii
import json
import math


def encode_cursor(updated: float, id: int) -> str:
    """The place behind a conversation in the list of conversations."""
    return base64.urlsafe_b64encode(json.dumps([updated, id]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[float, int]:
    """What `encode_cursor` has been given.

    Raises:
        ValueError: it has not made this.
    """
    try:
        data = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        updated, id = json.loads(data)
        # Whole seconds are as good as others, `true` and "7" are not.
        if type(updated) in (int, float) and type(id) is int and math.isfinite(updated):
            return float(updated), id
    except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError):
        pass
    raise ValueError(f"there is no cursor {cursor!r}; take the one of the page before, or None to begin")
