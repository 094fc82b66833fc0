"""Messages whose keys the storage reads from their bodies are kept as others are, whatever is in them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import ccm
from ccm import Message
from ccm.storage import Accept, SqliteStorage, Stored
from ccm.storage._codec import decode_message, encode_message

KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
MESSAGES = st.builds(
    Message,
    KEYS,
    KEYS,
    st.text(st.characters(exclude_categories=[]), max_size=50),
    tenant=st.just("") | KEYS,
    channel=st.just("") | KEYS,
    priority=st.none() | st.sampled_from(list(ccm.Priority)),
)


def accepted(message: Message, at: float) -> Accept:
    return Accept(
        conversation=message.conversation, tenant=message.tenant, user=message.user,
        body=encode_message(message, 0.0), at=at,
    )  # fmt: skip


def seen(stored: Stored) -> Any:
    return attrs.evolve(stored, seq=0, body=json.loads(stored.body))


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Any:
    storage = SqliteStorage(tmp_path_factory.mktemp("plain") / "chat.db")
    storage.open()
    yield storage
    storage.close()


@given(messages=st.lists(MESSAGES, min_size=1, max_size=4), at=st.floats(0, 1e12))
def test_a_plain_message_is_kept_as_any_other(
    storage: SqliteStorage, messages: list[Message], at: float
) -> None:
    others = [accepted(message, at) for message in messages]
    plain = [attrs.evolve(other, plain=True) for other in others]
    first = storage.commit(others)[0].seq
    storage.commit(plain)
    rows = storage.recover(first - 1, 100)
    assert [seen(row) for row in rows[: len(messages)]] == [seen(row) for row in rows[len(messages) :]]
    texts = [decode_message(row.body, 0.0).text for row in rows]
    assert texts == [message.text for message in messages] * 2
    assert storage._connection is not None
    columns = storage._connection.execute(
        "SELECT conversation, tenant, user, at, typeof(at) FROM inbox WHERE seq >= ?", (first,)
    ).fetchall()
    assert columns == [(m.conversation, m.tenant, m.user, at, "real") for m in messages] * 2


def deep(levels: int) -> Any:
    found: Any = "end"
    for _ in range(levels):
        found = [found]
    return found


def test_what_a_database_cannot_read_harms_nobody(tmp_path: Path) -> None:
    """Metadata that is nested or is no JSON, a time without end, and what has none of it."""
    odd = [
        Message("c1", "u", "deep", metadata={"deep": deep(400)}),
        Message("c2", "u", "no number", metadata={"number": math.nan}),
        Message("c3", "u", "for ever", deadline=math.inf),
        Message("c4", "u", "plain"),
    ]

    async def never(turn: ccm.Turn) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        async with ccm.open_manager(
            never, config=ccm.Config(drain=0), storage=tmp_path / "chat.db"
        ) as manager:
            async with trio.open_nursery() as nursery:
                for message in odd:
                    nursery.start_soon(manager.submit, message)
            assert manager.statistics().received == len(odd)

    trio.run(main)
    storage = SqliteStorage(tmp_path / "chat.db")
    storage.open()
    assert {decode_message(row.body, 0.0).text for row in storage.recover(0, 100)} == {m.text for m in odd}
    storage.close()
