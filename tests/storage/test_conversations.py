"""`manager.conversations`: history, stages, people who take over, search, export, erasure."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import trio

import ccm
from ccm import Config, Message, Router, Turn
from ccm.storage import Annotate, MemoryStorage
from tests.manager.kit import say, simulated

STAGES = {"": ["lead"], "lead": ["customer", "lost"], "lost": ["lead"]}


def opened(handler: Any, storage: Any = None, **options: Any) -> Any:
    config = Config(rate_limit=None, debug=True)
    return ccm.open_manager(handler, config=config, storage=storage or MemoryStorage(), **options)


async def echo(turn: Turn) -> str:
    return f"re {turn.text}"


@simulated
async def test_without_a_storage_there_are_none() -> None:
    async with ccm.open_manager(echo) as manager:
        with pytest.raises(ccm.StorageError, match=r"storage='bot\.db'"):
            _ = manager.conversations


@simulated
async def test_what_was_said_is_kept_and_read_page_by_page() -> None:
    async with opened(echo) as manager:
        for number in range(5):
            await manager.ask(say(str(number)))
        talk = manager.conversations
        page = await talk.history("c", limit=4)
        assert [entry.text for entry in page.items] == ["3", "re 3", "4", "re 4"]
        assert page.cursor is not None
        page = await talk.history("c", limit=100, before=int(page.cursor))
        assert [entry.text for entry in page.items][-2:] == ["2", "re 2"]
        assert page.cursor is None
        found = await talk.get("c")
        assert found is not None
        assert (found.messages, found.replies, found.failures) == (5, 5, 0)
        assert await talk.get("nobody") is None


@simulated
async def test_a_handler_knows_what_was_said_before_the_restart() -> None:
    storage = MemoryStorage()
    seen: list[list[str]] = []

    async def handler(turn: Turn) -> str:
        seen.append([entry.text for entry in await turn.history()])
        return f"re {turn.text}"

    for texts in (("a", "b"), ("c",)):
        async with opened(handler, storage) as manager:
            for text in texts:
                await manager.ask(say(text))
    # The second turn begins before the first has been settled; it knows it all the same.
    assert seen == [["a"], ["a", "re a", "b"], ["a", "re a", "b", "re b", "c"]]


@simulated
async def test_what_was_taken_back_is_not_kept() -> None:
    async with opened(echo) as manager:
        await manager.ask(say("keep", id="1"))
        await manager.ask(say("take back", id="2"))
        assert await manager.retract("2") is ccm.Change.RETRACTED
        page = await manager.conversations.history("c")
        assert [entry.text for entry in page.items] == ["keep", "re keep"]


@simulated
async def test_what_was_never_answered_is_kept_and_marked() -> None:
    async def slow(turn: Turn) -> str:
        await trio.sleep(10)
        return "done"

    storage = MemoryStorage()
    config = Config(rate_limit=None, limit=1, max_wait={ccm.NORMAL: 1})
    async with ccm.open_manager(slow, config=config, storage=storage) as manager:
        receipts = [await manager.submit(say(text, conversation=text)) for text in "ab"]
        assert [(await receipt.outcome()).name for receipt in receipts] == ["replied", "expired"]
        page = await manager.conversations.history("b")
        assert [(entry.text, entry.handled) for entry in page.items] == [("b", False)]


@simulated
async def test_stages_follow_the_transitions() -> None:
    async with opened(echo, stages=STAGES) as manager:
        talk = manager.conversations
        made = await talk.find_or_create("c", tenant="shop")
        assert (made.stage, made.tenant) == ("", "shop")
        with pytest.raises(ValueError, match="must follow '', got 'customer'; allowed: 'lead'"):
            await talk.set_stage("c", "customer")
        await talk.set_stage("c", "lead", by="ada", why="asked for a price")
        moved = await talk.set_stage("c", "customer")
        assert moved.stage == "customer"
        with pytest.raises(ValueError, match="allowed: none"):
            await talk.set_stage("c", "lead")
        events = [entry for entry in (await talk.history("c")).items if entry.kind == "stage"]
        assert [(e.user, e.text, json.loads(e.data)) for e in events] == [
            ("ada", "asked for a price", {"from": "", "to": "lead"}),
            ("", "", {"from": "lead", "to": "customer"}),
        ]
        with pytest.raises(KeyError, match="find_or_create"):
            await talk.set_stage("nobody", "lead")


@simulated
async def test_a_move_sees_what_came_in_between() -> None:
    storage = MemoryStorage()
    async with opened(echo, storage, stages=STAGES) as manager:
        talk = manager.conversations
        await talk.find_or_create("c")
        check, between = talk._check_move, [True]

        def meanwhile(current: str, stage: str) -> None:
            check(current, stage)
            if between:
                between.clear()
                storage.commit([Annotate(conversation="c", at=1.0, fields={"stage": "customer"})])

        talk._check_move = meanwhile
        with pytest.raises(ValueError, match="must follow 'customer', got 'lead'"):
            await talk.set_stage("c", "lead")
        found = await talk.get("c")
        assert found is not None
        assert found.stage == "customer"


@simulated
async def test_a_human_takes_over_and_gives_back() -> None:
    handled: list[str] = []
    delivered: list[str] = []

    async def handler(turn: Turn) -> str:
        handled.append(turn.text)
        return f"re {turn.text}"

    async def deliver(reply: ccm.Reply, message: Message) -> None:
        delivered.append(reply.text)

    storage = MemoryStorage()
    async with opened(handler, storage, deliver=deliver) as manager:
        await manager.ask(say("a"))
        await manager.conversations.pause("c", by="ben", reason="complicated")
        assert str(await manager.ask(say("b"))) == ""
        await manager.submit(say("c"))
        await manager.ask(say("elsewhere", conversation="d"))
    async with opened(handler, storage, deliver=deliver) as manager:
        assert str(await manager.ask(say("d"))) == ""
        found = await manager.conversations.list(paused=True)
        assert [conversation.key for conversation in found.items] == ["c"]
        await manager.conversations.resume("c")
        assert str(await manager.ask(say("e"))) == "re e"
        page = await manager.conversations.history("c")
        said = [entry.text for entry in page.items if entry.role == "user"]
        assert said == ["a", "b", "c", "d", "e"]
    assert handled == ["a", "elsewhere", "e"]
    assert delivered == []


@simulated
async def test_hand_off_qualification_summary_and_events() -> None:
    async with opened(echo) as manager:
        talk = manager.conversations
        await talk.find_or_create("c")
        await talk.hand_off("c", "ben", reason="speaks French")
        await talk.qualify("c", "budget", met=True, confidence=0.8, notes="said 500")
        await talk.qualify("c", "need", met=False, confidence=0.9)
        found = await talk.set_summary("c", "wants a bicycle")
        assert (found.agent, found.summary, found.score) == ("ben", "wants a bicycle", 0.4)
        assert json.loads(found.criteria)["budget"] == {"met": True, "confidence": 0.8, "notes": "said 500"}
        await talk.add_event("c", "called", by="ben", data={"minutes": 3})
        kinds = [entry.kind for entry in (await talk.history("c")).items]
        assert kinds == ["hand_off", "qualify", "qualify", "summary", "called"]
        with pytest.raises(ValueError, match=r"confidence must be from 0\.0 to 1\.0, got 2"):
            await talk.qualify("c", "budget", met=True, confidence=2)
        with pytest.raises(ValueError, match="kind must not be empty"):
            await talk.add_event("c", "")
        with pytest.raises(TypeError, match="JSON"):
            await talk.add_event("c", "x", data={"a": object()})
        with pytest.raises(ValueError, match="limit must be from 1 to 1000"):
            await talk.history("c", limit=0)


@simulated
async def test_nothing_of_a_forgotten_user_is_left() -> None:
    router = Router()

    @router.route("chat")
    async def handler(turn: Turn) -> str:
        await turn.history()
        if turn.text == "broken":
            raise ccm.Permanent("no")
        await trio.sleep(1)
        return f"re {turn.text}"

    async with opened(router) as manager:
        with contextlib.suppress(ccm.HandlerFailed):
            await manager.ask(say("broken", user="eve", conversation="eve's"))
        await manager.ask(say("hello", user="eve"))
        await manager.ask(say("hi", user="ada"))
        waiting = await manager.submit(say("wait", user="eve", conversation="eve's"))
        assert await manager.conversations.forget("eve") > 0
        assert (await waiting.outcome()).name == "cancelled"
        await manager.wait_idle()
        talk = manager.conversations
        assert [c.key for c in (await talk.list()).items] == ["c"]
        assert (await talk.list(user="eve")).items == ()
        assert [entry.text for entry in (await talk.history("c")).items] == ["hi", "re hi"]
        assert manager.dead_letters() == []
        assert await talk.search("hello") == ()
        assert [hit.entry.text for hit in await talk.search("hi")] != []


def test_search_export_archive_and_figures_with_a_file(tmp_path: Path) -> None:
    async def program() -> None:
        async with opened(echo, tmp_path / "bot.db") as manager:
            talk = manager.conversations
            for number in range(20):
                await manager.ask(say(f"number {number}", conversation=f"c{number % 4}"))
            assert len(await talk.search("number 7")) == 2
            assert len(await talk.search("num", user="ada", limit=100)) == 20
            async with talk.export() as lines:
                kinds = [line["type"] async for line in lines]
            assert (kinds.count("conversation"), kinds.count("entry")) == (4, 40)
            async with talk.export("c1") as lines:
                async for line in lines:
                    assert line["key"] == "c1"
                    break
            assert await talk.archive("c1") == 1
            assert await talk.archive(idle_days=0) == 3
            assert len((await talk.history("c2", limit=100)).items) == 10
            assert await talk.search("number") == ()
            await manager.ask(say("again", conversation="c2"))
            found = await talk.get("c2")
            assert found is not None
            assert found.status == "open"
            assert len((await talk.history("c2", limit=100)).items) == 12
            figures = await talk.analytics(0, 1e12)
            assert (figures.turns, figures.users, dict(figures.outcomes)) == (21, 1, {"replied": 21})
            with pytest.raises(TypeError, match="either a key or idle_days"):
                await talk.archive()

    trio.run(program)


@simulated
async def test_a_conversation_that_nobody_knows_has_no_history() -> None:
    async with opened(echo) as manager:
        with pytest.raises(KeyError, match="there is no conversation 'nobody'"):
            await manager.conversations.history("nobody")
        await manager.conversations.find_or_create("quiet")
        assert (await manager.conversations.history("quiet")).items == ()
        await manager.ask(say("hi"))
        assert (await manager.conversations.history("c", after=10**6)).items == ()


@simulated
async def test_metadata_is_set_removed_and_bounded() -> None:
    async with opened(echo) as manager:
        talk = manager.conversations
        await talk.find_or_create("c")
        await talk.set_metadata("c", {"plan": "gold", "seats": 3, "old": [1]}, by="ada")
        found = await talk.set_metadata("c", {"old": None, "plan": {"name": "silver"}})
        assert json.loads(found.metadata) == {"plan": {"name": "silver"}, "seats": 3}
        assert found == await talk.get("c")
        events = [entry for entry in (await talk.history("c")).items if entry.kind == "metadata"]
        assert [(e.user, json.loads(e.data)) for e in events] == [
            ("ada", {"plan": "gold", "seats": 3, "old": [1]}),
            ("", {"old": None, "plan": {"name": "silver"}}),
        ]
        for changes, error in (
            ({str(number): 1 for number in range(63)}, "at most 64 names"),
            ({"x": "x" * 16_384}, "at most 16384 bytes"),
            ({"": 1}, "1 to 200 characters"),
            ({"x" * 201: 1}, "1 to 200 characters"),
        ):
            with pytest.raises(ValueError, match=error):
                await talk.set_metadata("c", changes)
        for value in (object(), float("inf"), [float("nan")]):
            with pytest.raises(TypeError, match="JSON"):
                await talk.set_metadata("c", {"x": value})
        assert await talk.get("c") == found
        with pytest.raises(KeyError):
            await talk.set_metadata("nobody", {"x": 1})


@simulated
async def test_metadata_of_others_that_came_in_between_stays() -> None:
    storage = MemoryStorage()
    async with opened(echo, storage) as manager:
        talk = manager.conversations
        await talk.find_or_create("c")
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(talk.set_metadata, "c", {f"n{number}": number})
        found = await talk.get("c")
        assert found is not None
        assert json.loads(found.metadata) == {f"n{number}": number for number in range(5)}


@pytest.mark.trio
@pytest.mark.parametrize("kind", ["none", "memory", "file"])
async def test_a_repetition_tells_whether_it_says_something_else(tmp_path: Path, kind: str) -> None:
    async def handler(turn: Turn) -> str:
        await trio.sleep(0.01)
        return turn.text

    async def differs(manager: ccm.ConversationManager, text: str, **fields: Any) -> bool:
        with pytest.raises(ccm.Duplicate) as caught:
            await manager.submit(Message(fields.pop("conversation", "c"), "ada", text, id="m", **fields))
        return caught.value.differs

    kept = {"none": None, "memory": MemoryStorage(), "file": tmp_path / "bot.db"}[kind]
    config = Config(rate_limit=None, debug=True)
    for process in range(2 if kept else 1):
        async with ccm.open_manager(handler, config=config, storage=kept) as manager:
            if not process:
                metadata = {"b": [1], "a": 2}
                receipt = await manager.submit(Message("c", "ada", "hello", id="m", metadata=metadata))
                assert await manager.edit("m", "edited") in (ccm.Change.REPLACED, ccm.Change.RESTARTED)
            for _ in range(2):
                assert not await differs(manager, "hello", metadata={"a": 2, "b": [1]})
                assert not await differs(
                    manager, "hello", conversation="d", metadata={**metadata, "traceparent": "00-1"}
                )
                assert await differs(manager, "edited", metadata=metadata)
                assert await differs(manager, "hello")
                assert await differs(manager, "hello", metadata=metadata, channel="mail")
                await receipt.outcome()


@simulated
async def test_what_an_edited_message_said_at_first_is_known_in_the_next_process() -> None:
    storage = MemoryStorage()

    async def hang(turn: Turn) -> None:
        await trio.sleep_forever()

    config = Config(rate_limit=None, drain=0.0)
    async with ccm.open_manager(hang, config=config, storage=storage) as manager:
        await manager.submit(Message("c", "ada", "hello", id="m"))
        await manager.edit("m", "edited")
    async with opened(echo, storage) as manager:
        for text, expected in (("hello", False), ("other", True)):
            with pytest.raises(ccm.Duplicate) as caught:
                await manager.submit(Message("c", "ada", text, id="m"))
            assert caught.value.differs is expected
        outcome = await caught.value.receipt.outcome()
        assert outcome.reply.text == "re edited"
