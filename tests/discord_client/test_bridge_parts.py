"""The parts of the bridge that decide: what events mean, and how a reply comes to say what it must."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import ccm
from ccm.discord import HEARD, addressed, friendly, split
from ccm.discord._draft import Create, Delete, Draft, Edit, nonce_of
from ccm.discord._hearing import Deleted, Edited, Guild, Said, hear
from ccm.discord._wording import Notices

ME = "1"
ID = "1100000000000000001"
CREATE = {"id": ID, "channel_id": "5", "author": {"id": "9", "username": "ada"}, "content": "hi", "type": 0}

keys = st.sampled_from(
    ["id", "ids", "channel_id", "guild_id", "author", "content", "mentions", "type", "edited_timestamp",
     "token",
     "message_reference", "referenced_message", "data", "options", "name", "channels", "last_message_id",
     "application_id", "user", "member", "webhook_id", "username"]
)  # fmt: skip
scalars = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([ID, "5", "9" * 30])
)
junk = st.recursive(
    scalars, lambda x: st.lists(x, max_size=3) | st.dictionaries(keys, x, max_size=6), max_leaves=20
)


@given(
    kind=st.sampled_from([*sorted(HEARD), "OTHER"]), data=junk, over=st.dictionaries(keys, junk, max_size=4)
)
@example(kind="MESSAGE_CREATE", data=None, over={"id": str(1 << 63)})
def test_whatever_comes_is_understood_or_means_nothing(kind: str, data: Any, over: dict[str, Any]) -> None:
    hear(kind, data, ME)
    hear(kind, {**CREATE, **over}, ME)
    if isinstance(data, dict):
        hear(kind, {**CREATE, **data}, ME)


def said(**more: Any) -> Said | None:
    heard = hear("MESSAGE_CREATE", {**CREATE, **more}, ME)
    assert heard is None or isinstance(heard, Said)
    return heard


def test_a_message_says_where_it_was_said_by_whom_and_to_whom() -> None:
    found = said(guild_id="7")
    assert found is not None
    message = found.message
    assert (message.conversation, message.user, message.tenant, message.id) == ("5", "9", "7", ID)
    assert not addressed(message)
    mention = said(
        guild_id="7", content=f"<@{ME}> hi <@8>", mentions=[{"id": ME}, {"id": "8", "username": "bob"}]
    )
    assert mention is not None
    assert mention.message.text == "hi @bob"
    assert addressed(mention.message)
    answer = said(guild_id="7", type=19, referenced_message={"author": {"id": ME}})
    private = said()
    assert answer is not None
    assert addressed(answer.message)
    assert private is not None
    assert addressed(private.message)


@pytest.mark.parametrize(
    "more",
    [{"author": {"id": ME}}, {"author": {"id": "9", "bot": True}}, {"webhook_id": "3"}, {"type": 7},
     {"content": f"<@{ME}>"}, {"id": "x"}],
)  # fmt: skip
def test_what_is_not_for_people_to_answer_is_ignored(more: dict[str, Any]) -> None:
    assert said(**more) is None


def test_edits_and_deletions() -> None:
    stamp = {"edited_timestamp": "2026-01-01T00:00:00+00:00"}
    heard = said(guild_id="7")
    assert heard is not None
    edited = Edited(ID, "7", "hi", heard.message)
    assert hear("MESSAGE_UPDATE", {**CREATE, **stamp, "guild_id": "7"}, ME) == edited
    bare = {"id": ID, "content": "hi", **stamp}
    assert hear("MESSAGE_UPDATE", bare, ME) == Edited(ID, "", "hi")
    assert hear("MESSAGE_UPDATE", {**CREATE, **stamp, "webhook_id": "3"}, ME) == Edited(ID, "", "hi")
    assert hear("MESSAGE_UPDATE", CREATE, ME) is None  # a preview of a link was added
    assert hear("MESSAGE_DELETE", {"id": ID, "guild_id": "7"}, ME) == Deleted((ID,), "7")
    told = {"ids": [ID, "x", "4"], "channel_id": "5"}
    assert hear("MESSAGE_DELETE_BULK", told, ME) == Deleted((ID, "4"), "", "5")
    guild = {"id": "7", "channels": [{"id": "5", "last_message_id": ID}, {"id": "6"}, None]}
    assert hear("GUILD_CREATE", guild, ME) == Guild("7", (("5", ID),))


class Wall:
    """What Discord shows of one draft."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.shown: dict[str, str] = {}
        self.nonces: dict[str, str] = {}

    def do(self, step: Create | Edit | Delete) -> None:
        if isinstance(step, Create):
            assert 1 <= len(step.nonce) <= 25
            id = self.nonces.setdefault(step.nonce, str(len(self.nonces) + 1))
            text = self.shown.setdefault(id, step.text)
            self.draft.created(step, id, text)
        elif isinstance(step, Edit):
            self.shown[step.id] = step.text
            self.draft.edited(step)
        else:
            del self.shown[step.id]
            self.draft.deleted(step)
        self.draft._check()

    def finish(self, text: str) -> None:
        while (step := self.draft.finish(text)) is not None:
            self.do(step)


@given(st.lists(st.text(max_size=5000) | st.just("word " * 900), min_size=1, max_size=6))
def test_the_end_says_exactly_the_reply_whatever_was_shown(texts: list[str]) -> None:
    wall = Wall(Draft(ID, every=1.0, start=0.0))
    now, last = 0.0, -1.0
    for text in texts:
        for _ in range(6):
            now += 0.25
            step = wall.draft.show(text, now)
            if step is not None:
                assert now - last >= 1.0
                last = now
                wall.do(step)
    wall.finish(texts[-1])
    wanted = [part.strip() for part in split(texts[-1].encode("utf-8", "replace").decode())]
    assert [text.strip() for text in wall.shown.values()] == wanted
    wall.finish("")
    assert wall.shown == {}


def test_nothing_is_shown_of_a_quick_reply_and_of_a_restart_until_it_speaks() -> None:
    draft = Draft(ID, every=1.0, start=10.0)
    assert draft.show("a", 10.5) is None
    first = draft.show("a", 11.0)
    assert isinstance(first, Create)
    draft.created(first, "4", "a")
    assert draft.show("", 13.0) is None
    assert draft.show("b", 13.0) == Edit(0, "4", "b")


def test_another_process_goes_on_with_what_is_there() -> None:
    before, after = Draft(ID, every=1.0, start=0.0), Draft(ID, every=1.0, start=0.0)
    wall = Wall(before)
    step = before.show("half", 5.0)
    assert step is not None
    wall.do(step)
    wall.draft = after
    wall.finish("half and the rest")
    assert wall.shown == {"1": "half and the rest"}


def test_a_part_that_somebody_deleted_is_sent_anew() -> None:
    draft = Draft(ID, every=1.0, start=0.0)
    first = draft.finish("a")
    assert isinstance(first, Create)
    draft.created(first, "4", "a")
    edit = draft.finish("b")
    assert isinstance(edit, Edit)
    draft.lost(edit)
    again = draft.finish("b")
    assert isinstance(again, Create)
    assert again.nonce != first.nonce
    assert len(nonce_of("x" * 400, "999rr")) <= 25


def test_refusals_say_how_long_to_wait_and_not_too_often() -> None:
    message = ccm.Message("c", "u", "x")
    limited = ccm.Rejected.because(ccm.Reason.RATE_LIMITED, 3.2)
    assert "4 seconds" in friendly(limited, message)
    for reason in (ccm.Reason.OVERLOADED, ccm.Reason.CONVERSATION_FULL, ccm.Reason.QUEUE_SHARE):
        told = friendly(ccm.Rejected.because(reason, 7.0), message)
        assert "Please try again in 7 seconds." in told
    assert "again in 1 second." in friendly(ccm.Shed(retry_after=0.2), message)
    assert "again later." in friendly(ccm.Rejected.because(ccm.Reason.BUSY), message)
    assert friendly(ccm.Rejected.because(ccm.Reason.NO_ROUTE), message) == ""
    notices = Notices(every=10.0)
    assert [notices.may_tell(message, now) for now in (0.0, 9.0, 10.0, 11.0)] == [True, False, True, False]
