"""`ccm serve` as people start it: it answers, keeps, streams, says what is wrong, and ends with 0."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, open_websocket_url

from ccm.cli import main
from tests.model_kit import Call, fake_server, refusing

from .process import TIMEOUT, Server, clean_environment, serving

BOT = """
import contextlib
import ccm

@contextlib.asynccontextmanager
async def bot():
    print("opened", flush=True)
    async def reply(turn):
        if turn.text == "fail":
            raise ccm.Permanent("the words " + turn.text)
        return turn.text.upper()
    yield reply
    open("closed", "w").close()

async def plain(turn):
    return "plain"
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither settings of this machine, nor the log lines of this process for whoever comes next."""
    for name in [name for name in os.environ if name.startswith("CCM_")]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_the_built_in_responder_answers_and_remembers_across_restarts(tmp_path: Path) -> None:
    with serving(tmp_path, "--pace", "0.001") as server:
        assert server.said["answers"].startswith("the built-in offline responder")
        assert server.said["storage"] == str(tmp_path / "ccm.db")
        first = server.chat("my name is Ada")
        assert first["event"] == "created"
        assert first["outcome"] == "replied"
        assert server.stop() == 0
        assert not [line for line in server.errors if "ERROR" in line or "Traceback" in line]
    with serving(tmp_path, "--pace", "0.001") as server:
        again = server.chat("what is my name?", conversation=first["conversation"])
        assert again["reply"] == "You told me that it is Ada."
        assert again["event"] == "resumed"
        assert server.stop(signal.SIGINT) == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "ccm.db")) as file:
        assert file.execute("pragma integrity_check").fetchone() == ("ok",)


def test_people_are_told_where_to_go(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ccm", "serve", "--port", "0"], cwd=tmp_path, env=clean_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        assert "ccm is serving http://127.0.0.1:" in said
        assert "open that in a browser" in said
        assert f"kept in {tmp_path / 'ccm.db'}" in said
        process.terminate()
        assert process.wait(TIMEOUT) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_handler_of_this_folder_is_opened_and_closed(tmp_path: Path) -> None:
    (tmp_path / "mybot.py").write_text(BOT.replace('    print("opened", flush=True)\n', ""))
    with serving(tmp_path, "mybot:bot", "--storage", ":memory:", "--log", "json") as server:
        assert server.said == {"url": server.url, "answers": "mybot:bot", "storage": None}
        assert server.chat("hello")["reply"] == "HELLO"
        status, problem = server.request("POST", "/api/v1/chat", {"user": "ada", "text": "fail"})
        assert status == 502, problem
        assert not (tmp_path / "closed").exists()
        assert server.stop() == 0
    assert (tmp_path / "closed").exists()
    assert not (tmp_path / "ccm.db").exists()
    for line in server.errors:
        json.loads(line)
    assert "the words" not in "".join(server.errors)


def test_the_number_of_streams_can_be_set(tmp_path: Path) -> None:
    with serving(tmp_path, "--streams", "2", "--storage", ":memory:") as server:
        settings = server.request("GET", "/api/v1/settings")[1]["http"]
        assert (settings["max_streams"], settings["max_connections"]) == (2, 1000)
        streams = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT) for _ in range(3)]
        for stream in streams:
            stream.request("GET", "/api/v1/events")
        assert [stream.getresponse().status for stream in streams] == [200, 200, 503]
        for stream in streams:
            stream.close()


def test_a_model_answers_and_its_key_is_not_told(tmp_path: Path) -> None:
    async def good(call: Call) -> None:
        await call.begin()
        await call.say("Good ", "day.")
        await call.end()

    async def program() -> None:
        with trio.fail_after(TIMEOUT):
            async with fake_server(
                good, refusing("401 no", {"error": {"message": "bad key sk-12345678901"}})
            ) as fake:
                errors = await trio.to_thread.run_sync(talk, fake.url)
            assert fake.calls[0].headers["authorization"] == "Bearer sk-12345678901"
            assert "sk-12345678901" not in errors

    def talk(url: str) -> str:
        arguments = ("--model", url, "--model-name", "qwen", "--model-key-env", "MY_KEY", "--log-text")
        with serving(tmp_path, *arguments, MY_KEY="sk-12345678901") as server:
            assert server.chat("hello")["reply"] == "Good day."
            status, problem = server.request("POST", "/api/v1/chat", {"user": "ada", "text": "again"})
            assert status == 502
            assert "sk-12345678901" not in json.dumps(problem)
            assert server.stop() == 0
            return "".join(server.errors)

    trio.run(program)


async def last_frames(server: Server) -> tuple[list[dict[str, Any]], Any]:
    """What a WebSocket is told when its server is stopped in the middle of an answer."""
    frames: list[dict[str, Any]] = []
    with trio.fail_after(TIMEOUT):
        async with open_websocket_url(
            f"ws://127.0.0.1:{server.port}/api/v1/ws", subprotocols=["ccm.v1"]
        ) as ws:
            await ws.send_message(json.dumps({"type": "hello"}))
            said = {"type": "message", "ref": "1", "user": "ada", "text": "count to 10"}
            await ws.send_message(json.dumps(said))
            try:
                while True:
                    frames.append(json.loads(await ws.get_message()))
                    if len(frames) == 5:
                        server.process.terminate()
            except ConnectionClosed as closed:
                reason = closed.reason
        # Closed by the other side, the library leaves its socket to the garbage collector.
        await ws._stream.aclose()
    return frames, reason


def test_what_runs_at_sigterm_is_answered_before_the_farewell(tmp_path: Path) -> None:
    with serving(tmp_path, "--pace", "0.03") as server:
        frames, reason = trio.run(last_frames, server)
        assert reason.code == 1001
        assert [frame["type"] for frame in frames[-3:]] == ["piece", "outcome", "farewell"]
        assert frames[-2]["reply"] == "1, 2, 3, 4, 5, 6, 7, 8, 9, 10."
        assert server.process.wait(TIMEOUT) == 0


def test_a_stream_at_sigterm_gets_its_outcome(tmp_path: Path) -> None:
    with serving(tmp_path, "--pace", "0.03") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        body = json.dumps({"user": "ada", "text": "count to 10"})
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        connection.request("POST", "/api/v1/chat", body, headers)
        response = connection.getresponse()
        for _ in range(6):
            response.readline()
        server.process.terminate()
        rest = response.read().decode()
        connection.close()
        assert "event: outcome" in rest
        assert "9, 10." in rest
        assert server.process.wait(TIMEOUT) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mybot"], "handler must be MODULE:FUNCTION"),
        (["no_such_bot:reply"], "no module named 'no_such_bot'"),
        (["json:dumps"], "it must be an async function that takes a turn"),
        (["--host", "0.0.0.0"], "keys"),
        (["--keys", "none.toml"], "make one with 'ccm keys new none.toml"),
        (["--port", "99999"], "must be a whole number from 0 to 65535"),
        (["--origin", "chat.example.org/x"], "origins as a browser sends them"),
        (["--model", "nowhere"], "--model: url must be like"),
        (["--model", "http://x", "--model-key-env", "NOT_SET"], "the variable 'NOT_SET' is not set"),
        (["--model", "http://x", "json:dumps"], "give a handler or --model, not both"),
        (["--config", "none.toml"], "none.toml"),
        (["--storage", "no/such/folder/ccm.db"], "no/such/folder/ccm.db"),
        (["--host", "no.such.host.invalid"], ""),
    ],
)  # fmt: skip
def test_mistakes_are_named(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--port", "0", *arguments]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert "Traceback" not in err
    assert out == ""


def test_a_port_in_use_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    assert f"127.0.0.1:{port} is in use by another program; choose another --port" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["anycorn", "fastapi", "httpx2"])
def test_a_missing_package_is_named_with_its_command(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    more = ["--model", "http://127.0.0.1:1"] if package == "httpx2" else []
    assert main(["serve", "--port", "0", *more]) == 2
    assert f"needs the package '{package}'" in (err := capsys.readouterr().err)
    assert "pip install 'ccm[serve]'" in err
    assert not (tmp_path / "ccm.db").exists()


def test_a_file_has_one_owner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path) as server:
        assert main(["serve", "--port", "0", "--storage", str(tmp_path / "ccm.db")]) == 2
        assert "ccm.db" in capsys.readouterr().err
        assert server.stop() == 0
