"""Messages over HTTP: answered now, later, as it is written; once each, whatever the client does."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

import ccm
from ccm.http import Keys, Settings

from .chat_bot import ONCE, Bot
from .live import Answer, Live, echo, in_thread


def say(server: Live, text: str, *, key: str | None = None, headers: Any = None, **more: Any) -> Answer:
    return server.post("/api/v1/chat", {"user": "ada", "text": text, **more}, key=key, **(headers or {}))


HOW: dict[str, dict[str, str]] = {
    "answer": {}, "receipt": {"Prefer": "respond-async"}, "stream": {"Accept": "text/event-stream"}
}  # fmt: skip


def fate(answer: Answer) -> Any:
    """What is told last: the answer, the receipt, or the last event of a stream."""
    return events(answer)[-1][1] if "event-stream" in answer.headers["Content-Type"] else answer.json


def events(answer: Answer) -> list[tuple[str, Any]]:
    found = []
    for block in answer.body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def test_a_message_is_answered_and_its_conversation_created_then_resumed(server: Live) -> None:
    first = say(server, "hello")
    assert first.status == 200
    assert first.json["reply"] == "re hello"
    assert first.json["event"] == "created"
    again = say(server, "more", conversation=first.json["conversation"])
    assert again.json["event"] == "resumed"
    assert again.json["conversation"] == first.json["conversation"]
    assert again.json["turn"] > first.json["turn"]
    assert set(again.json["timings"]) == {"waited", "served", "total"}
    assert again.json["stage"] == ""


@pytest.mark.parametrize("how", ["answer", "receipt", "stream"])
@pytest.mark.parametrize("where", ["body", "header"])
def test_the_same_id_again_gives_the_first_answer(server: Live, bot: Bot, where: str, how: str) -> None:
    key = {"Idempotency_Key": "m-1"} if where == "header" else {}
    id = {"id": "m-1"} if where == "body" else {}
    first = say(server, "hello", headers=key, **id).json
    again = say(server, "hello", headers=key | HOW[how], **id)
    told = fate(again)
    assert again.status == (202 if how == "receipt" else 200)
    if how == "stream":
        assert events(again)[0][1]["replayed"] is True
        assert [name for name, _ in events(again)] == ["receipt", "outcome"]
    else:
        assert again.headers["Idempotent-Replayed"] == "true"
    assert {name: told[name] for name in ("id", "turn", "conversation", "event")} == {
        "id": "m-1", "turn": first["turn"], "conversation": first["conversation"], "event": "created",
    }  # fmt: skip
    if how != "receipt":
        assert told["reply"] == "re hello"
    assert bot.seen == ["hello"]
    resumed = say(server, "more", id="m-2", conversation=first["conversation"]).json
    again = say(server, "more", id="m-2", headers=HOW[how])
    assert {fate(again)[name] for name in ("event", "conversation")} == {"resumed", first["conversation"]}
    assert resumed["event"] == "resumed"


@pytest.mark.parametrize("how", ["answer", "receipt", "stream"])
def test_an_id_of_another_message_is_refused(server: Live, bot: Bot, how: str) -> None:
    first = say(server, "hello", id="m-1").json
    for text, more in (("something else", {}), ("hello", {"channel": "x"}), ("hello", {"conversation": "z"})):
        refused = say(server, text, id="m-1", headers=HOW[how], **more)
        problem = events(refused)[-1][1]["problem"] if how == "stream" else refused.json
        assert (problem["status"], problem["reason"], problem["id"]) == (422, "id_reused", "m-1")
        assert "'m-1'" in problem["detail"]
        assert refused.status == (200 if how == "stream" else 422)
    assert say(server, "hello", id="m-1", conversation=first["conversation"]).json["turn"] == first["turn"]
    assert bot.seen == ["hello"]
    assert server.get("/api/v1/conversations/z").status == 404


def test_an_id_is_repeated_while_the_first_is_running(server: Live, bot: Bot) -> None:
    for text in ("wait", "write more"):
        first = say(server, text, id=text, conversation="c", headers=HOW["receipt"]).json
        again = say(server, text, id=text, headers=HOW["receipt"])
        assert again.headers["Idempotent-Replayed"] == "true"
        for name in ("turn", "conversation", "event", "url"):
            assert again.json[name] == first[name], name
        assert first["event"] == ("created" if text == "wait" else "resumed")
    server.do(bot.go.set)
    assert say(server, "wait", id="wait").json["reply"] == "re wait"


@pytest.mark.parametrize("how", ["answer", "receipt", "stream"])
def test_an_id_is_known_in_the_next_process(bot: Bot, tmp_path: Path, how: str) -> None:
    firsts: dict[str, Any] = {}
    for process in range(2):
        with in_thread(bot, storage=tmp_path / "bot.db", config=ONCE) as live:
            if not process:
                for id in ("m-1", "m-2"):
                    conversation = {"conversation": firsts["m-1"]["conversation"]} if firsts else {}
                    firsts[id] = say(live, "hello", id=id, **conversation).json
                continue
            for id, event in (("m-2", "resumed"), ("m-1", "created")):
                told = fate(say(live, "hello", id=id, headers=HOW[how]))
                assert told["event"] == firsts[id]["event"] == event
                for name in ("turn", "conversation"):
                    assert told[name] == firsts[id][name]
                turn = live.get(f"/api/v1/turns/{told['turn']}").json
                assert (turn["reply"], turn["conversation"]) == ("re hello", told["conversation"])
            for text, more in (("other", {}), ("hello", {"conversation": "z"})):
                assert say(live, text, id="m-1", **more).json["reason"] == "id_reused"
    assert bot.seen == ["hello"] * 2


def test_an_id_that_still_runs_is_known_in_the_next_process(tmp_path: Path) -> None:
    first: dict[str, Any] = {}
    for process in range(2):
        bot = Bot()
        config = ccm.Config(rate_limit=None, drain=0.0)
        with in_thread(bot, storage=tmp_path / "bot.db", config=config) as live:
            if not process:
                first = say(live, "wait", id="m-1", headers=HOW["receipt"]).json
                continue
            later = say(live, "hello", id="m-2", conversation=first["conversation"], headers=HOW["receipt"])
            assert later.json["event"] == "resumed"
            again = say(live, "wait", id="m-1", headers=HOW["receipt"]).json
            for name in ("turn", "conversation", "event"):
                assert again[name] == first[name], name
            live.do(bot.go.set)
            assert say(live, "wait", id="m-1").json["reply"] == "re wait"
            assert say(live, "wait", id="m-1", conversation="z").json["reason"] == "id_reused"


@pytest.mark.parametrize("how", ["answer", "receipt", "stream"])
def test_a_refused_message_begins_no_conversation(how: str) -> None:
    made = [Keys.make(name, ("chat",), name) for name in ("blue", "red")]
    settings = Settings(keys=Keys(key for _, key in made), rate=None)
    (blue, _), (red, _) = made
    with in_thread(echo, settings, config=ccm.Config(rate_limit=ccm.RateLimit(1, per=60))) as server:
        assert say(server, "hello", key=blue).status == 200
        refused = say(server, "again", key=blue, conversation="c", headers=HOW[how])
        assert "rate_limited" in refused.body.decode()
        begun = say(server, "mine", key=red, conversation="c")
        assert (begun.status, begun.json.get("event")) == (200, "created")
        assert say(server, "again", key=blue, conversation="c", headers=HOW[how]).status == 404


def test_a_conversation_is_begun_by_one_tenant_only() -> None:
    """While a message is being handed in, no other tenant's gets in beside it."""
    names = ("blue", "red")
    made = [Keys.make(name, ("chat",), name) for name in names]
    keys = {name: secret for name, (secret, _) in zip(names, made, strict=True)}
    settings = Settings(keys=Keys(key for _, key in made), rate=None)
    bot, config = Bot(), ccm.Config(rate_limit=None, limit=1, queue_limit=1, overflow=ccm.Overflow.WAIT)
    with in_thread(bot, settings, config=config) as server:
        for _ in range(2):  # one runs, one waits: there is no room for more
            say(server, "wait", key=keys["blue"], conversation="a", headers=HOW["receipt"])
        answers: list[Answer] = []
        waiting = threading.Thread(
            target=lambda: answers.append(say(server, "first", key=keys["red"], conversation="c"))
        )
        waiting.start()

        async def handed_in() -> None:
            with trio.fail_after(10):
                while not server.front.exchanges._claims:  # noqa: ASYNC110
                    await trio.sleep(0.01)

        server.call(handed_in)
        assert say(server, "second", key=keys["blue"], conversation="c").status == 404
        server.do(bot.go.set)
        waiting.join(10)
        assert answers[0].json["event"] == "created"
        assert server.front.exchanges._claims == {}


def test_an_answer_may_be_fetched_later(server: Live, bot: Bot) -> None:
    answer = say(server, "wait for it", headers={"Prefer": "respond-async"})
    assert answer.status == 202
    assert answer.headers["Location"] == answer.json["url"]
    assert server.get(answer.json["url"]).json["state"] in ("waiting", "running")
    server.do(bot.go.set)
    server.call(server.manager.wait_idle)
    found = server.get(answer.json["url"]).json
    assert (found["state"], found["outcome"], found["reply"]) == ("done", "replied", "re wait for it")


def test_it_may_be_cancelled(server: Live, bot: Bot) -> None:
    answer = say(server, "hang on", headers={"Prefer": "respond-async"})
    gone = server.request("DELETE", answer.json["url"])
    assert gone.json["state"] == "done"
    assert gone.json["outcome"] == "cancelled"
    assert gone.json["problem"]["reason"] == "cancelled"
    assert bot.cancelled == ["hang on"]
    assert server.request("DELETE", answer.json["url"]).json["outcome"] == "cancelled"


def test_the_reply_as_it_is_written(server: Live) -> None:
    answer = say(server, "write it down", headers={"Accept": "text/event-stream"})
    told = events(answer)
    assert [name for name, _ in told] == ["receipt", "piece", "piece", "piece", "outcome"]
    assert "".join(data["text"] for name, data in told if name == "piece") == "write it down "
    assert told[-1][1]["reply"] == "write it down "
    assert told[-1][1]["turn"] == told[0][1]["turn"]


def test_a_stream_ends_with_the_problem_when_there_is_no_answer(server: Live) -> None:
    told = events(say(server, "fail now", headers={"Accept": "text/event-stream"}))
    assert told[-1][0] == "outcome"
    assert told[-1][1]["outcome"] == "failed"
    assert told[-1][1]["problem"]["status"] == 502
    assert "secret" not in json.dumps(told)


def test_what_a_handler_raised_is_not_told(server: Live) -> None:
    answer = say(server, "fail now")
    assert answer.status == 502
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["reason"] == "handler_failed"
    assert b"secret" not in answer.body
    letters = server.get("/api/v1/dead-letters").json["items"]
    assert [letter["id"] for letter in letters] == [answer.json["dead_letter"]]


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_client_that_goes_away_cancels_its_turn(server: Live, bot: Bot, accept: str) -> None:
    import socket

    body = json.dumps({"user": "ada", "text": "hang here"}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            b"POST /api/v1/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Accept: %s\r\nContent-Length: %d\r\n\r\n%s" % (accept.encode(), len(body), body)
        )

        async def running() -> None:
            with trio.fail_after(10):
                await bot.started.wait()

        server.call(running)

    async def idle() -> None:
        with trio.fail_after(10):
            await server.manager.wait_idle()

    server.call(idle)
    assert bot.cancelled == ["hang here"]
    assert server.manager.statistics().outcomes["cancelled"] == 1


def test_refusals_say_when_to_come_back() -> None:
    with in_thread(echo, config=ccm.Config(rate_limit=ccm.RateLimit(1, per=60))) as server:
        assert say(server, "one").status == 200
        refused = say(server, "two")
        assert refused.status == 429
        assert refused.json["reason"] == "rate_limited"
        assert 0 < refused.json["retry_after"] <= 60
        assert int(refused.headers["Retry-After"]) >= refused.json["retry_after"]


@pytest.mark.parametrize(
    "body",
    [
        {}, {"user": "a"}, {"user": "", "text": "x"}, {"user": "a", "text": ""}, {"user": "a", "text": "\0"},
        {"user": "a/b", "text": "x"}, {"user": "a\n", "text": "x"}, {"user": "a" * 201, "text": "x"},
        {"user": "a", "text": "x", "priority": "urgent"}, {"user": "a", "text": "x", "who": 1},
        {"user": 1, "text": "x"}, {"user": "a", "text": "x", "id": ""}, {"user": "a", "text": "x" * 40_000},
        [], "text", None,
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused_and_changes_nothing(server: Live, body: Any) -> None:
    answer = server.post(
        "/api/v1/chat", body if body is not None else b"null", Content_Type="application/json"
    )
    assert answer.status == 422, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert server.manager.statistics().received == 0


def test_a_tenant_cannot_reach_the_conversations_of_another(tmp_path: Path) -> None:
    made = [
        Keys.make("blue", ("chat", "read"), "blue"), Keys.make("red", ("chat", "read"), "red"),
        Keys.make("root", ("admin",)),
    ]  # fmt: skip
    (blue, _), (red, _), (root, _) = made
    settings = Settings(keys=Keys(key for _, key in made), rate=None)
    for storage in (None, tmp_path / "bot.db"):
        with in_thread(echo, settings, storage=storage, config=ONCE) as server:
            mine = say(server, "mine", key=blue, conversation="c-1")
            assert mine.status == 200
            assert say(server, "me too", key=red, conversation="c-1").status == 404
            assert say(server, "for them", key=red, tenant="blue").status == 403
            assert server.get(f"/api/v1/turns/{mine.json['turn']}", key=red).status == 404
            assert server.get(f"/api/v1/turns/{mine.json['turn']}", key=blue).status == 200
            assert server.post("/api/v1/conversations/c-1/stop", key=red).status == 404
            # Who may see all of them joins the conversation as what it is.
            assert say(server, "hello", key=root, conversation="c-1").status == 200
            session = server.do(server.manager.session, "c-1")
            assert session is not None
            assert session.tenant == "blue"
            if storage is not None:
                for path in ("", "/messages"):
                    assert server.get(f"/api/v1/conversations/c-1{path}", key=red).status == 404
                    assert server.get(f"/api/v1/conversations/c-1{path}", key=blue).status == 200
                assert server.get("/api/v1/search?q=mine", key=red).json["items"] == []
                assert server.get("/api/v1/search?q=mine", key=blue).json["items"] != []
                assert server.get("/api/v1/conversations", key=red).json["items"] == []
