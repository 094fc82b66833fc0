"""Conversations to fill a storage with."""

from __future__ import annotations

import json
from typing import Any

from ccm.storage import Accept, Accepted, Delivery, Letter, Said, Settle, Storage


def body(user: str, text: str, conversation: str = "c") -> str:
    return json.dumps({"conversation": conversation, "user": user, "text": text, "id": f"id-of-{user}"})


def accept(storage: Storage, user: str = "ada", text: str = "hello", **fields: Any) -> int:
    """Put a message into the inbox; returns its place."""
    conversation = fields.pop("conversation", "c")
    operation = Accept(
        conversation=conversation, tenant="t", user=user, body=body(user, text, conversation),
        at=fields.pop("at", 100.0), **fields,
    )  # fmt: skip
    (result,) = storage.accept([operation])
    assert isinstance(result, Accepted)
    return result.seq


def settle(
    storage: Storage, seq: int, user: str = "ada", text: str = "hello", answer: str | None = "hi", *,
    conversation: str = "c", deliver: bool = False, letter: int | None = None, **fields: Any,
) -> None:  # fmt: skip
    """Give it its outcome: it was answered, or has become a letter."""
    said: tuple[Said, ...] = (Said(role="user", user=user, text=text, message_id=f"m{seq}"),)
    if answer is not None:
        said += (Said(role="assistant", text=answer),)
    message = body(user, text, conversation)
    defaults: dict[str, Any] = {
        "route": "chat", "outcome": "failed" if letter else "replied", "accepted": 100.0 + seq,
        "ended": 101.0 + seq, "said": said, "waited": 0.5, "served": 1.0, "attempts": 1,
        "detail": json.dumps({"text": answer, "turn_id": seq}),
    }  # fmt: skip
    if deliver:
        defaults["delivery"] = Delivery(seq=seq, conversation=conversation, body=message, text=answer or "")
    if letter:
        defaults["letter"] = Letter(id=letter, body=message, route="chat", attempts=3, error="oops", at=9.0)
    storage.settle([Settle(seq=seq, conversation=conversation, tenant="t", user=user, **(defaults | fields))])


def talk(storage: Storage, user: str = "ada", text: str = "hello", answer: str | None = "hi",
         **fields: Any) -> int:  # fmt: skip
    """A message and its answer; returns the turn."""
    names = ("message_id", "since", "at")
    seq = accept(
        storage, user, text, conversation=fields.get("conversation", "c"),
        **{name: fields.pop(name) for name in names if name in fields},
    )  # fmt: skip
    settle(storage, seq, user, text, answer, **fields)
    return seq


def texts(storage: Storage, key: str = "c", **where: Any) -> list[str]:
    """The texts of a page of history."""
    page = storage.history(key, **({"before": None, "after": None, "limit": 100} | where))
    return [entry.text for entry in page.items]


def found(storage: Storage, text: str, **where: Any) -> list[str]:
    """The texts that a search finds."""
    options: dict[str, Any] = dict.fromkeys(("conversation", "user", "tenant")) | {"limit": 100, "offset": 0}
    return [hit.entry.text for hit in storage.search(text, **(options | where))]


def keys(storage: Storage, **where: Any) -> list[str]:
    """The keys of all conversations that match, page by page."""
    found: list[str] = []
    cursor = None
    while True:
        options: dict[str, Any] = dict.fromkeys(("user", "tenant", "status", "stage", "paused"))
        page = storage.conversations(**(options | {"limit": 3} | where | {"cursor": cursor}))
        found += [conversation.key for conversation in page.items]
        cursor = page.cursor
        if cursor is None:
            return found
