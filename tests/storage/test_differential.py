"""Whatever is done, memory and SQLite give the same results and can be read the same."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccm.storage import (
    Accept,
    Annotate,
    Archive,
    Attempted,
    Delivered,
    Delivery,
    Discard,
    Forget,
    Letter,
    MemoryStorage,
    Operation,
    Retract,
    Rewrite,
    Said,
    Settle,
    SqliteStorage,
    Storage,
)
from tests.storage.kit import body

KEYS = ("a", "b", "c")
USERS = ("ada", "bob", "eva")
TENANT = {"a": "t", "b": "t", "c": "u"}
WORDS = ("crème", "CREAM", "don't", "猫", "x_y", "half\ud83d", "nul\0", "ﬁ", "İ", "ß", "e\u0301t", "")
seqs = st.integers(1, 12)
keys = st.sampled_from(KEYS)
users = st.sampled_from(USERS)
texts = st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join)
times = st.integers(0, 20).map(float)


@st.composite
def accepts(draw: st.DrawFn) -> Accept:
    key, user = draw(keys), draw(users)
    return Accept(
        conversation=key, tenant=TENANT[key], user=user, body=body(user, "x", key), at=draw(times),
        digest=draw(st.sampled_from(("", "d1", "d2"))),
        message_id=draw(st.sampled_from(("", "m1", "m2"))), since=5.0,
        letter=draw(st.none() | st.integers(1, 4)),
    )  # fmt: skip


@st.composite
def settles(draw: st.DrawFn) -> Settle:
    seq, key, user, text = draw(seqs), draw(keys), draw(users), draw(texts)
    said = [Said(role="user", user=user, text=text, message_id=f"m{seq}", handled=draw(st.booleans()))]
    if draw(st.booleans()):
        said.append(Said(role="user", user=draw(users), text=draw(texts), message_id="merged"))
    if draw(st.booleans()):
        said.append(Said(role="assistant", text=draw(texts), partial=draw(st.booleans())))
    name = draw(st.sampled_from(("replied", "merged", "failed", "expired")))
    about = body(user, "x", key)
    letter = Letter(id=draw(st.integers(1, 4)), body=about, route="chat", attempts=1, error=text, at=1.0)
    detail: dict[str, Any] = {"text": "said", "turn_id": draw(seqs)}
    if name == "failed":
        detail = {"error": "e", "dead_letter": 1}
    return Settle(
        seq=seq, conversation=key, tenant=TENANT[key], channel="ch", user=user,
        route=draw(st.sampled_from("rs")),
        outcome=name, accepted=draw(times), ended=draw(times), detail=json.dumps(detail),
        waited=draw(st.sampled_from((-1.0, 0.5))), served=1.0, attempts=1, said=tuple(said),
        message_id=f"m{seq}", letter=letter if name == "failed" else None,
        delivery=Delivery(seq=seq, conversation=key, body=about, text=text) if name == "replied" else None,
    )  # fmt: skip


@st.composite
def changes(draw: st.DrawFn) -> Annotate:
    fields: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "stage": st.sampled_from(("", "new")),
                "paused": st.booleans(),
                "agent": users,
                "summary": texts,
                "metadata": st.sampled_from(("{}", '{"name": "ada"}')),
                "score": st.none() | st.sampled_from((0.0, 1.0)),
            },
        )
    )
    return Annotate(
        conversation=draw(keys), at=draw(times), kind=draw(st.sampled_from(("", "stage", "summary"))),
        by=draw(users), text=draw(texts), data=json.dumps({"agent": fields.get("agent")}), fields=fields,
        expect=draw(st.sampled_from(({}, {"stage": ""}, {"paused": False}))), tenant="t", channel="ch",
        create=draw(st.booleans()),
    )  # fmt: skip


def operations() -> st.SearchStrategy[Operation]:
    dead = Letter(id=9, body=body("eva", "x"), route="(delivery)", attempts=1, error="", at=1.0)
    return (
        accepts()
        | accepts()
        | settles()
        | settles()
        | changes()
        | st.builds(Attempted, seqs)
        | st.builds(Rewrite, seqs, st.just(body("ada", "new")))
        | st.builds(Retract, seqs, st.none() | seqs.map(lambda n: f"m{n}"))
        | st.builds(Delivered, seqs, st.none() | st.just(dead))
        | st.builds(Discard, st.integers(1, 9))
        | st.builds(Archive, st.none() | keys, times, times, st.integers(1, 2))
        | st.builds(Forget, users)
    )


def fitting(storage: Storage, batch: list[Operation], now: float) -> list[Operation]:
    """The batch: settlements get conversation and user of a message that waits, messages one time and a
    window of 3 seconds."""
    known = {stored.seq: json.loads(stored.body) for stored in storage.recover(0, 1000)}
    seqs = sorted(known)
    fitted: list[Operation] = []
    for operation in batch:
        if isinstance(operation, Settle) and known:
            seq = seqs[operation.seq % len(seqs)]
            about = {name: known[seq][name] for name in ("conversation", "user")}
            about["tenant"] = TENANT[about["conversation"]]
            delivery = operation.delivery
            if delivery is not None:
                delivery = attrs.evolve(delivery, seq=seq, conversation=about["conversation"])
            operation = attrs.evolve(operation, seq=seq, delivery=delivery, **about)
        if isinstance(operation, Accept):
            operation = attrs.evolve(operation, at=now, since=now - 3.0)
        fitted.append(operation)
    return fitted


def picture(storage: Storage) -> dict[str, Any]:
    """All that can be read, in every way."""
    page: dict[str, Any] = dict.fromkeys(("user", "tenant", "status", "stage", "paused", "cursor"))
    filters: list[dict[str, Any]] = [
        {}, *({"user": user} for user in USERS), {"tenant": "u"}, {"stage": "new"}, {"paused": True},
        {"status": "archived"},
    ]  # fmt: skip
    found: dict[str, Any] = {
        "recover": storage.recover(1, 5), "undelivered": storage.undelivered(0, 5),
        "letters": storage.letters(2), "export": list(storage.export(None)),
        "analytics": storage.analytics(5.0, 15.0),
    }  # fmt: skip
    for where in filters:
        first = storage.conversations(**(page | where), limit=2)
        found[f"conversations {where}"] = first.items
        if first.cursor is not None:
            found[f"more {where}"] = storage.conversations(
                **(page | where | {"cursor": first.cursor}), limit=2
            )
    for key in KEYS:
        found[f"about {key}"] = storage.conversation(key)
        for place in (None, 4, 9):
            found[f"{key} before {place}"] = storage.history(key, before=place, after=None, limit=3)
            found[f"{key} after {place}"] = storage.history(key, before=None, after=place, limit=3)
    for text in ("cre", "creme", "CRÈME don't", "t", "猫", "x_y", "half", "nul", "et", "ß"):
        for user, tenant in ((None, None), ("ada", None), (None, "u"), ("ada", "u"), (None, "t")):
            hits = storage.search(text, conversation=None, user=user, tenant=tenant, limit=99, offset=0)
            found[f"search {text} {user} {tenant}"] = sorted(
                (hit.entry.id, hit.snippet, hit.rank) for hit in hits
            )
    return found


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(operations(), min_size=1, max_size=6), max_size=8))
def test_memory_and_sqlite_are_alike(batches: list[list[Operation]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        memory, sqlite = MemoryStorage(), SqliteStorage(Path(folder) / "chat.db")
        memory.open()
        sqlite.open()
        try:
            for number, drawn in enumerate(batches):
                batch = fitting(memory, drawn, 2.0 * number)
                assert memory.commit(batch) == sqlite.commit(batch)
            expected, found = picture(memory), picture(sqlite)
            for name, value in expected.items():
                assert found[name] == value, name
            assert sqlite.check() == []
        finally:
            sqlite.close()
