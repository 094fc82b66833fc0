"""Conversations, figures, dead letters, events and probes over HTTP."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest
import trio

import ccm
from ccm._core.alerts import Alert
from ccm.http import Keys, Settings, _history
from ccm.http._frames import BadFrame, parse
from ccm.http._live import event_json

from .chat_bot import ONCE, Bot
from .live import Answer, Live, echo, in_thread
from .test_chat import say


def test_pages_lead_to_everything_once(server: Live) -> None:
    for number in range(7):
        say(server, f"number {number}", conversation=f"c{number % 3}")
    seen: list[str] = []
    url: str | None = "/api/v1/users/ada/conversations?limit=2"
    while url is not None:
        page = server.get(url).json
        seen += [one["id"] for one in page["items"]]
        url = f"/api/v1/users/ada/conversations?limit=2&cursor={page['cursor']}" if page["cursor"] else None
    assert sorted(seen) == ["c0", "c1", "c2"]
    texts: list[str] = []
    cursor = ""
    while True:
        page = server.get(f"/api/v1/conversations/c0/messages?limit=2{cursor}").json
        texts = [one["text"] for one in page["items"]] + texts
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert texts == [f"{re}number {n}" for n in (0, 3, 6) for re in ("", "re ")]


def test_searching(server: Live) -> None:
    say(server, "the red bicycle", conversation="c1")
    say(server, "a blue car", conversation="c2")
    hits = server.get("/api/v1/search?q=bicycle").json["items"]
    assert {hit["conversation"] for hit in hits} == {"c1"}
    assert "[bicycle]" in hits[0]["snippet"]
    assert server.get("/api/v1/search?q=%21%21").status == 422
    first = server.get("/api/v1/search?q=a&limit=1").json
    assert len(first["items"]) == 1
    assert server.get("/api/v1/conversations/c1/messages?cursor=abc").status == 422
    assert server.get("/api/v1/conversations?cursor=abc").status == 422


def test_changes_are_kept_and_audited(server: Live, caplog: pytest.LogCaptureFixture) -> None:
    say(server, "hello", conversation="c1")
    with caplog.at_level(logging.INFO, "ccm.audit"):
        changed = server.request(
            "PATCH", "/api/v1/conversations/c1",
            {"stage": "lead", "hand_off": {"to": "eve"}, "pause": True, "summary": "greeting",
             "qualification": {"budget": {"met": True, "confidence": 0.5}}},
        )  # fmt: skip
    assert changed.json["stage"] == "lead"
    assert changed.json["agent"] == "eve"
    assert changed.json["paused"] is True
    assert (changed.json["is_qualified"], changed.json["score"]) == (True, 0.5)
    assert json.loads(caplog.records[-1].getMessage())["conversation"] == "c1"
    assert say(server, "anybody?", conversation="c1").json["reply"] == ""
    assert say(server, "hi", conversation="c1").json["stage"] == "lead"
    assert server.request("PATCH", "/api/v1/conversations/none", {"stage": "x"}).status == 404
    assert server.request("PATCH", "/api/v1/conversations/c1", {"stages": "x"}).status == 422


def test_metadata_is_set_removed_and_bounded(server: Live) -> None:
    def change(metadata: object, **more: object) -> Answer:
        return server.request("PATCH", "/api/v1/conversations/c1", {"metadata": metadata, **more})

    say(server, "hello", conversation="c1")
    assert server.get("/api/v1/conversations/c1").json["metadata"] == {}
    assert change({"plan": "gold", "a/b": [1], "old": 1}).json["metadata"] == {
        "plan": "gold", "a/b": [1], "old": 1,
    }  # fmt: skip
    kept = {"plan": {"name": "silver"}, "a/b": [1]}
    assert change({"old": None, "plan": {"name": "silver"}}).json["metadata"] == kept
    assert change(None, summary="greeting").json["metadata"] == kept
    (line,) = server.get("/api/v1/conversations").json["items"]
    assert line["metadata"] == kept
    for wrong in (
        {str(number): 1 for number in range(63)}, {"x": "x" * 16_384}, {"": 1}, {"x" * 201: 1}, [1], "x",
    ):  # fmt: skip
        refused = change(wrong, stage="lead", summary="changed")
        assert (refused.status, refused.json["reason"]) == (422, "invalid"), refused.body
    assert "at most 64 names" in change({str(number): 1 for number in range(63)}).json["detail"]
    infinite = server.request(
        "PATCH", "/api/v1/conversations/c1", b'{"metadata": {"x": 1e999}, "stage": "lead"}',
        Content_Type="application/json",
    )  # fmt: skip
    assert infinite.status == 422
    found = server.get("/api/v1/conversations/c1").json
    assert (found["metadata"], found["stage"], found["summary"]) == (kept, "", "greeting")
    assert server.request("PATCH", "/api/v1/conversations/none", {"metadata": {"x": 1}}).status == 404


def test_a_search_is_of_ones_own_tenant_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Keys.make(name, ("chat", "read"), name) for name in ("blue", "red")]
    settings = Settings(keys=Keys(key for _, key in made), rate=None)
    secrets = [secret for secret, _ in made]
    with in_thread(echo, settings, storage=tmp_path / "bot.db", config=ONCE) as server:
        for number in range(6):
            say(server, f"apple {number}", key=secrets[number % 2], conversation=f"c{number}")
        for tenant in (0, 1):
            found: list[str] = []
            url: str | None = "/api/v1/search?q=apple&limit=2"
            pages = 0
            while url is not None:
                page = server.get(url, key=secrets[tenant]).json
                assert len(page["items"]) == 2
                found += [hit["text"] for hit in page["items"]]
                pages += 1
                url = page["cursor"] and f"/api/v1/search?q=apple&limit=2&cursor={page['cursor']}"
            own = {f"apple {number}" for number in (tenant, tenant + 2, tenant + 4)}
            assert set(found) == own | {f"you said: {text}" for text in own}
            assert (len(found), pages) == (6, 3)
        assert server.get("/api/v1/search?q=apple&cursor=10000", key=secrets[0]).json["items"] == []
        for beyond in ("10001", "999999999", "-1", "x", ""):
            refused = server.get(f"/api/v1/search?q=apple&cursor={beyond}", key=secrets[0])
            assert (refused.status, refused.json["reason"]) == (422, "cursor"), beyond
        monkeypatch.setattr(_history, "_DEEPEST", 2)
        assert server.get("/api/v1/search?q=apple&limit=2", key=secrets[0]).json["cursor"] == "2"
        assert server.get("/api/v1/search?q=apple&limit=2&cursor=2", key=secrets[0]).json["cursor"] is None


def test_forgetting_erases_and_audits(server: Live, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    say(server, "my secret is purple", conversation="c1")
    with caplog.at_level(logging.INFO, "ccm.audit"):
        gone = server.request("DELETE", "/api/v1/users/ada")
    assert gone.json == {"erased": 2}
    assert json.loads(caplog.records[-1].getMessage())["action"] == "forget"
    assert server.get("/api/v1/conversations/c1").status == 404
    assert server.get("/api/v1/search?q=purple").json["items"] == []
    assert server.get("/api/v1/turns/1").status == 404


def test_an_export_has_every_line(server: Live) -> None:
    for number in range(3):
        say(server, f"number {number}", conversation="c1")
    lines = [json.loads(line) for line in server.get("/api/v1/export").body.splitlines()]
    assert [line["text"] for line in lines if line["type"] == "entry"] == [
        f"{re}number {n}" for n in range(3) for re in ("", "re ")
    ]
    assert server.get("/api/v1/export?conversation=none").status == 404


def test_a_dead_letter_is_replayed_and_another_discarded(server: Live) -> None:
    for text in ("fail a", "fail b"):
        say(server, text)
    first, second = server.get("/api/v1/dead-letters").json["items"]
    assert (first["text"], first["user"]) == ("fail a", "ada")
    assert server.post(f"/api/v1/dead-letters/{first['id']}/replay").json["turn"] > 0
    server.call(server.manager.wait_idle)
    left = [letter["text"] for letter in server.get("/api/v1/dead-letters").json["items"]]
    assert sorted(left) == ["fail a", "fail b"]  # it failed again, as a new one
    assert server.request("DELETE", f"/api/v1/dead-letters/{second['id']}").status == 204
    assert server.request("DELETE", f"/api/v1/dead-letters/{second['id']}").status == 404
    assert server.post("/api/v1/dead-letters/999/replay").status == 404


def test_figures(server: Live) -> None:
    say(server, "hello")
    picture = server.get("/api/v1/statistics").json
    assert picture["outcomes"]["replied"] == 1
    assert set(picture["queues"]) == {"CRITICAL", "HIGH", "NORMAL", "LOW"}
    assert picture["at"].endswith("Z")
    assert picture["storage"]["kind"] == "sqlite"
    trends = server.get("/api/v1/trends?step=60").json
    lengths = {len(column) for column in trends["columns"].values() if isinstance(column, list)}
    assert len(lengths) == 1
    assert server.get("/api/v1/trends?step=7").status == 422
    assert server.get("/api/v1/analytics?days=1").json["turns"] == 1
    settings = server.get("/api/v1/settings").json
    assert settings["config"]["limit"] == 50
    assert settings["http"]["keys"] is False


def test_without_a_storage_the_remedy_is_named() -> None:
    with in_thread(echo) as server:
        for path in ("conversations", "conversations/c", "search?q=x", "analytics", "export"):
            answer = server.get(f"/api/v1/{path}")
            assert (answer.status, answer.json["reason"]) == (409, "storage_missing")
        assert say(server, "hello").json["stage"] is None
        assert server.get("/api/v1/statistics").json["storage"]["kind"] == "memory"


@contextmanager
def listening(server: Live, kinds: bytes) -> Iterator[BinaryIO]:
    """The live events of these kinds, line by line, from now on."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"GET /api/v1/events?kinds=%b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % kinds)
        with client.makefile("rb") as file:
            while b"listening" not in file.readline():
                pass
            yield file


def test_events_are_told_live_and_end_with_a_farewell(server: Live) -> None:
    with listening(server, b"Accepted,Ended") as file:
        say(server, "hello", conversation="c1")
        seen = b""
        while b"event: Ended" not in seen:
            seen += file.readline()
        assert b"event: Accepted" in seen
        assert b"event: Started" not in seen
        server.do(server.front.begin_farewell)
        rest = file.read()
        assert b"event: farewell" in rest


def test_times_of_events_are_those_of_the_world(server: Live) -> None:
    before = datetime.now(UTC)
    with listening(server, b"Ended,%20AlertRaised") as file:
        say(server, "hello", conversation="c1")
        while not (line := file.readline()).startswith(b"data: "):
            pass
    told = json.loads(line.removeprefix(b"data: "))
    at = datetime.fromisoformat(told["at"])
    assert at.utcoffset() == timedelta(0)
    # Both clocks count on, but they are read one after the other.
    assert before - timedelta(seconds=1) <= at <= datetime.now(UTC) + timedelta(seconds=1)
    assert 0 <= told["served"] < 10, "spans stay seconds"


def test_every_time_in_an_event_is_told_as_one(server: Live) -> None:
    wall = server.front.wall
    paused = event_json(ccm.events.ProviderPaused(1.0, "p", 2.0), wall)
    assert (paused["at"], paused["until"]) == (wall(1.0), wall(2.0))
    alert = Alert(kind="wait", subject="NORMAL", level="warning", value=3.0, threshold=2.0, since=5.0)
    raised = event_json(ccm.events.AlertRaised(6.0, alert), wall)
    assert raised["alert"]["since"] == wall(5.0)
    assert raised["alert"]["value"] == 3.0
    assert event_json(ccm.events.Stuck(1.0, 1, "c", "r", 4.0), wall)["since"] == 4.0
    assert event_json(ccm.events.Lagged(1.0, 7), wall) == {"at": wall(1.0), "missed": 7}
    assert wall(float("inf")).startswith("9999-")


@pytest.mark.parametrize("kinds", ["Endet", "Ended,", "Ended,accepted", ",", "Event", "Lagged"])
def test_a_kind_of_event_that_does_not_exist_is_named(server: Live, kinds: str) -> None:
    answer = server.get(f"/api/v1/events?kinds={kinds}")
    assert (answer.status, answer.json["reason"]) == (422, "kinds")
    wrong = next(name for name in kinds.split(",") if name != "Ended")
    assert repr(wrong) in answer.json["detail"]
    assert set(answer.json["kinds"]) == set(ccm.events.__all__) - {"Event", "Lagged"}


def test_probes(server: Live) -> None:
    assert server.get("/healthz").json == {"status": "ok"}
    assert server.get("/readyz").json == {"status": "ready"}
    server.do(server.front.begin_draining)
    assert (server.get("/readyz").status, server.get("/healthz").status) == (503, 200)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", '"hello"', "{}", '{"type": 1}', '{"type": "hi"}', '{"type": "message"}', "[" * 100,
     '{"type": "edit", "id": "", "text": "x"}', '{"type": "hello", "last_seen": -1}', "NaN", "{"],
)  # fmt: skip
def test_what_is_no_frame(text: str) -> None:
    with pytest.raises(BadFrame):
        parse(text, 32)


def test_the_manager_finds_receipts_by_number(server: Live, bot: Bot) -> None:
    async def find() -> None:
        receipt = await server.manager.submit(ccm.Message("c", "u", "hang"))
        found = server.manager.receipt(receipt.turn_id)
        assert found is not None
        assert found.message.text == "hang"
        assert server.manager.receipt(10**9) is None
        with trio.fail_after(10):
            await bot.started.wait()
        states = [found.state]
        assert found.waited is not None
        await server.manager.stop("c")
        assert [*states, found.state] == ["running", "done"]

    server.call(find)
