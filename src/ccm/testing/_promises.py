"""Promises of a `Storage` about what is not finished: inbox, outbox, dead letters, transactions."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ccm._errors import StorageError
from ccm.storage import (
    Accepted,
    Annotate,
    Attempted,
    Conversation,
    Delivered,
    Discard,
    Repeated,
    Retract,
    Rewrite,
    Storage,
)
from ccm.testing._storage_kit import accept, dead, everything, hits, keys, lines, message, outcome, talk

Promise = tuple[str, Callable[[Storage], None]]
PROMISES: list[Promise] = []
"""What is promised, in words, and what looks whether it is kept: it gets an open, empty storage."""


def promise(text: str) -> Callable[[Callable[[Storage], None]], Callable[[Storage], None]]:
    """Add a promise to the suite."""

    def add(check: Callable[[Storage], None]) -> Callable[[Storage], None]:
        PROMISES.append((text, check))
        return check

    return add


def same(what: str, found: object, expected: object) -> None:
    """Two values are equal."""
    assert found == expected, f"{what}: expected {expected!r}, got {found!r}"


@promise("a new storage is empty")
def _empty(storage: Storage) -> None:
    same("inbox", storage.recover(0, 10), [])
    same("outbox", storage.undelivered(0, 10), [])
    same("letters", storage.letters(10), [])
    same("a conversation", storage.conversation("c"), None)
    same("conversations", keys(storage), [])
    same("history", storage.history("c", before=None, after=None, limit=5).items, ())
    same("hits", hits(storage, "hello"), [])
    health = storage.health()
    same("health", (health.inbox, health.outbox, health.letters, health.conversations), (0, 0, 0, 0))
    same("durable", health.durable, storage.durable)


@promise("a closed storage raises StorageError, and closing twice is allowed")
def _closed(storage: Storage) -> None:
    storage.close()
    storage.close()
    for call in (lambda: storage.accept([message()]), lambda: storage.recover(0, 1), storage.health):
        try:
            call()
        except StorageError:
            continue
        raise AssertionError("it went on working")


@promise("accepts get rising numbers, and `recover` has them in that order")
def _accepts(storage: Storage) -> None:
    results = storage.accept([message("a"), message("b"), message("c", at=7.0)])
    same("results", results, [Accepted(1), Accepted(2), Accepted(3)])
    same("the next", accept(storage), 4)
    found = storage.recover(0, 10)
    same("inbox", [stored.seq for stored in found], [1, 2, 3, 4])
    same("bodies", [stored.body for stored in found[:2]], [message("a").body, message("b").body])
    same("times and attempts", [(s.at, s.attempts) for s in found[1:3]], [(100.0, 0), (7.0, 0)])
    same("after 1, at most 2", [stored.seq for stored in storage.recover(1, 2)], [2, 3])
    same("health", storage.health().inbox, 4)


@promise("numbers are never given again, whatever became of the messages")
def _numbers(storage: Storage) -> None:
    first = talk(storage)
    storage.commit([Retract(first)])
    same("the next", accept(storage), first + 1)


@promise("a message with an id of its tenant that was accepted after `since` is a repetition")
def _repeated(storage: Storage) -> None:
    seq = accept(storage, message_id="x", at=100.0, since=0.0)
    same("at once", storage.accept([message(message_id="x", at=101.0, digest="other")]), [Repeated(seq)])
    (other,) = storage.accept([message(message_id="x", tenant="u", at=101.0)])
    assert isinstance(other, Accepted), f"another tenant's id was answered with {other!r}"
    twice = storage.accept([message(message_id="y"), message(message_id="y")])
    assert isinstance(twice[0], Accepted), f"the first of two was answered with {twice[0]!r}"
    same("the second of two in one transaction", twice[1], Repeated(twice[0].seq))
    (generated,) = storage.accept([message()])
    assert isinstance(generated, Accepted), f"a generated id was answered with {generated!r}"
    settle = outcome(seq, message_id="x")
    storage.settle([settle])
    same("with its outcome", storage.accept([message(message_id="x", at=102.0)]),
         [Repeated(seq, "replied", settle.detail)])  # fmt: skip
    (later,) = storage.accept([message(message_id="x", at=500.0, since=100.0)])
    assert isinstance(later, Accepted), f"outside of the window it was answered with {later!r}"
    same("in the new window", storage.accept([message(message_id="x", at=501.0)]), [Repeated(later.seq)])
    seq = accept(storage, message_id="z", at=100.0, digest="first")
    same("the digest of the first", storage.accept([message(message_id="z", at=101.0, digest="other")]),
         [Repeated(seq, digest="first")])  # fmt: skip
    again = accept(storage, message_id="z", at=900.0, since=500.0, digest="new")
    same("and of the next one", storage.accept([message(message_id="z", at=901.0)]),
         [Repeated(again, digest="new")])  # fmt: skip


@promise("`Attempted` counts and `Rewrite` replaces; nothing happens to messages that are gone")
def _changes(storage: Storage) -> None:
    seq, other = accept(storage), accept(storage)
    storage.commit([Attempted(seq), Rewrite(other, '{"user": "ada"}'), Attempted(seq)])
    found = storage.recover(0, 10)
    same("attempts", [stored.attempts for stored in found], [2, 0])
    same("body", found[1].body, '{"user": "ada"}')
    storage.settle([outcome(seq)])
    before = everything(storage)
    same("results", storage.commit([Attempted(seq), Rewrite(99, "{}"), Delivered(seq)]), [None] * 3)
    same("everything", everything(storage), before)


@promise("`settle` moves a message from the inbox to history, outbox and dead letters at once")
def _settles(storage: Storage) -> None:
    first, second = accept(storage), accept(storage, "bob", "help")
    storage.settle([outcome(first, deliver=True), outcome(second, "bob", "help", letter=4)])
    same("inbox", storage.recover(0, 10), [])
    same("history", lines(storage), ["hello", "hi", "help"])
    (delivery,) = storage.undelivered(0, 10)
    same("outbox", delivery, outcome(first, deliver=True).delivery)
    same("letters", storage.letters(10), [dead(4, "bob", "help")])
    expected = Conversation(
        key="c", tenant="t", channel="ch", created=100.0 + first, updated=200.0 + second, messages=2,
        replies=1, failures=1,
    )  # fmt: skip
    same("the conversation", storage.conversation("c"), expected)
    page = storage.history("c", before=None, after=None, limit=1)
    (entry,) = page.items
    shown = (entry.role, entry.user, entry.turn_id, entry.message_id, entry.at, entry.conversation)
    same("a line", shown, ("user", "bob", second, f"m{second}", 100.0 + second, "c"))
    same("flags", (entry.partial, entry.handled, entry.kind), (False, True, ""))


@promise("settling twice changes nothing, in one transaction or in two; nor does a message never accepted")
def _twice(storage: Storage) -> None:
    seq = accept(storage)
    storage.settle([outcome(seq), outcome(seq, text="again")])
    before = everything(storage)
    same("history", lines(storage), ["hello", "hi"])
    storage.settle([outcome(seq, text="again"), outcome(99)])
    same("everything", everything(storage), before)


@promise("accepts take effect before settlements, wherever they stand")
def _order(storage: Storage) -> None:
    seq = accept(storage)
    results = storage.commit([Attempted(seq + 1), outcome(seq + 1), message("bob")])
    same("results", results, [None, None, Accepted(seq + 1)])
    same("inbox", [stored.seq for stored in storage.recover(0, 9)], [seq])


@promise("replies wait in the outbox, in order, until they are delivered or become letters")
def _outbox(storage: Storage) -> None:
    seqs = [talk(storage, text=f"n{n}", deliver=True) for n in range(4)]
    same("after the first, at most 2", [d.seq for d in storage.undelivered(seqs[0], 2)], seqs[1:3])
    storage.commit([Delivered(seqs[1]), Delivered(seqs[2], dead(7))])
    same("outbox", [delivery.seq for delivery in storage.undelivered(0, 9)], [seqs[0], seqs[3]])
    same("letters", [letter.id for letter in storage.letters(9)], [7])
    same("health", (storage.health().outbox, storage.health().letters), (2, 1))


@promise("dead letters: the newest, oldest first; discarded, or replaced by a message that is accepted")
def _letters(storage: Storage) -> None:
    for number in range(1, 5):
        talk(storage, letter=number)
    same("the newest 3", [letter.id for letter in storage.letters(3)], [2, 3, 4])
    same("discarded", storage.commit([Discard(2), Discard(2), Discard(77)]), [True, False, False])
    accept(storage, message_id="x", letter=3)
    same("replayed", [letter.id for letter in storage.letters(9)], [1, 4])
    storage.accept([message(message_id="x", letter=4)])
    same("a repetition takes no letter's place", [letter.id for letter in storage.letters(9)], [1, 4])


@promise("`Retract` takes a turn, or what was said in one message, out of history and search")
def _retracts(storage: Storage) -> None:
    first, second = talk(storage, text="one"), talk(storage, text="two")
    storage.commit([Annotate(conversation="c", at=1.0, kind="pause", by="eva", text="wait")])
    storage.commit([Retract(first), Retract(second, f"m{second}"), Retract(99)])
    same("history", lines(storage), ["hi", "wait"])
    same("hits", hits(storage, "one") + hits(storage, "two"), [])
    same("hits of what is left", hits(storage, "hi"), ["hi"])


@promise("a transaction that fails changes nothing")
def _atomic(storage: Storage) -> None:
    talk(storage)
    before = everything(storage)
    wrong = Annotate(conversation="c", at=1.0, kind="stage", by="eva", fields={"created": 0.0})
    try:
        storage.commit([message("bob"), Attempted(1), Discard(1), wrong])
    except ValueError as error:
        assert "created" in str(error), f"the error does not name the field: {error}"
    else:
        raise AssertionError("a field that cannot be changed was changed")
    same("everything", everything(storage), before)
    same("the next number", accept(storage), 2)


@promise("any text is taken: half characters and NUL, 32 KiB, every script")
def _texts(storage: Storage) -> None:
    for text in ("a" * 32768, "naïve 猫 🐈 ‮x", "", "'; DROP TABLE entries; --"):
        seq = talk(storage, text=text, answer=text or "-", conversation=f"c{len(text)}")
        same("the text", lines(storage, f"c{len(text)}")[0], text)
        storage.commit([Retract(seq)])
    broken = "half \ud83d and \0 nothing"
    said = attrs.evolve(outcome(1).said[0], text=broken, message_id=broken)
    seq = accept(storage, conversation="odd")
    storage.settle([outcome(seq, conversation="odd", said=(said,), letter=1, detail='{"error": "\0"}')])
    (text,) = lines(storage, "odd")
    assert text.startswith("half ") and text.endswith(" nothing"), f"{broken!r} became {text!r}"
    storage.commit(
        [
            Annotate(
                conversation="odd", at=1.0, kind="note", by=broken, text=broken, fields={"summary": broken}
            )
        ]
    )
    same("a search for it", len(hits(storage, broken)), 1)
    list(storage.export(None))
