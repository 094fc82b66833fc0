"""`ccm keys`: a key is shown once, works, and is worthless when it has been revoked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ccm.cli import main
from ccm.http import Keys


def test_made_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "keys.toml")
    assert main(["keys", "new", file, "--name", "ada", "--scope", "read", "--scope", "chat"]) == 0
    secret, told = capsys.readouterr()
    assert "'ada' with chat, read" in told
    secret = secret.strip()
    caller = Keys.load(file).caller(secret)
    assert caller is not None
    assert (caller.name, caller.scopes) == ("ada", frozenset({"chat", "read"}))
    assert secret not in Path(file).read_text()
    assert Path(file).stat().st_mode & 0o777 == 0o600

    assert main(["keys", "new", file, "--name", "ben", "--tenant", "makers", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["scopes"], made["tenant"]) == (["chat"], "makers")

    assert main(["keys", "list", file]) == 0
    listed = capsys.readouterr().out
    assert "ada" in listed
    assert "makers" in listed
    assert secret not in listed

    assert main(["keys", "revoke", file, "ada", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"revoked": "ada", "left": 1}
    assert Keys.load(file).caller(secret) is None
    assert Keys.load(file).caller(made["key"]) is not None


def test_mistakes_are_named_and_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.toml"
    assert main(["keys", "new", str(file), "--name", "ada"]) == 0
    before = file.read_bytes()
    for arguments, said in (
        (["new", str(file), "--name", "ada"], "'ada'"),
        (["new", str(file), "--name", 'a"b'], "name must be"),
        (["revoke", str(file), "nobody", "--yes"], "there is no key 'nobody'"),
        (["revoke", str(file), "ada"], "add --yes"),
        (["list", str(tmp_path / "none")], "make it with 'ccm keys new"),
        (["new", str(tmp_path / "no" / "such.toml"), "--name", "x"], "cannot write"),
    ):
        capsys.readouterr()
        assert main(["keys", *arguments]) == 2, arguments
        assert said in capsys.readouterr().err
        assert file.read_bytes() == before
