"""The command as a whole: version, wrong usage, missing packages, and the process that people start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import ccm
from ccm.cli import main
from ccm.cli._console import run_trio


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, without this one's settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("CCM_")}
    return subprocess.run(
        [sys.executable, "-m", "ccm", *arguments],
        capture_output=True, text=True, encoding="utf-8", timeout=120, cwd=cwd, env=env, check=False,
    )  # fmt: skip


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ccm 0.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required: COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["demo", "--users", "0"], "must be a whole number from 1 to 1000, got '0'"),
        (["demo", "--users", "ten"], "must be a whole number from 1 to 1000, got 'ten'"),
        (["demo", "--speed", "0"], "must be a number above 0, got '0'"),
        (["demo", "--speed", "nan"], "must be a number above 0, got 'nan'"),
        (["replay"], "required: LOG"),
        (["replay", "x.log", "--speed", "fast"], "or 'max' for as fast as possible, got 'fast'"),
        (["replay", "x.log", "--speed", "-1"], "or 'max' for as fast as possible, got '-1'"),
        (["replay", "x.log", "--by", "channel"], "invalid choice: 'channel'"),
    ],
)
def test_wrong_usage_says_what_is_right(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_without_rich_the_tables_name_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "rich" or n == "ccm.cli._tables"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("ccm.cli._tables", raising=False)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["config"]) == 2
    assert "pip install 'ccm[cli]'" in capsys.readouterr().err
    assert main(["config", "--json"]) == 0


def test_the_command_loads_no_optional_package() -> None:
    code = "import sys, ccm.cli; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def interrupted(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise BaseExceptionGroup("", [BaseExceptionGroup("", [KeyboardInterrupt()])])

    monkeypatch.setattr("ccm.cli._demo.play", interrupted)
    assert main(["demo", "--json"]) == 130
    assert capsys.readouterr() == ("", "ccm: interrupted\n")


def test_several_errors_stay_a_group() -> None:
    async def failing() -> None:
        await trio.lowlevel.checkpoint()
        raise ExceptionGroup("both", [ValueError("a"), KeyError("b")])

    with pytest.RaisesGroup(ValueError, KeyError):
        run_trio(failing)


def test_a_reader_who_leaves_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ccm", "config", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stderr:
        assert b"Traceback" not in stderr.read()
    process.wait(60)


def test_the_demo_in_real_time() -> None:
    found = run("demo", "--messages", "60", "--json")
    assert found.stderr == ""
    report = json.loads(found.stdout)
    # On a machine that is busy with other things a target may be missed; a law never.
    assert found.returncode == (0 if report["ok"] else 1)
    assert all(check["ok"] for check in report["checks"]), report["checks"]
    assert report["sent"] == report["outcomes"]["replied"] == 60
    assert report["conservation"] == "60 received = 60 replied"
    assert {row["class"]: row["target"] for row in report["classes"]} == {
        "CRITICAL": 0.1, "HIGH": 0.5, "NORMAL": 1.0, "LOW": None,
    }  # fmt: skip
    assert all(row["response"]["count"] for row in report["classes"])


def test_the_demo_without_a_terminal_prints_only_the_report() -> None:
    found = run("demo", "--messages", "20", "--users", "5")
    assert found.returncode in (0, 1)
    assert "\x1b" not in found.stdout
    for text in ("per class", "CRITICAL", "20 received = 20 replied", "laws and checks", "verdict"):
        assert text in found.stdout
    assert "latest answers" not in found.stdout


def test_priorities_have_names() -> None:
    assert [priority.name for priority in ccm.Priority] == ["CRITICAL", "HIGH", "NORMAL", "LOW"]
