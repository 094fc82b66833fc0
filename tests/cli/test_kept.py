"""`ccm conversations`, `dead-letters` and `storage`: on a file at rest, and beside a bot that uses it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import trio

import ccm
from ccm import Config, HandlerFailed, Message, RetryPolicy, Turn
from ccm.cli import main

CONFIG = Config(rate_limit=None, retry=RetryPolicy(attempts=1))


async def fill(path: Path) -> None:
    async def handler(turn: Turn) -> str:
        if "broken" in turn.text:
            raise ValueError("made to fail")
        return f"re {turn.text}"

    async with ccm.open_manager(handler, config=CONFIG, storage=path) as manager:
        for text in ("good morning", "the printer is broken", "zebras are striped"):
            with contextlib.suppress(HandlerFailed):
                await manager.ask(Message("room-1", "ada", text))
        await manager.ask(Message("room-2", "ben", "hello"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    trio.run(fill, tmp_path / "bot.db")
    return tmp_path / "bot.db"


def read(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_conversations_are_listed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read(capsys, "conversations", "list", "--storage", path)["conversations"]
    assert [(c["key"], c["messages"], c["replies"], c["failures"]) for c in found] == [
        ("room-2", 1, 1, 0), ("room-1", 3, 2, 1),
    ]  # fmt: skip
    assert main(["conversations", "list", "--storage", str(path), "--user", "ben"]) == 0
    out = capsys.readouterr().out
    assert "room-2" in out
    assert "room-1" not in out


def test_a_conversation_is_shown(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read(capsys, "conversations", "show", "room-1", "--storage", path)
    assert [entry["text"] for entry in found["history"]] == [
        "good morning", "re good morning", "the printer is broken", "zebras are striped",
        "re zebras are striped",
    ]  # fmt: skip
    assert main(["conversations", "show", "room-1", "--storage", str(path)]) == 0
    assert "zebras are striped" in capsys.readouterr().out


def test_words_are_found(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read(capsys, "conversations", "search", "zebr", "--storage", path)["hits"]
    assert sorted(hit["snippet"] for hit in found) == ["[zebras] are striped", "re [zebras] are striped"]
    assert main(["conversations", "search", "unicorns", "--storage", str(path)]) == 0
    assert "nothing found" in capsys.readouterr().out


def test_everything_is_exported(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["conversations", "export", "--storage", str(path), "--out", str(tmp_path / "all.jsonl")]) == 0
    )
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines].count("conversation") == 2
    assert "2 conversations, 7 lines" in capsys.readouterr().err


def test_a_user_is_forgotten_only_when_that_is_meant(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forget = ["conversations", "forget", "ada", "--storage", str(path)]
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert main(forget) == 2
    assert "add --yes" in capsys.readouterr().err
    assert len(read(capsys, "conversations", "list", "--storage", path)["conversations"]) == 2
    assert main([*forget, "--yes"]) == 0
    assert [c["key"] for c in read(capsys, "conversations", "list", "--storage", path)["conversations"]] == [
        "room-2"
    ]
    assert b"zebra" not in path.read_bytes()


def test_old_conversations_are_archived(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conversations", "archive", "--storage", str(path), "--older-than", "1", "--yes"]) == 0
    assert "0 conversations" in capsys.readouterr().err
    assert main(["conversations", "archive", "--storage", str(path), "--older-than", "0", "--yes"]) == 0
    assert "2 conversations" in capsys.readouterr().err
    found = read(capsys, "conversations", "show", "room-1", "--storage", path)
    assert found["status"] == "archived"
    assert len(found["history"]) == 5


def test_figures(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read(capsys, "conversations", "stats", "--storage", path)
    assert (found["turns"], found["users"], found["outcomes"]) == (4, 2, {"failed": 1, "replied": 3})
    assert main(["conversations", "stats", "--storage", str(path)]) == 0
    assert "outcome replied" in capsys.readouterr().out


def test_dead_letters_are_shown_and_forgotten(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (letter,) = read(capsys, "dead-letters", "list", "--storage", path)["dead_letters"]
    assert letter["body"]["text"] == "the printer is broken"
    assert "made to fail" in letter["error"]
    assert main(["dead-letters", "show", "1", "--storage", str(path)]) == 0
    assert "printer" in capsys.readouterr().out
    assert main(["dead-letters", "show", "7", "--storage", str(path)]) == 2
    assert "no dead letter 7" in capsys.readouterr().err
    assert main(["dead-letters", "discard", "--storage", str(path)]) == 2
    assert "say --all" in capsys.readouterr().err
    assert main(["dead-letters", "discard", "1", "--storage", str(path), "--yes"]) == 0
    assert read(capsys, "dead-letters", "list", "--storage", path)["dead_letters"] == []


def test_what_is_replayed_is_answered_at_the_next_start(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(capsys, "dead-letters", "replay", "--all", "--storage", path)["replayed"] == {"1": 5}
    seen: list[str] = []

    async def handler(turn: Turn) -> None:
        seen.append(turn.text)

    async def start() -> None:
        async with ccm.open_manager(handler, config=CONFIG, storage=path) as manager:
            assert manager.dead_letters() == []
            await manager.wait_idle()

    trio.run(start)
    assert seen == ["the printer is broken"]


def test_a_bot_that_is_running_takes_up_what_is_replayed(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answered = trio.Event()

    async def handler(turn: Turn) -> str:
        if "printer" in turn.text:
            answered.set()
        return "fixed"

    async def start() -> None:
        async with ccm.open_manager(handler, config=CONFIG, storage=path) as manager:
            assert len(manager.dead_letters()) == 1
            await manager.ask(Message("room-3", "ada", "before"))
            status = await trio.to_thread.run_sync(
                main, ["dead-letters", "replay", "1", "--storage", str(path)]
            )
            assert status == 0
            with trio.fail_after(20):
                await answered.wait()
                await manager.wait_idle()
            assert manager.dead_letters() == []
            await manager.ask(Message("room-3", "ada", "after"))

    trio.run(start)


def test_a_file_is_checked_and_vacuumed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checked = read(capsys, "storage", "check", path)
    assert (checked["ok"], checked["conversations"], checked["letters"]) == (True, 2, 1)
    assert read(capsys, "storage", "migrate", path) == {"version": 2}
    assert read(capsys, "storage", "vacuum", path)["after"] > 0


@pytest.mark.parametrize(
    "arguments",
    [["conversations", "list", "--storage"], ["dead-letters", "list", "--storage"], ["storage", "check"]],
)
def test_looking_at_a_file_makes_none(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, str(tmp_path / "no.db")]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_storage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("this is no database, and long enough to be looked at as one" * 20)
    assert main(["storage", "check", str(path)]) == 2
    assert "no SQLite file" in capsys.readouterr().err
