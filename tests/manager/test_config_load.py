"""`Config.load`: a TOML file, `CCM_*` variables, older names; and errors that name their source."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ccm import CRITICAL, HIGH, LOW, Config, ConfigError, Overflow, RateLimit, RetryPolicy
from ccm._config_load import load


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "ccm.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_nothing_to_load_gives_the_defaults() -> None:
    assert Config.load(env={}) == Config()


def test_the_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("CCM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CCM_LIMIT", "7")
    assert Config.load().limit == 7


FILE = """
limit = 20
session_timeout = 60.5
overflow = "wait"
enabled = false
weights = { gold = 3, silver = 1.5 }
rate_limit = { count = 3, per = 60 }

[headroom]
CRITICAL = 2
high = 3

[max_wait]
LOW = 5

[retry]
attempts = 5
"""


def test_a_file_sets_every_kind_of_field(tmp_path: Path) -> None:
    assert Config.load(written(tmp_path, FILE), env={}) == Config(
        limit=20,
        session_timeout=60.5,
        overflow=Overflow.WAIT,
        enabled=False,
        weights={"gold": 3, "silver": 1.5},
        rate_limit=RateLimit(3, per=60),
        headroom={CRITICAL: 2, HIGH: 3},
        max_wait={LOW: 5},
        retry=RetryPolicy(attempts=5),
    )


def test_a_file_shared_with_others_keeps_it_under_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, "[ccm]\nlimit = 20\n[other]\nlimit = 99\n")
    assert Config.load(str(path), env={}).limit == 20


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert Config.load(written(tmp_path, ""), env={}) == Config()


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("CCM_LIMIT", "20", "limit", 20),
        ("CCM_SESSION_TIMEOUT", "60.5", "session_timeout", 60.5),
        ("CCM_OVERFLOW", "wait", "overflow", Overflow.WAIT),
        ("CCM_OVERFLOW", '"wait"', "overflow", Overflow.WAIT),
        ("CCM_ENABLED", "false", "enabled", False),
        ("CCM_ENABLED", "No", "enabled", False),
        ("CCM_DEBUG", "on", "debug", True),
        ("CCM_DEBUG", "1", "debug", True),
        ("CCM_DEBUG", "0", "debug", False),
        ("CCM_RATE_LIMIT", "off", "rate_limit", None),
        ("CCM_RATE_LIMIT", "none", "rate_limit", None),
        ("CCM_RATE_LIMIT", "{count = 3, per = 60}", "rate_limit", RateLimit(3, per=60)),
        ("CCM_RATE_LIMIT", "[3, 60]", "rate_limit", RateLimit(3, per=60)),
        ("CCM_HEADROOM", "{CRITICAL = 2}", "headroom", {CRITICAL: 2}),
        ("CCM_HEADROOM", "none", "headroom", None),
        ("CCM_MAX_WAIT", "{low = 2.5}", "max_wait", {LOW: 2.5}),
        ("CCM_RETRY", "{attempts = 5}", "retry", RetryPolicy(attempts=5)),
        ("CCM_WEIGHTS", '{"guild 1" = 3}', "weights", {"guild 1": 3}),
        ("CCM_CHARGE", "seconds", "charge", "seconds"),
        ("CCM_TIMEOUT", "inf", "timeout", float("inf")),
        ("MAX_CONCURRENT_SESSIONS", "500", "max_sessions", 500),
        ("MAX_WORKER_THREADS", "8", "worker_threads", 8),
        ("MAX_WORKER_PROCESSES", "4", "worker_processes", 4),
        ("SESSION_TIMEOUT_MINUTES", "15", "session_timeout", 900),
        ("SESSION_TIMEOUT_MINUTES", "0.5", "session_timeout", 30),
        ("ENABLE_CONCURRENT_CONVERSATION_MANAGER", "false", "enabled", False),
        ("ENABLE_CONCURRENT_CONVERSATION_MANAGER", "False", "enabled", False),
        ("ENABLE_CONCURRENT_CONVERSATION_MANAGER", "0", "enabled", False),
        ("ENABLE_CONCURRENT_CONVERSATION_MANAGER", "TRUE", "enabled", True),
        ("ENABLE_CONCURRENT_CONVERSATION_MANAGER", "1", "enabled", True),
    ],
)
def test_variables(variable: str, text: str, field: str, value: Any) -> None:
    config, sources = load(Config, None, {variable: text, "PATH": "/bin", "OTHER": "x"})
    assert config == Config(**{field: value})
    assert {name: source for name, source in sources.items() if source != "default"} == {field: variable}


def test_later_sources_win_and_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, "limit = 1\nmax_sessions = 1\nsession_timeout = 1\n")
    env = {
        "CCM_MAX_SESSIONS": "2",
        "CCM_SESSION_TIMEOUT": "2",
        "SESSION_TIMEOUT_MINUTES": "3",
    }
    config, sources = load(Config, path, env)
    assert (config.limit, config.max_sessions, config.session_timeout) == (1, 2, 180)
    assert sources["limit"] == str(path)
    assert sources["max_sessions"] == "CCM_MAX_SESSIONS"
    assert sources["session_timeout"] == "SESSION_TIMEOUT_MINUTES"
    assert sources["debug"] == "default"
    assert set(sources) == set(Config.describe())


@pytest.mark.parametrize(
    ("variable", "text", "parts"),
    [
        ("CCM_LIMITS", "5", ["unknown setting 'limits'", "CCM_LIMITS", "queue_limit"]),
        ("CCM_", "5", ["unknown setting ''", "CCM_"]),
        ("CCM_LIMIT", "0", ["limit must be", "got 0", "from CCM_LIMIT", "1 to 100000"]),
        ("CCM_LIMIT", "many", ["limit must be", "got 'many'", "from CCM_LIMIT"]),
        ("CCM_LIMIT", "", ["limit must be", "got ''", "from CCM_LIMIT"]),
        ("CCM_ENABLED", "perhaps", ["CCM_ENABLED must be true or false", "got 'perhaps'"]),
        ("CCM_OVERFLOW", "drop", ["overflow must be", "got 'drop'", "shed_lowest", "from CCM_OVERFLOW"]),
        ("CCM_TIMEOUT", "nan", ["timeout must be", "got nan", "from CCM_TIMEOUT"]),
        ("CCM_RATE_LIMIT", "{count = 3}", ["rate_limit must be", "from CCM_RATE_LIMIT"]),
        ("CCM_RATE_LIMIT", "{count = 0, per = 1}", ["count must be", "got 0", "from CCM_RATE_LIMIT"]),
        ("CCM_HEADROOM", "{URGENT = 3}", ["headroom must be", "CRITICAL", "from CCM_HEADROOM"]),
        ("MAX_CONCURRENT_SESSIONS", "many", ["MAX_CONCURRENT_SESSIONS must be", "number", "got 'many'"]),
        ("MAX_CONCURRENT_SESSIONS", "0", ["max_sessions must be", "got 0", "from MAX_CONCURRENT_SESSIONS"]),
        (
            "SESSION_TIMEOUT_MINUTES",
            "-1",
            ["session_timeout must be", "got -60", "from SESSION_TIMEOUT_MINUTES"],
        ),
        ("SESSION_TIMEOUT_MINUTES", "nan", ["session_timeout must be", "from SESSION_TIMEOUT_MINUTES"]),
        ("ENABLE_CONCURRENT_CONVERSATION_MANAGER", "maybe", ["true or false", "got 'maybe'", "ENABLE_CONC"]),
        ("ENABLE_CONCURRENT_CONVERSATION_MANAGER", "", ["true or false", "got ''", "ENABLE_CONC"]),
    ],
)
def test_bad_variables_are_named_with_value_and_range(variable: str, text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load(env={variable: text})
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("limits = 5", ["unknown setting 'limits'", "known are", "queue_limit"]),
        ("limit = 0", ["limit must be", "got 0"]),
        ("limit = 'many'", ["limit must be", "got 'many'"]),
        ("[retry]\nattempts = 0", ["attempts must be", "got 0"]),
        ("[retry]\ntimes = 3", ["retry must be", "times"]),
        ("[rate_limit]\ncount = 3", ["rate_limit must be", "{'count': 3}"]),
        ("[headroom]\nurgent = 3", ["headroom must be"]),
        ("limit = 5\nlimit = 6", ["not valid TOML", "overwrite"]),
        ("ccm = 5", ["ccm must be a table"]),
        (b"limit = 5 # \xff\xfe", ["not valid TOML"]),
        (b"\x00\x01\x02", ["not valid TOML"]),
    ],
    ids=repr,
)
def test_bad_files_are_named_with_value_and_place(
    tmp_path: Path, text: str | bytes, parts: list[str]
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        Config.load(path, env={})
    for part in [*parts, str(path)]:
        assert part in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*missing\.toml.*No such file"):
        Config.load(tmp_path / "missing.toml", env={})
    with pytest.raises(ConfigError, match="cannot read"):
        Config.load(tmp_path, env={})


def test_what_cannot_go_together_is_still_checked_together(tmp_path: Path) -> None:
    """Headroom above the limit is no error: every class keeps one slot."""
    config = Config.load(written(tmp_path, "limit = 2\nheadroom = {CRITICAL = 50}"), env={})
    assert config.headroom_of(LOW) == 1


def test_variables_of_the_tests_themselves_are_left_alone() -> None:
    assert Config.load(env={"CCM_TEST_SEED": "5"}) == Config()
