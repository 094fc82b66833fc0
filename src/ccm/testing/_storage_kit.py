"""Messages, outcomes and questions for the suite that every storage must pass."""

from __future__ import annotations

import json
from typing import Any

from ccm.storage import Accept, Accepted, Conversation, Delivery, Letter, Page, Said, Settle, Storage


def body(user: str, text: str, conversation: str) -> str:
    """A message as JSON text, as far as a storage looks into it."""
    return json.dumps({"conversation": conversation, "user": user, "text": text, "id": "m"})


def message(user: str = "ada", text: str = "hello", *, conversation: str = "c", **fields: Any) -> Accept:
    """An accept."""
    return Accept(
        conversation=conversation, tenant=fields.pop("tenant", "t"), user=user,
        body=body(user, text, conversation), at=fields.pop("at", 100.0), **fields,
    )  # fmt: skip


def outcome(
    seq: int, user: str = "ada", text: str = "hello", answer: str = "hi", *, conversation: str = "c",
    deliver: bool = False, letter: int = 0, **fields: Any,
) -> Settle:  # fmt: skip
    """A settlement: the message was answered, or it became a letter."""
    said = [Said(role="user", user=user, text=text, message_id=f"m{seq}")]
    if answer and not letter:
        said.append(Said(role="assistant", text=answer))
    about = body(user, text, conversation)
    defaults: dict[str, Any] = {
        "tenant": "t", "channel": "ch", "route": "chat", "outcome": "failed" if letter else "replied",
        "detail": json.dumps({"text": answer, "turn_id": seq}), "accepted": 100.0 + seq,
        "ended": 200.0 + seq, "waited": 0.5, "served": 1.5, "attempts": 1, "said": tuple(said),
    }  # fmt: skip
    if deliver:
        defaults["delivery"] = Delivery(seq=seq, conversation=conversation, body=about, text=answer)
    if letter:
        defaults["letter"] = dead(letter, user, text, conversation)
    return Settle(seq=seq, conversation=conversation, user=user, **(defaults | fields))


def dead(id: int, user: str = "ada", text: str = "hello", conversation: str = "c") -> Letter:
    """A dead letter."""
    about = body(user, text, conversation)
    return Letter(id=id, body=about, route="chat", attempts=3, error="it broke", at=300.0)


def accept(storage: Storage, user: str = "ada", text: str = "hello", **fields: Any) -> int:
    """Put a message into the inbox; returns its `seq`."""
    (result,) = storage.accept([message(user, text, **fields)])
    assert isinstance(result, Accepted), f"a new message was answered with {result!r}"
    return result.seq


def talk(
    storage: Storage, user: str = "ada", text: str = "hello", answer: str = "hi", *, conversation: str = "c",
    **fields: Any,
) -> int:  # fmt: skip
    """A message and its outcome; returns the turn's id."""
    seq = accept(storage, user, text, conversation=conversation)
    storage.settle([outcome(seq, user, text, answer, conversation=conversation, **fields)])
    return seq


def lines(storage: Storage, key: str = "c") -> list[str]:
    """All texts of a conversation, oldest first, collected page by page from the end."""
    found: list[str] = []
    before: int | None = None
    while True:
        page = storage.history(key, before=before, after=None, limit=3)
        found = [entry.text for entry in page.items] + found
        if page.cursor is None:
            return found
        before = int(page.cursor)


def hits(storage: Storage, text: str, **where: Any) -> list[str]:
    """The texts that a search finds."""
    options: dict[str, Any] = dict.fromkeys(("conversation", "user", "tenant")) | {"limit": 50, "offset": 0}
    return [hit.entry.text for hit in storage.search(text, **(options | where))]


def listed(storage: Storage, **where: Any) -> Page[Conversation]:
    """A page of conversations."""
    options: dict[str, Any] = dict.fromkeys(("user", "tenant", "status", "stage", "paused", "cursor"))
    return storage.conversations(**(options | {"limit": 50} | where))


def keys(storage: Storage, **where: Any) -> list[str]:
    """The keys of a page of conversations."""
    return [conversation.key for conversation in listed(storage, **where).items]


def everything(storage: Storage) -> list[Any]:
    """All that can be read, for comparing."""
    return [
        storage.recover(0, 1000), storage.undelivered(0, 1000), storage.letters(1000),
        listed(storage, limit=1000), list(storage.export(None)), storage.analytics(0.0, 1e12),
    ]  # fmt: skip
