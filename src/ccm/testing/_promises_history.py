"""Promises of a `Storage` about conversations: lists, pages, search, archive, export, figures, erasure."""

from __future__ import annotations

import attrs

from ccm.storage import Accepted, Annotate, Archive, Forget, Said, Storage
from ccm.testing._promises import promise, same
from ccm.testing._storage_kit import accept, everything, hits, keys, lines, listed, message, outcome, talk


def annotate(storage: Storage, key: str = "c", **fields: object) -> object:
    """Change a conversation."""
    defaults: dict[str, object] = {"conversation": key, "at": 1000.0}
    (result,) = storage.commit([Annotate(**(defaults | fields))])  # type: ignore[arg-type]
    return result


@promise("`Annotate` changes fields and notes who did it, only if `expect` is met")
def _annotates(storage: Storage) -> None:
    same("without a conversation", annotate(storage, fields={"stage": "new"}), None)
    made = annotate(storage, create=True, tenant="t", channel="ch", at=5.0)
    found = storage.conversation("c")
    assert found is not None, "create=True made no conversation"
    same("the result", made, found)
    same("made", (found.tenant, found.channel, found.created, found.status), ("t", "ch", 5.0, "open"))
    changed = annotate(
        storage, kind="stage", by="eva", text="he pays", data='{"to": "won"}', expect={"stage": ""},
        fields={"stage": "won", "paused": True, "agent": "eva", "score": 0.5, "summary": "s",
                "criteria": '{"budget": {}}', "metadata": '{"plan": "gold"}'},
    )  # fmt: skip
    expected = attrs.evolve(
        found, stage="won", paused=True, agent="eva", score=0.5, summary="s", criteria='{"budget": {}}',
        metadata='{"plan": "gold"}', updated=1000.0,
    )  # fmt: skip
    same("changed", changed, expected)
    same("read", storage.conversation("c"), expected)
    (entry,) = storage.history("c", before=None, after=None, limit=9).items
    shown = (entry.role, entry.kind, entry.user, entry.text, entry.data, entry.turn_id, entry.at)
    same("the event", shown, ("event", "stage", "eva", "he pays", '{"to": "won"}', 0, 1000.0))
    refused = annotate(storage, kind="stage", by="max", expect={"stage": ""}, fields={"stage": "lost"})
    same("not expected", refused, expected)
    same("no event", len(lines(storage)), 1)
    annotate(storage, fields={"paused": False})
    same("nothing to note", len(lines(storage)), 1)
    same("events are not found", hits(storage, "pays"), [])


@promise("conversations are listed by filters, the last changed first")
def _lists(storage: Storage) -> None:
    for number, (user, key) in enumerate((("ada", "a"), ("bob", "b"), ("ada", "b"), ("eva", "d"))):
        talk(storage, user, conversation=key, ended=100.0 + number, tenant="u" if key == "d" else "t")
    annotate(storage, "a", fields={"stage": "won", "paused": True})
    same("all", keys(storage), ["d", "b", "a"])
    same("of a user", keys(storage, user="ada"), ["b", "a"])
    same("of a tenant", keys(storage, tenant="u"), ["d"])
    same("of a stage", keys(storage, stage="won"), ["a"])
    same("paused", (keys(storage, paused=True), keys(storage, paused=False)), (["a"], ["d", "b"]))
    storage.commit([Archive("b", 0.0, 300.0)])
    same("archived", keys(storage, status="archived"), ["b"])
    same("open ones of a user", keys(storage, status="open", user="ada"), ["a"])
    same("at most one", keys(storage, limit=1), ["d"])


@promise("who walks through pages sees each conversation that does not change meanwhile exactly once")
def _walks(storage: Storage) -> None:
    for number in range(10):
        # Many that changed at the same time.
        talk(storage, conversation=f"c{number}", ended=100.0 + number // 4)
    seen: list[str] = []
    page = listed(storage, limit=3)
    while True:
        seen += [conversation.key for conversation in page.items]
        if page.cursor is None:
            break
        # The one that the page ends with changes, and a new one comes.
        talk(storage, conversation=seen[-1], ended=900.0)
        talk(storage, conversation=f"new{len(seen)}", ended=900.0)
        page = listed(storage, limit=3, cursor=page.cursor)
    same("seen", sorted(seen), sorted(f"c{number}" for number in range(10)))
    for cursor in ("", "nonsense", "ä", "WzEsMg", "W10"):
        try:
            listed(storage, cursor=cursor)
        except ValueError as error:
            assert repr(cursor) in str(error), f"the error does not name the cursor {cursor!r}: {error}"
        else:
            raise AssertionError(f"the cursor {cursor!r} was accepted")


@promise("pages of history go in both directions, from archived lines into others and back")
def _pages(storage: Storage) -> None:
    expected = []
    for number in range(12):
        talk(storage, text=f"q{number}", answer=f"a{number}")
        talk(storage, text="other", conversation="d")
        expected += [f"q{number}", f"a{number}"]
        if number in (3, 7):
            storage.commit([Archive("c", 0.0, 300.0)])
        if number == 9:
            # The newest lines of all are archived: those that come must not take their ids.
            storage.commit([Archive("d", 0.0, 300.0)])
    same("backwards, 3 at a time", lines(storage), expected)
    everyone = storage.history("c", before=None, after=0, limit=100)
    same("all", ([entry.text for entry in everyone.items], everyone.cursor), (expected, None))
    ids = [entry.id for entry in everyone.items]
    assert ids == sorted(set(ids)), f"ids do not rise: {ids}"
    for size in (1, 5, 24):
        found, after = [], 0
        while True:
            page = storage.history("c", before=None, after=after, limit=size)
            found += [entry.text for entry in page.items]
            if page.cursor is None:
                break
            after = int(page.cursor)
        same(f"forwards, {size} at a time", found, expected)
    for place in range(24):
        older = storage.history("c", before=ids[place], after=None, limit=2).items
        same("before", [entry.text for entry in older], expected[max(0, place - 2) : place])
        newer = storage.history("c", before=None, after=ids[place], limit=2).items
        same("after", [entry.text for entry in newer], expected[place + 1 : place + 3])


@promise("a search finds all words, whatever their case and accents, the last one also as a beginning")
def _searches(storage: Storage) -> None:
    said = ["Crème brûlée, please", "I don't like creme", "the CREAM is off", "brulee and cream cake"]
    for number, text in enumerate(said):
        talk(storage, "ada" if number % 2 else "bob", text, "noted", conversation=f"c{number}")
    for text, expected in (
        ("creme", [0, 1]), ("CRÈME", [0, 1]), ("cre", [0, 1, 2, 3]), ("brulee cre", [0, 3]),
        ("cre brulee", []), ("cream cake", [3]), ("don't", [1]), ("off the cream", [2]), ("nothing", []),
        ('"cream" OR NOT (cake*', []), ("cream AND", [3]), ("text:cream", []), ("^cream -cake", [3]),
    ):  # fmt: skip
        same(f"hits of {text!r}", sorted(hits(storage, text)), sorted(said[number] for number in expected))
    same("of a conversation", hits(storage, "cream", conversation="c2"), [said[2]])
    same("of no conversation", hits(storage, "cream", conversation="zz"), [])
    same("of a user", sorted(hits(storage, "cre", user="ada")), sorted((said[1], said[3])))
    talk(storage, "ada", "cream for another tenant", "noted", conversation="u1", tenant="u")
    same("of a tenant", hits(storage, "cream", tenant="u"), ["cream for another tenant"])
    same("of no tenant", hits(storage, "cream", tenant="zz"), [])
    same("of a tenant and a user", hits(storage, "cre", tenant="u", user="ada"), ["cream for another tenant"])
    same("of a tenant, where it is not", hits(storage, "cream", tenant="u", conversation="c2"), [])
    same("of a tenant, where it is", hits(storage, "cream", tenant="t", conversation="c2"), [said[2]])
    both = hits(storage, "noted", tenant="t")
    same("all answers", both, ["noted"] * 4)
    parts = [hits(storage, "cre", tenant="t", limit=2, offset=start) for start in (0, 2, 4)]
    same("in parts", [*parts[0], *parts[1], *parts[2]], hits(storage, "cre", tenant="t"))
    (hit,) = storage.search("cak", conversation=None, user=None, tenant=None, limit=9, offset=0)
    same("the snippet", hit.snippet, "brulee and cream [cake]")
    talk(storage, text="cake " * 5, conversation="c9")
    same("the best first", hits(storage, "cake")[0], "cake " * 5)
    for text in ("", "  \n", "\0", "?!", "'\"*"):
        try:
            hits(storage, text)
        except ValueError as error:
            assert repr(text) in str(error), f"the error does not name what was asked: {error}"
        else:
            raise AssertionError(f"a search for {text!r} is no search")
    storage.commit([Archive("c3", 0.0, 300.0)])
    same("archived ones are not found", hits(storage, "cream", tenant="t"), [said[2]])


@promise("`Archive` closes conversations; their history stays, and they open again when somebody speaks")
def _archives(storage: Storage) -> None:
    for number in range(5):
        talk(storage, text=f"t{number}", conversation=f"c{number}", ended=100.0 + number)
    accept(storage, conversation="c0")
    same("at most 2", storage.commit([Archive(None, 104.0, 900.0, 2)]), [2])
    same("the oldest, but none with a message in the inbox", sorted(keys(storage, status="archived")),
         ["c1", "c2"])  # fmt: skip
    same("the rest", storage.commit([Archive(None, 104.0, 900.0)]), [1])
    same("none are left", storage.commit([Archive(None, 104.0, 900.0)]), [0])
    same("history", lines(storage, "c1"), ["t1", "hi"])
    same("by name", storage.commit([Archive("c4", 0.0, 900.0), Archive("zz", 0.0, 900.0)]), [1, 0])
    talk(storage, text="again", conversation="c4", ended=950.0)
    same("open again", keys(storage, status="open"), ["c4", "c0"])
    same("all of it", lines(storage, "c4"), ["t4", "hi", "again", "hi"])


@promise("`export` has everything: each conversation before its lines, archived ones too")
def _exports(storage: Storage) -> None:
    talk(storage, text="old", conversation="a")
    storage.commit([Archive("a", 0.0, 300.0)])
    talk(storage, text="new", conversation="a")
    judged = {"criteria": '{"x": {"met": true}}', "metadata": '{"n": 2}'}
    annotate(storage, "b", create=True, fields=judged)
    annotate(storage, "b", kind="pause", by="eva", data='{"n": 1}')
    found = list(storage.export(None))
    shown = [(line["type"], line.get("key") or line["text"]) for line in found]
    expected = [("conversation", "a"), *(("entry", text) for text in ("old", "hi", "new", "hi"))]
    same("the lines", shown, [*expected, ("conversation", "b"), ("entry", "")])
    inside = (found[5]["criteria"], found[5]["metadata"], found[6]["data"])
    same("JSON inside is not text", inside, ({"x": {"met": True}}, {"n": 2}, {"n": 1}))
    same("one", list(storage.export("b")), found[5:])
    same("none", list(storage.export("zz")), [])
    same("fields of a line", found[1]["conversation"], "a")


@promise("`analytics` counts the turns that ended in `since <= ended < until`")
def _analytics(storage: Storage) -> None:
    day = 86400.0
    talk(storage, "ada", conversation="a", ended=day, waited=1.0, served=2.0)
    talk(storage, "ada", conversation="a", ended=day + 5, waited=3.0, served=4.0)
    talk(storage, "bob", conversation="b", ended=2 * day, outcome="expired", waited=-1.0, route="side")
    talk(storage, "eva", conversation="d", ended=3 * day)
    annotate(storage, "a", fields={"stage": "won", "agent": "max"})
    found = storage.analytics(day, 3 * day)
    same("counts", (found.turns, found.conversations, found.users), (3, 2, 2))
    same("outcomes", dict(found.outcomes), {"replied": 2, "expired": 1})
    same("days", dict(found.days), {"1970-01-02": 2, "1970-01-03": 1})
    same("routes", dict(found.routes), {"chat": 2, "side": 1})
    same(
        "stages and agents", (dict(found.stages), dict(found.agents)), ({"won": 1, "": 1}, {"max": 1, "": 1})
    )
    same("means of those that started", (dict(found.waited), dict(found.served)),
         ({"replied": 2.0}, {"replied": 3.0}))  # fmt: skip
    same("nothing", storage.analytics(0.0, day).turns, 0)


@promise("`Forget` erases a user everywhere, and nobody else")
def _forgets(storage: Storage) -> None:
    talk(storage, "ada", "alone", "with you", conversation="dm", deliver=True)
    talk(storage, "ada", "old words", "old answer", conversation="both")
    talk(storage, "bob", "bob here", "hi bob", conversation="both")
    storage.commit([Archive("both", 0.0, 300.0)])
    talk(storage, "ada", "new words", "new answer", conversation="both", letter=1)
    seq = accept(storage, "bob", conversation="both")
    merged = (Said(role="user", user="bob", text="we"), Said(role="user", user="ada", text="two"),
              Said(role="assistant", text="to both"))  # fmt: skip
    storage.settle([outcome(seq, "bob", conversation="both", said=merged, deliver=True)])
    accept(storage, "ada", conversation="both", message_id="x")
    made_of_it = {"summary": "of ada", "agent": "ada", "metadata": '{"name": "ada"}'}
    annotate(storage, "both", kind="pause", by="ada", text="stop", fields=made_of_it)
    annotate(storage, "both", kind="hand_off", by="bob", data='{"agent": "ada"}')
    annotate(storage, "both", kind="stage", by="bob", text="goes on")
    (erased,) = storage.commit([Forget("ada")])
    same("utterances", erased, 7)
    same("conversations", keys(storage), ["both"])
    same("what is left", lines(storage, "both"), ["bob here", "hi bob", "we", "goes on"])
    same("hits", hits(storage, "words") + hits(storage, "alone") + hits(storage, "answer"), [])
    unfinished = (storage.recover(0, 9), storage.undelivered(0, 9), storage.letters(9))
    same("unfinished", unfinished, ([], [], []))
    about = storage.conversation("both")
    assert about is not None, "the conversation of another is gone"
    same("made of it", (about.summary, about.agent, about.metadata), ("", "", "{}"))
    same("her conversations", keys(storage, user="ada"), [])
    (again,) = storage.accept([message("bob", message_id="x")])
    assert isinstance(again, Accepted), "the id of her message is still known"
    left = repr(everything(storage)).replace("metadata", "")  # a name of ours that has hers in it
    assert "ada" not in left, "she is still in what can be read"
    same("somebody unknown", storage.commit([Forget("nobody")]), [0])
