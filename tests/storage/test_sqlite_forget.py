"""`Forget`: afterwards no byte of the files tells of the user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ccm.storage import Annotate, Archive, Forget, Said, SqliteStorage
from tests.storage.kit import accept, found, keys, talk, texts

USER = "user-zerlinda-4711"
WORD = "quetzalcoatlus"


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqliteStorage]:
    storage = SqliteStorage(tmp_path / "chat.db")
    storage.open()
    yield storage
    storage.close()


def everywhere(storage: SqliteStorage) -> bytes:
    """Every byte of the folder: the file, its log, its index, its lock."""
    return b"".join(path.read_bytes() for path in sorted(storage.path.parent.iterdir()))


def fill(storage: SqliteStorage, *, rows: int = 200) -> None:
    """The user is alone in one conversation, one of two in another, waits, failed, acts elsewhere."""
    for number in range(rows):
        talk(storage, "bob", f"bob says {number}", f"answer {number}", conversation="shared")
    talk(storage, USER, f"I saw a {WORD}", f"a {WORD}? where?", conversation="shared", message_id=f"{USER}-1")
    talk(storage, USER, f"my {WORD}", f"your {WORD}", conversation=f"dm-{USER}", deliver=True)
    talk(storage, USER, f"old {WORD}", f"archived {WORD}", conversation=f"old-{USER}")
    talk(storage, USER, f"older {WORD}", f"shared {WORD}", conversation="shared-old")
    talk(storage, "bob", "bob again", "yes", conversation="shared-old")
    storage.commit([Archive(f"old-{USER}", 0.0, 300.0), Archive("shared-old", 0.0, 300.0)])
    talk(storage, USER, f"broken {WORD}", None, conversation="shared", letter=1)
    accept(storage, USER, f"waiting {WORD}", conversation=f"new-{USER}", message_id=f"{USER}-2")
    talk(storage, "bob", "help", "soon", conversation="elsewhere")
    storage.commit(
        [
            Annotate(conversation="elsewhere", at=5.0, kind="pause", by=USER, text=f"{WORD} first"),
            Annotate(
                conversation="elsewhere", at=6.0, kind="hand_off", by="bob", fields={"agent": USER},
                data=f'{{"agent": "{USER}"}}',
            ),
            Annotate(conversation="shared", at=6.0, kind="summary", by="bot",
                     fields={"summary": f"about a {WORD}"}),
        ]
    )  # fmt: skip
    # Bob's message, into which the user's was merged.
    said = (
        Said(role="user", user="bob", text="look"),
        Said(role="user", user=USER, text=f"the {WORD} is back"),
        Said(role="assistant", text=f"both of you saw the {WORD}"),
    )
    talk(
        storage, "bob", "look", f"both of you saw the {WORD}", conversation="shared", said=said, deliver=True
    )


def test_no_byte_is_left(storage: SqliteStorage) -> None:
    fill(storage)
    assert USER.encode() in everywhere(storage)
    assert WORD.encode() in everywhere(storage)
    (erased,) = storage.commit([Forget(USER)])
    # shared: 2 + 1 + 2 of the merged turn; dm: 2; old: 2; shared-old: 2
    assert erased == 11
    for path in storage.path.parent.iterdir():
        for trace in (USER, WORD, WORD[:8]):
            assert trace.encode() not in path.read_bytes(), path
    storage.close()
    for path in storage.path.parent.iterdir():
        assert WORD[:8].encode() not in path.read_bytes(), path


def test_what_others_said_stays(storage: SqliteStorage) -> None:
    fill(storage, rows=3)
    storage.commit([Forget(USER)])
    assert keys(storage) == ["shared", "elsewhere", "shared-old"]
    assert texts(storage, "shared") == [
        *(text for n in range(3) for text in (f"bob says {n}", f"answer {n}")), "look"
    ]  # fmt: skip
    assert texts(storage, "shared-old") == ["bob again", "yes"]
    assert texts(storage, "elsewhere") == ["help", "soon"]
    assert found(storage, "bob says") == ["bob says 2", "bob says 1", "bob says 0"]
    assert found(storage, WORD) == []
    assert storage.letters(9) == []
    assert storage.recover(0, 9) == []
    assert storage.undelivered(0, 9) == []
    elsewhere = storage.conversation("elsewhere")
    assert elsewhere is not None
    assert elsewhere.agent == ""
    assert keys(storage, user=USER) == []
    assert storage.check() == []


def test_a_conversation_in_which_another_waits_is_kept(storage: SqliteStorage) -> None:
    talk(storage, USER, "mine", "yours")
    accept(storage, "bob", "me too")
    storage.commit([Forget(USER)])
    assert keys(storage) == ["c"]
    assert texts(storage) == []
    assert [stored.seq for stored in storage.recover(0, 9)] == [2]


def test_ids_are_forgotten_and_can_be_used_again(storage: SqliteStorage) -> None:
    talk(storage, USER, message_id="x", since=0.0)
    storage.commit([Forget(USER)])
    assert accept(storage, "bob", message_id="x", since=0.0) == 2


def test_a_reader_that_is_under_way_delays_the_erasure_from_the_log_only(storage: SqliteStorage) -> None:
    fill(storage, rows=3)
    lines = storage.export(None)
    next(lines)
    other = SqliteStorage(storage.path, owned=False)
    other.open()
    storage.commit([Forget(USER)])
    assert WORD.encode() in everywhere(storage)
    exported = list(lines)
    assert any(line.get("key") == f"dm-{USER}" for line in exported), "who reads sees what was at first"
    other.close()
    accept(storage, "bob")
    assert WORD.encode() not in everywhere(storage)


def test_somebody_unknown(storage: SqliteStorage) -> None:
    talk(storage)
    assert storage.commit([Forget("nobody")]) == [0]
    assert texts(storage) == ["hello", "hi"]


def test_users_are_not_mixed_up_with_others_whose_ids_are_alike(storage: SqliteStorage) -> None:
    for user in ("ada", "ADA", "ada ", "ada%", "_da"):
        talk(storage, user, f"I am {user!r}")
    storage.commit([Forget("_da"), Forget("ada%")])
    assert texts(storage)[::2] == ["I am 'ada'", "I am 'ADA'", "I am 'ada '"]
