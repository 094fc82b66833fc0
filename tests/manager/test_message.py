"""`Message` and `Reply`: what they take, what they refuse by name and value, and that they are values."""

from __future__ import annotations

import copy
import pickle
import uuid
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any

import attrs
import pytest

from ccm import HIGH, Message, Priority, Reply
from ccm._message import uuid7

NAIVE = datetime(2025, 1, 1, 12)
AWARE = datetime(2025, 1, 1, 12, tzinfo=UTC)


class NoOffset(tzinfo):
    """A time zone that does not know."""

    def __repr__(self) -> str:
        return "NoOffset()"

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None

    dst = utcoffset

    def tzname(self, moment: datetime | None) -> str:
        return "nowhere"


BAD: list[tuple[str, Any, type[Exception]]] = [
    *[(field, "", ValueError) for field in ("conversation", "user", "id")],
    *[(field, "x" * 513, ValueError) for field in ("conversation", "user", "id", "tenant", "channel")],
    *[(field, 5, TypeError) for field in ("conversation", "user", "text", "id", "tenant", "channel")],
    *[(field, b"bytes", TypeError) for field in ("conversation", "user", "text", "id", "tenant", "channel")],
    *[(field, None, TypeError) for field in ("conversation", "user", "text", "tenant", "channel")],
    ("priority", 4, ValueError),
    ("priority", -1, ValueError),
    ("priority", 1.0, TypeError),
    ("priority", True, TypeError),
    ("priority", "HIGH", TypeError),
    ("sent_at", NAIVE, ValueError),
    ("sent_at", NAIVE.replace(tzinfo=NoOffset()), ValueError),
    ("sent_at", date(2025, 1, 1), TypeError),
    ("sent_at", 1735732800.0, TypeError),
    ("sent_at", "2025-01-01T12:00:00Z", TypeError),
    ("deadline", float("nan"), ValueError),
    ("deadline", "5", TypeError),
    ("deadline", True, TypeError),
    ("deadline", AWARE, TypeError),
    ("metadata", None, TypeError),
    ("metadata", [("a", 1)], TypeError),
    ("metadata", "a", TypeError),
]
GOOD: list[tuple[str, Any]] = [
    ("conversation", "x" * 512),
    ("conversation", " "),
    ("user", "Ünïcödé 🙂"),
    ("text", ""),
    ("text", "x" * 100_000),
    ("text", "\ud800 half a character, \x00 and a null"),
    ("id", "x"),
    ("tenant", ""),
    ("channel", "x" * 512),
    ("priority", 0),
    ("priority", Priority.LOW),
    ("sent_at", AWARE),
    ("sent_at", NAIVE.replace(tzinfo=timezone(timedelta(hours=-5)))),
    ("deadline", 0),
    ("deadline", -1.5),
    ("deadline", float("inf")),
    ("metadata", {"a": [1]}),
]


def message(**fields: Any) -> Message:
    return Message(**{"conversation": "c", "user": "ada", "text": "hello"} | fields)


@pytest.mark.parametrize(("field", "value", "error"), BAD, ids=repr)
def test_bad_values_are_refused_with_field_and_value(field: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        message(**{field: value})
    text = str(caught.value)
    assert text.startswith(f"{field} must be") or f"{field} must " in text
    shown = repr(value) if not isinstance(value, str) or len(value) < 100 else repr(value[:40])
    assert shown in text
    assert len(text) < 300, "a long value is cut"


@pytest.mark.parametrize(("field", "value", "error"), BAD, ids=repr)
def test_bad_values_are_refused_by_replace_too(field: str, value: Any, error: type[Exception]) -> None:
    original = message()
    with pytest.raises(error, match=field):
        original.replace(**{field: value})


@pytest.mark.parametrize(("field", "value"), GOOD, ids=lambda value: repr(value)[:40])
def test_good_values_are_taken(field: str, value: Any) -> None:
    assert getattr(message(**{field: value}), field) == value


def test_defaults() -> None:
    plain = Message("c", "ada", "hello")
    assert (plain.tenant, plain.channel) == ("", "")
    assert (plain.priority, plain.sent_at, plain.deadline) == (None, None, None)
    assert plain.metadata == {}


def test_what_has_a_default_is_keyword_only() -> None:
    with pytest.raises(TypeError):
        Message("c", "ada", "hello", "id")  # type: ignore[call-arg]


def test_a_number_becomes_a_priority() -> None:
    assert message(priority=1).priority is HIGH


def test_a_message_is_frozen() -> None:
    original = message()
    for field in ("text", "id", "metadata", "anything"):
        with pytest.raises((attrs.exceptions.FrozenInstanceError, AttributeError)):
            setattr(original, field, "x")
    with pytest.raises(TypeError):
        message(metadata={"a": 1}).metadata["a"] = 2  # type: ignore[index]
    with pytest.raises(TypeError):
        original.metadata["a"] = 2  # type: ignore[index]


def test_metadata_is_copied() -> None:
    mine = {"a": 1}
    taken = message(metadata=mine)
    mine["a"] = 2
    assert taken.metadata == {"a": 1}


def test_messages_are_hashed_by_id() -> None:
    one = message(id="m1", metadata={"unhashable": []})
    assert hash(one) == hash(message(id="m1", text="another"))
    assert one == message(id="m1", metadata={"unhashable": []})
    assert one != message(id="m1", text="another")
    assert message() != message(), "each has an id of its own"
    assert len({one, message(id="m1", metadata={"unhashable": []}), message(id="m2")}) == 2


def test_generated_ids_are_unique_uuids_of_version_7() -> None:
    ids = [uuid7() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    for text in ids[:100]:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


def test_generated_ids_grow_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    start, step = 1_735_732_800_000_000_000, 250  # nanoseconds: the resolution is 1/4096 ms
    times = [start + n * step for n in range(5000)] + [start + 10**9, start + 10**15]
    ids = []
    for time in times:
        monkeypatch.setattr("ccm._message.time.time_ns", lambda time=time: time)
        ids.append(uuid7())
    assert ids == sorted(ids)
    assert [uuid.UUID(text).int >> 80 for text in ids] == [time // 10**6 for time in times]


def test_generated_ids_ignore_the_global_seed() -> None:
    """Who seeds `random` for their tests must not get the same ids twice."""
    import random

    state = random.getstate()
    try:
        ids = set()
        for _ in range(2):
            random.seed(0)
            ids.add(uuid7()[19:])
        assert len(ids) == 2
    finally:
        random.setstate(state)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_messages_can_be_pickled(protocol: int) -> None:
    original = message(
        tenant="guild", channel="general", priority=HIGH, sent_at=AWARE, deadline=5.0, metadata={"a": [1]}
    )
    copied = pickle.loads(pickle.dumps(original, protocol))
    assert copied == original
    assert copied.id == original.id
    assert type(copied.metadata) is type(original.metadata)
    assert copy.deepcopy(original) == original
    assert copy.copy(original) == original


def test_replace_keeps_the_id_unless_it_is_changed() -> None:
    original = message(id="m1", metadata={"a": 1})
    changed = original.replace(text="another", priority=0)
    assert (changed.id, changed.text, changed.priority, changed.metadata) == ("m1", "another", 0, {"a": 1})
    assert original.text == "hello"
    assert original.replace(id="m2").id == "m2"
    with pytest.raises(TypeError):
        original.replace(nothing=1)


def test_subclasses_of_str_are_strings() -> None:
    class Key(str):
        __slots__ = ()

    assert message(conversation=Key("c"), tenant=Key("guild")).conversation == "c"
    with pytest.raises(ValueError, match="conversation must not be empty"):
        message(conversation=Key(""))


def test_priorities_are_ordered() -> None:
    assert sorted(Priority) == [Priority.CRITICAL, Priority.HIGH, Priority.NORMAL, Priority.LOW]
    assert [int(p) for p in Priority] == [0, 1, 2, 3]


def test_a_reply_is_its_text() -> None:
    reply = Reply("hello", turn_id=7)
    assert (str(reply), f"{reply}", reply.metadata, reply.turn_id) == ("hello", "hello", {}, 7)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        reply.text = "x"  # type: ignore[misc]
