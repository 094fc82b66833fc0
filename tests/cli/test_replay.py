"""`ccm replay` on small logs, from arguments to exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ccm.cli import _replay, main

LOG = """\
[12:00] <ada> bot: hello
[12:00] <ben> oh shit
[12:00]  * ada waves
[12:01] <ben> what is this?
[12:01] <ada> small talk
"""
BROKEN = "[12:00] <ada> one\nnonsense \x1b[31m\n\n[12:01] <ada> two\n[25:00] <ada> three\n"


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a good and a broken log, which is the current one; modules of it are forgotten."""
    (tmp_path / "good.log").write_text(LOG)
    (tmp_path / "broken.log").write_text(BROKEN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("bot_"):
            del sys.modules[name]


def replayed(
    capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0
) -> tuple[dict[str, Any], str]:
    assert main(["replay", "--speed", "max", "--json", *arguments]) == code
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_every_message_gets_its_outcome(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, err = replayed(capsys, "good.log")
    assert err == ""
    assert report["ok"]
    assert report["conservation"] == "5 received = 5 replied"
    assert {row["class"]: row["turns"] for row in report["classes"]} == {
        "CRITICAL": 1, "HIGH": 1, "NORMAL": 3, "LOW": 0,
    }  # fmt: skip
    details = {check["law"]: check["detail"] for check in report["checks"]}
    assert details["outcome"] == "5 of 5"
    assert details["G2"] == "5 messages, 1 conversations"


def test_by_user_each_person_is_a_conversation(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, _ = replayed(capsys, "good.log", "--by", "user")
    assert "5 messages, 2 conversations" in {check["detail"] for check in report["checks"]}


def test_malformed_lines_are_shown_and_not_fatal(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, err = replayed(capsys, "good.log", "broken.log")
    assert report["sent"] == 7
    assert [(m["file"], m["line"], m["reason"]) for m in report["malformed"]] == [
        ("broken.log", 2, "no [HH:MM] at the start"),
        ("broken.log", 3, "empty line"),
        ("broken.log", 5, "no such time: [25:00]"),
    ]
    assert "broken.log:5: no such time: [25:00]" in err
    assert "\x1b" not in err


def test_strict_makes_them_fatal(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--strict", "--json", "broken.log"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "broken.log:2:" in err
    assert "3 malformed lines" in err
    assert main(["replay", "--strict", "--json", "--speed", "0", "good.log"]) == 0


def test_many_malformed_lines_are_counted(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (logs / "noise.log").write_text("noise\n" * 50)
    report, err = replayed(capsys, "noise.log")
    assert report["sent"] == 0
    assert report["settings"]["malformed"] == 50
    assert "and 30 more malformed lines" in err
    assert "a line looks like this" in err


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["none.log"], "cannot read 'none.log': No such file or directory"),
        (["."], "cannot read '.': Is a directory"),
        (["good.log", "good.log"], "file names must differ, got 'good.log' twice"),
    ],
)
def test_unreadable_logs(files: list[str], said: str, logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--json", *files]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_a_handler_of_this_folder(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (logs / "bot_good.py").write_text(
        "said = []\nasync def reply(turn):\n    said.append(turn.text)\n    return 'yes'\n"
    )
    report, _ = replayed(capsys, "good.log", "--handler", "bot_good:reply")
    assert report["ok"]
    assert sys.modules["bot_good"].said == ["bot: hello", "oh shit", "waves", "what is this?", "small talk"]


def test_a_failing_handler_shows_in_the_report(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (logs / "bot_bad.py").write_text(
        "import ccm\nasync def reply(turn):\n    if '?' in turn.text: raise ccm.Permanent('no idea')\n"
    )
    report, _ = replayed(capsys, "good.log", "--handler", "bot_bad:reply")
    assert report["ok"]  # every law held: failing is an outcome
    assert report["unanswered"] == report["outcomes"]["failed"] == 1
    assert report["failures"] == [{"error": "Permanent('no idea')", "count": 1}]
    assert main(["replay", "--speed", "max", "good.log", "--handler", "bot_bad:reply"]) == 0
    out = capsys.readouterr().out
    assert "5 received = 4 replied + 1 failed" in out
    assert "1 failed for good with Permanent('no idea')" in out


@pytest.mark.parametrize(
    ("source", "spec", "said"),
    [
        ("", "bot_x", "--handler must be MODULE:FUNCTION, got 'bot_x'"),
        ("", "bot_none:reply", "no module named 'bot_none'"),
        ("", "bot_x:reply", "'bot_x' has no 'reply'"),
        ("def reply(turn): ...", "bot_x:reply", "must be an async function taking a turn"),
        ("import bot_missing", "bot_x:reply", "importing 'bot_x' failed: No module named 'bot_missing'"),
        ("1 / 0", "bot_x:reply", "importing 'bot_x' failed: ZeroDivisionError"),
        ("def", "bot_x:reply", "importing 'bot_x' failed: SyntaxError"),
        ("async def reply(turn): raise SystemExit(0)", "bot_x:reply", "the handler raised SystemExit(0)"),
    ],
)
def test_bad_handlers(
    source: str, spec: str, said: str, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (logs / "bot_x.py").write_text(source)
    assert main(["replay", "--json", "good.log", "--handler", spec]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err


def test_a_broken_law_is_exit_code_1(
    logs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The same replay, without the order that it is checked for.
    monkeypatch.setattr(_replay, "play", partial(_replay.play, ordered=False))
    report, _ = replayed(capsys, "good.log", code=1)
    assert report["missed"] == ["G2: order inside conversations"]


def test_the_tables(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--speed", "600", "good.log", "broken.log"]) == 0
    out, err = capsys.readouterr()
    assert "7 received = 7 replied" in out
    assert "3 malformed lines left out" in out
    assert "OK: every law and target held" in out
    assert "target" not in out.splitlines()[2]
    assert "broken.log:2" in err
