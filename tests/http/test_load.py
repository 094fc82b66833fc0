"""`ccm load`: what it sends, how it judges, and its exit codes, against real and failing servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

import ccm
from ccm.cli import main
from ccm.cli._load_mix import PRESETS, TEST, Preset
from ccm.cli._load_run import Load, Result, run_load
from ccm.cli._web import Target
from ccm.http import Settings
from tests.model_kit import Call, fake_server, real

from .live import in_thread

FREE = ccm.Config(rate_limit=None)


async def quick(turn: ccm.Turn) -> str:
    await turn.send("well ")
    await turn.send("said")
    return "well said"


def run(url: str, *arguments: str) -> int:
    return main(["load", url, "--users", "5", "--rate", "40", "--duration", "1", "--json", *arguments])


@pytest.mark.parametrize("more", [[], ["--stream"], ["--websocket"]])
def test_a_quick_server_holds_every_target(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with in_thread(quick, config=FREE) as server:
        assert run(server.url, "--target", "CRITICAL=1", *more) == 0
        report = json.loads(capsys.readouterr().out)
        figures = server.manager.statistics()
    (sent,) = report["runs"]
    assert report["ok"]
    assert sent["sent"] == sent["answers"]["200"] == figures.received
    assert sum(row["answered"] for row in sent["classes"]) == sent["sent"] > 20
    assert {row["class"] for row in sent["classes"]} == {"CRITICAL", "HIGH", "NORMAL", "LOW"}
    for row in sent["classes"]:
        assert row["response"]["count"] == row["wait"]["count"] == row["sent"]
        assert row["first"]["count"] == (row["sent"] if more else 0)
        assert figures.wait[ccm.Priority[row["class"]]].count == row["sent"], "the class was sent along"


def test_a_target_that_is_missed_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    async def slow(turn: ccm.Turn) -> str:
        await trio.sleep(0.1)
        return "late"

    with in_thread(slow, config=ccm.Config(rate_limit=None, limit=1, headroom={})) as server:
        assert run(server.url, "--preset", "ai", "--target", "HIGH=0.05") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert any(text.startswith("HIGH: 99 in 100 waited up to") for text in report["runs"][0]["missed"])


def test_refusals_are_counted_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    with in_thread(quick, Settings(rate=ccm.RateLimit(10, per=10)), config=FREE) as server:
        assert run(server.url) == 1
    (sent,) = json.loads(capsys.readouterr().out)["runs"]
    assert sent["answers"]["429"] == sum(row["refused"] for row in sent["classes"]) > 0
    assert any("429: the server's rate limits" in text for text in sent["missed"])


def test_tables_and_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with in_thread(quick, config=FREE) as server:
        arguments = ["load", server.url, "--rate", "10", "--duration", "0.5", "--preset", "performance"]
        assert main([*arguments, "--target", "CRITICAL=1"]) == 0
    out, err = capsys.readouterr()
    for name in TEST:
        assert f"{name}: " in err
        assert f"{name}: 20 people" in out
    assert "OK: every target held" in out


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", "http://127.0.0.1:9"]) == 2
    assert "is 'ccm serve' running there?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--users", "0"], "from 1 to 100000"), (["--rate", "0"], "above 0"),
        (["--stream", "--websocket"], "not allowed with argument"),
        (["--preset", "calm"], "invalid choice: 'calm'"),
        (["--target", "SOON=1"], "must be like CRITICAL=0.1"),
        (["--target", "HIGH=0"], "above 0"),
    ],
)  # fmt: skip
def test_wrong_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", "http://127.0.0.1:9", *arguments]) == 2
    assert said in capsys.readouterr().err


async def cut(call: Call) -> None:
    await call.stream.aclose()


async def broken(call: Call) -> None:
    await call.refuse("500 Oops", {"title": "oops"})


async def odd(call: Call) -> None:
    await call.refuse("200 OK", b"[1]")


async def late_problem(call: Call) -> None:
    await call.begin()
    await call.chunk('event: piece\ndata: {"text": "a"}\n\n')
    await call.chunk('event: outcome\ndata: {"problem": {"status": 502}}\n\n')
    await call.end(done=False)


@real
@pytest.mark.parametrize(
    ("behaviour", "fate", "status"),
    [
        (cut, "lost", "RemoteProtocolError"), (broken, "failed", "500"), (odd, "failed", "200"),
        (late_problem, "failed", "502"),
    ],
)  # fmt: skip
async def test_what_goes_wrong_is_told_apart(behaviour: Any, fate: str, status: str) -> None:
    async with fake_server(behaviour) as server:
        load = Load(preset=PRESETS["stress"], users=2, rate=5, duration=0.5)
        result = await run_load(Target(server.url.removesuffix("/v1")), load)
    sent = sum(row.sent for row in result.classes.values())
    assert sent
    assert sum(getattr(row, fate) for row in result.classes.values()) == sent
    assert result.answers == {status: sent}
    assert f"{sent} of {sent} messages {fate}" in result.missed()


SocketBehaviour = Callable[[WebSocketConnection, dict[str, Any]], Any]


class SocketServer:
    """A WebSocket server that treats each message as it is told to, and notes who came and how they left.

    `open` yields its URL and ends when everybody has left.
    """

    def __init__(self, behave: SocketBehaviour | int) -> None:
        self.behave = behave
        self.users: list[set[str]] = []
        self.keys: set[bytes | None] = set()
        self.left: list[int | None] = []
        self.leaving = trio.Event()

    async def serve(self, request: WebSocketRequest) -> None:
        self.keys.add(dict(request.headers).get(b"authorization"))
        if isinstance(self.behave, int):
            return await request.reject(self.behave)
        socket = await request.accept()
        said = set[str]()
        self.users.append(said)
        try:
            assert json.loads(await socket.get_message()) == {"type": "hello"}
            while True:
                frame = json.loads(await socket.get_message())
                said.add(frame["user"])
                await self.behave(socket, frame)
        except ConnectionClosed as closed:
            self.left.append(closed.reason.code if closed.reason else None)
            self.leaving.set()
            self.leaving = trio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, self.serve, "127.0.0.1", 0, None)
            yield f"http://127.0.0.1:{server.port}"
            with trio.fail_after(5):
                while len(self.left) < len(self.users):
                    await self.leaving.wait()
            nursery.cancel_scope.cancel()


async def tell(socket: WebSocketConnection, **frame: Any) -> None:
    await socket.send_message(json.dumps(frame))


async def answer_late(socket: WebSocketConnection, frame: dict[str, Any]) -> None:
    await tell(socket, type="receipt", ref=frame["ref"], id=frame["id"])
    await tell(socket, type="piece", id="of somebody else", text="x")
    await tell(socket, type="piece", id=frame["id"], text="a")
    await tell(socket, type="outcome", id=frame["id"], outcome="replied", timings={"waited": 0.01})


async def hang_up(socket: WebSocketConnection, frame: dict[str, Any]) -> None:
    await socket.aclose(1011)


async def talk_nonsense(socket: WebSocketConnection, frame: dict[str, Any]) -> None:
    await socket.send_message("[1]")


async def refuse(socket: WebSocketConnection, frame: dict[str, Any]) -> None:
    await tell(socket, type="error", ref=frame["ref"], problem={"status": 429})


async def fail(socket: WebSocketConnection, frame: dict[str, Any]) -> None:
    await tell(socket, type="piece", id=frame["id"], text="a")
    await tell(socket, type="outcome", id=frame["id"], outcome="failed", problem={"status": 502})


@real
@pytest.mark.parametrize(
    ("behave", "fate", "status"),
    [
        (answer_late, "answered", "200"), (hang_up, "lost", "ConnectionClosed"),
        (talk_nonsense, "lost", "ValueError"), (refuse, "refused", "429"), (fail, "failed", "502"),
        (503, "refused", "503"), (401, "failed", "401"),
    ],
)  # fmt: skip
async def test_what_becomes_of_a_message_on_a_socket(behave: Any, fate: str, status: str) -> None:
    server = SocketServer(behave)
    async with server.open() as url:
        load = Load(preset=PRESETS["mixed"], users=2, rate=20, duration=0.5, transport="websocket")
        with trio.fail_after(10):
            result = await run_load(Target(url, "secret"), load)
    rows = result.classes.values()
    sent = sum(row.sent for row in rows)
    assert sent > 2
    assert sum(getattr(row, fate) for row in rows) == sent
    assert result.answers == {status: sent}
    assert sum(row.first.count for row in rows) == (sent if behave in (answer_late, fail) else 0)
    assert server.keys == {b"Bearer secret"}


@real
async def test_each_person_has_one_socket_and_says_goodbye() -> None:
    server = SocketServer(answer_late)
    async with server.open() as url:
        load = Load(preset=PRESETS["mixed"], users=3, rate=40, duration=0.5, transport="websocket")
        result = await run_load(Target(url), load)
        assert sum(row.answered for row in result.classes.values()) > 3
    assert sorted(map(len, server.users)) == [1, 1, 1]
    assert server.left == [1000] * 3


@real
async def test_a_server_that_never_answers_on_its_socket_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ignore(socket: WebSocketConnection, frame: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("ccm.cli._load_run.PATIENCE", 0.2)
    async with SocketServer(ignore).open() as url:
        load = Load(preset=PRESETS["mixed"], users=2, rate=20, duration=0.3, transport="websocket")
        with trio.fail_after(10):
            result = await run_load(Target(url), load)
    assert set(result.answers) == {"time-out"}
    assert sum(row.lost for row in result.classes.values()) == result.answers["time-out"]


def test_presets_are_what_they_say() -> None:
    assert set(PRESETS) == set(TEST)
    for preset in PRESETS.values():
        assert sum(preset.mix.values()) == pytest.approx(1)
        assert set(preset.mix) <= set(preset.texts)
    assert PRESETS["stress"].answered is None


def test_nothing_sent_is_no_success() -> None:
    calm = Preset(name="calm", meaning="", mix={ccm.LOW: 1.0})
    assert Result(Load(preset=calm, users=1, rate=1, duration=1)).missed() == [
        "nothing was sent: raise --rate or --duration"
    ]
