"""API keys: only fingerprints are kept, a wrong key is nobody, a broken file is refused with a reason."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

import pytest

from ccm import ConfigError
from ccm.http import Caller, Key, Keys


def test_a_key_is_known_by_what_is_kept_of_it(tmp_path: Path) -> None:
    secret, key = Keys.make("dashboard", ["read", "chat"], "acme")
    other, admin = Keys.make("boss", ["admin"])
    path = tmp_path / "keys.toml"
    Keys([key]).with_key(admin).save(path)
    text = path.read_text()
    assert secret not in text
    assert secret[13:] not in text
    assert path.stat().st_mode & 0o777 == 0o600
    keys = Keys.load(path)
    assert list(keys) == [key, admin]
    assert keys.caller(secret) == Caller("dashboard", "acme", frozenset({"read", "chat"}))
    assert keys.caller(other) == Caller("boss", None, frozenset({"admin"}))
    assert secret not in repr(keys) + repr(list(keys))


def test_admin_may_everything_and_others_what_they_were_given() -> None:
    _, key = Keys.make("a", "chat")
    _, admin = Keys.make("b", ["admin"])
    assert [key.caller.may(scope) for scope in ("chat", "read", "admin")] == [True, False, False]
    assert all(admin.caller.may(scope) for scope in ("chat", "read", "admin"))


def wrong(secret: str) -> list[str]:
    last = "A" if secret[-1] != "A" else "E"
    return [
        "", secret[:-1], secret + "A", secret[:-1] + last, secret.lower(), f" {secret}", f"{secret}\n",
        "ccm_" + "A" * 8 + "_" + "A" * 43, secret.replace("ccm_", "CCM_"), secret[:12], "\0", "é" * 56,
    ]  # fmt: skip


def test_a_wrong_key_is_nobody() -> None:
    secret, key = Keys.make("a")
    keys = Keys([key])
    assert keys.caller(secret) is not None
    for other in wrong(secret):
        assert keys.caller(other) is None, other
    _, same = Keys.make("a")
    assert Keys([same]).caller(secret) is None
    assert Keys().caller(secret) is None


def test_every_key_is_compared_once_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right, wrong, unknown and misshapen: one digest is made and one comparison of equal lengths."""
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def counting(a: Any, b: Any) -> bool:
        compared.append((len(a), len(b)))
        return bool(real(a, b))

    monkeypatch.setattr("ccm.http._keys.hmac.compare_digest", counting)
    secret, key = Keys.make("a")
    keys = Keys([key])
    tried = [secret, *wrong(secret)]
    for one in tried:
        keys.caller(one)
    assert compared == [(64, 64)] * len(tried)


def test_keys_differ() -> None:
    made = [Keys.make("a")[0] for _ in range(200)]
    assert len(set(made)) == len({secret[4:12] for secret in made}) == 200
    assert {len(secret) for secret in made} == {56}


def test_a_key_is_taken_away_by_name_or_id() -> None:
    (first, a), (_, b) = Keys.make("a"), Keys.make("b")
    keys = Keys([a, b])
    assert list(keys.without("a")) == [b]
    assert list(keys.without(b.id)) == [a]
    assert keys.without("a").caller(first) is None
    with pytest.raises(KeyError):
        keys.without("c")


GOOD = 'id = "abcdefgh"\nname = "n"\nscopes = ["chat"]\nsha256 = "' + "1" * 64 + '"\n'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("nonsense", "keys file"),
        ("[server]\n", "unknown entries"),
        ("[[key]]\n" + GOOD.replace("abcdefgh", "short"), "8 letters"),
        ("[[key]]\n" + GOOD.replace('["chat"]', '["root"]'), "one or more of"),
        ("[[key]]\n" + GOOD.replace('["chat"]', "[]"), "one or more of"),
        ("[[key]]\n" + GOOD.replace("1" * 64, "1" * 63), "SHA-256"),
        ("[[key]]\n" + GOOD.replace("1" * 64, "0" * 64), "SHA-256"),
        ("[[key]]\n" + GOOD + 'color = "red"\n', "color"),
        ("[[key]]\n" + GOOD + "[[key]]\n" + GOOD, "all different"),
        ("[[key]]\nid = 1\n", "keys file"),
        ("key = 3\n", "keys file"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=word):
        Keys.load(path)


def test_a_file_that_others_could_change_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    Keys().save(path)
    assert len(Keys.load(path)) == 0
    path.chmod(0o660)
    with pytest.raises(ConfigError, match="chmod 600"):
        Keys.load(path)


@pytest.mark.parametrize("name", ["", 'a"b', "a\nb", "a\\b", "x" * 101, 3])
def test_a_name_that_would_break_the_file_or_a_log_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match="name must be"):
        Keys.make(name)
    with pytest.raises(ConfigError, match="tenant must be"):
        Keys.make("a", tenant=name)


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.toml"
    _, key = Keys.make("a")
    Keys([key]).save(path)
    with monkeypatch.context() as patch:
        patch.setattr("ccm.http._keys.os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            Keys().save(path)
    assert list(Keys.load(path)) == [key]
    assert [file.name for file in tmp_path.iterdir()] == ["keys.toml"]


def test_what_is_kept_is_checked() -> None:
    with pytest.raises(ConfigError, match="id must be"):
        Key(id="a b", name="x", scopes=frozenset({"chat"}), sha256="1" * 64)
