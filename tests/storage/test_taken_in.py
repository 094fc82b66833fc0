"""Messages are kept as they were said, whatever is in them and however many come at once."""

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
    storage = SqliteStorage(tmp_path_factory.mktemp("taken") / "chat.db")
    storage.open()
    yield storage
    storage.close()


@given(messages=st.lists(MESSAGES, min_size=1, max_size=9), at=st.floats(0, 1e12))
def test_together_or_one_by_one_is_the_same(
    storage: SqliteStorage, messages: list[Message], at: float
) -> None:
    operations = [accepted(message, at) for message in messages]
    first = storage.commit(operations)[0].seq
    for operation in operations:
        storage.commit([operation])
    rows = storage.recover(first - 1, 100)
    assert [seen(row) for row in rows[: len(messages)]] == [seen(row) for row in rows[len(messages) :]]
    texts = [decode_message(row.body, 0.0).text for row in rows]
    assert texts == [message.text for message in messages] * 2
    assert storage._connection is not None
    columns = storage._connection.execute(
        "SELECT conversation, tenant, user, at, typeof(at) FROM inbox WHERE seq >= ?", (first,)
    ).fetchall()
    assert columns == [(m.conversation, m.tenant, m.user, at, "real") for m in messages] * 2


@pytest.mark.parametrize("count", [0, 1, 2, 3, 511, 512, 513, 1700])
@pytest.mark.parametrize("ids", [False, True])
def test_any_number_at_once_in_order(tmp_path: Path, count: int, ids: bool) -> None:
    """The second time the numbers are known, and those without ids go a shorter way."""
    storage, seqs = SqliteStorage(tmp_path / "chat.db"), list[int]()
    storage.open()
    for begin in (0, count):
        operations = [
            Accept(
                conversation=f"c{number}", tenant="", user="u", body="{}", at=float(number),
                message_id=str(number) if ids else "",
            )
            for number in range(begin, begin + count)
        ]  # fmt: skip
        seqs += [result.seq for result in storage.commit(operations)]
    assert seqs == [*range(1, 2 * count + 1)]
    found = storage.recover(0, 2 * count + 1)
    assert [(row.seq, row.at) for row in found] == [(seq, seq - 1.0) for seq in seqs]
    storage.close()


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
