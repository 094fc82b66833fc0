"""`ccm top`: a picture of a real server, as JSON too, and plain words when there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

import ccm
from ccm.cli import main
from ccm.cli._console import UsageError
from ccm.cli._pictures import column, picture, sparkline
from ccm.cli._tables import make_console
from ccm.cli._top import _watch
from ccm.cli._web import Target
from ccm.http import Keys, Settings

from .live import Live, in_thread


async def three(manager: ccm.ConversationManager) -> None:
    for text in ("one", "two", "three"):
        await manager.ask(ccm.Message("c", "ada", text, priority=ccm.HIGH))


def test_one_look_at_a_real_server(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    live.call(three, live.manager)
    assert main(["top", live.url, "--once"]) == 0
    told = capsys.readouterr().out
    assert f"ccm at {live.url}" in told
    assert "received 3" in told
    assert "3 replied" in told
    (high,) = (line for line in told.splitlines() if line.startswith(" HIGH"))
    assert high.split()[3] == "3", "turns that were started"
    assert main(["top", live.url, "--json"]) == 0
    look = json.loads(capsys.readouterr().out)
    assert look["statistics"]["received"] == 3
    assert set(look) == {"statistics", "trends", "alerts"}


def test_a_key_is_needed_and_read_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret, key = Keys.make("watcher", ["read"])
    (tmp_path / "key.txt").write_text(secret + "\n")
    with in_thread(settings=Settings(keys=Keys([key]), rate=None)) as server:
        assert main(["top", server.url, "--once"]) == 2
        assert "it wants a key with the scope 'read'" in capsys.readouterr().err
        assert main(["top", server.url, "--once", "--key-file", str(tmp_path / "key.txt")]) == 0
        assert secret not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["http://127.0.0.1:9", "--once"], "is 'ccm serve' running there?"),
        (["ftp://x", "--once"], "URL must be like"),
        (["http://x:99999", "--once"], "URL must be like"),
        (["http://x", "--key", "a", "--key-file", "b"], "not both"),
        (["http://x", "--key-file", "no-such-file"], "cannot read --key-file"),
        (["http://x", "--every", "0"], "must be a number above 0"),
    ],
)
def test_mistakes_are_named(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_watching_goes_on_while_a_server_is_restarted() -> None:
    notes: list[str] = []

    async def program() -> None:
        with in_thread() as server:
            url = server.url
            async with trio.open_nursery() as nursery:

                def show(look: dict[str, Any], note: str) -> None:
                    notes.append(note)
                    if len(notes) == 2:
                        server.token.run_sync_soon(server.stop.cancel)

                nursery.start_soon(watch, url, show)
                await trio.lowlevel.checkpoint()

    async def watch(url: str, show: Any) -> None:
        with pytest.raises(UsageError, match="cannot reach"):
            await _watch(Target(url), 0.01, show)

    trio.run(program)
    assert notes[:2] == ["", ""]
    assert notes[-1] == "no answer for 9 looks"


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([None, 5, -1]) == "·█▁"
    assert sparkline([]) == ""
    assert len(sparkline(list(range(500)))) == 60


def test_columns_may_be_missing() -> None:
    trends = {"columns": {"running": [1, 2], "outcomes": {"replied": [3]}}}
    assert column(trends, "running") == [1, 2]
    assert column(trends, "outcomes", "replied") == [3]
    assert column(trends, "nothing") == column(trends, "running", "below") == []


def test_everything_that_may_be_there_is_drawn() -> None:
    console = make_console()
    alert = {"kind": "[red]depth", "subject": "LOW", "level": "critical", "value": 7, "threshold": 5}
    look: dict[str, Any] = {
        "statistics": {
            "received": 4, "running": 1, "limit": 2, "waiting": 7, "retrying": 1, "uptime": 7300,
            "queues": {"LOW": {"waiting": 7, "oldest": 12.5}}, "wait": {}, "service": {},
            "outcomes": {"failed": 2}, "rejected": {"overloaded": 3},
            "services": {"mood": {"waiting": 1, "processing": 2, "done": 3, "dead": 4}},
            "storage": {"lag": 0.25, "failing": "disk full", "pending": 9},
        },
        "trends": {"columns": {"memory": [None, 2e6]}},
        "alerts": {"items": [alert]},
    }  # fmt: skip
    with console.capture() as captured:
        console.print(picture("http://x", look, "no answer for 3 looks"))
    told = captured.get()
    for words in (
        "up 2 h 1 min", "no answer for 3 looks", "12.5 s", "2 failed", "rejected: 3 overloaded", "mood",
        "lag 250 ms", "FAILING: disk full", "2 MB", "[red]depth", "critical",
    ):  # fmt: skip
        assert words in told, words
