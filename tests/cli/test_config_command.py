"""`ccm config`: every value with its source; bad ones end with what is allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

import ccm
from ccm.cli import main


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [n for n in os.environ if n.startswith("CCM_")]:
        monkeypatch.delenv(name)


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, Any]]:
    assert main(["config", "--json", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return {setting["name"]: setting for setting in json.loads(out)["settings"]}


def test_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys)
    assert list(found) == [field.name for field in attrs.fields(ccm.Config)]
    assert {setting["source"] for setting in found.values()} == {"default"}
    assert all(setting["meaning"] for setting in found.values())
    assert found["limit"]["value"] == 50
    assert found["rate_limit"]["value"] == {"count": 5, "per": 10}
    assert found["overflow"]["value"] == "reject_new"
    assert found["headroom"]["value"] == {"CRITICAL": 4, "HIGH": 6}


def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bot.toml"
    file.write_text("limit = 25\nageing = inf\nqueue_limit = 7\n[max_wait]\nLOW = 60\n")
    monkeypatch.setenv("CCM_QUEUE_LIMIT", "9")
    monkeypatch.setenv("SESSION_TIMEOUT_MINUTES", "2")
    found = as_json(capsys, "--file", str(file))
    origins = {n: (s["value"], s["source"], s["origin"]) for n, s in found.items() if s["origin"]}
    assert origins == {
        "limit": (25, "file", str(file)),
        "ageing": ("inf", "file", str(file)),
        "queue_limit": (9, "variable", "CCM_QUEUE_LIMIT"),
        "max_wait": ({"LOW": 60}, "file", str(file)),
        "session_timeout": (120, "variable", "SESSION_TIMEOUT_MINUTES"),
    }
    assert found["headroom"]["value"] == {"CRITICAL": 2, "HIGH": 3}


def test_the_table_names_value_source_and_meaning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CCM_LIMIT", "12")
    monkeypatch.setenv("CCM_RATE_LIMIT", "none")
    assert main(["config"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["limit"].split()[:4] == ["limit", "12", "variable", "CCM_LIMIT"]
    assert lines["rate_limit"].split()[:2] == ["rate_limit", "none"]
    assert lines["drain"].split()[:3] == ["drain", "5.0", "default"]
    assert set(ccm.Config.describe()) <= set(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limit = 0", "limit must be a whole number from 1 to 100000, got 0"),
        ("limmit = 5", "unknown setting 'limmit'"),
        ("limit = ", "is not valid TOML"),
    ],
)
def test_bad_files(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bot.toml"
    file.write_text(text)
    assert main(["config", "--file", str(file), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert str(file) in err


def test_a_missing_file_and_a_bad_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "--file", str(tmp_path / "none.toml")]) == 2
    assert "cannot read the configuration file" in capsys.readouterr().err
    monkeypatch.setenv("CCM_LIMIT", "many")
    assert main(["config"]) == 2
    assert "CCM_LIMIT" in capsys.readouterr().err
