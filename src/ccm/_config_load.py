"""Settings from files and the environment, and where each one came from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs

from ._checks import refuse
from ._config import Config
from ._errors import ConfigError

C = TypeVar("C", bound=Config)

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def _bool(text: str) -> bool:
    low = text.strip().lower()
    if low in _TRUE or low in _FALSE:
        return low in _TRUE
    raise ValueError("true or false")


def _minutes(text: str) -> float:
    return float(text) * 60


# Names that older bots already have in their environment.
LEGACY: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "MAX_CONCURRENT_SESSIONS": ("max_sessions", int),
    "MAX_WORKER_THREADS": ("worker_threads", int),
    "MAX_WORKER_PROCESSES": ("worker_processes", int),
    "SESSION_TIMEOUT_MINUTES": ("session_timeout", _minutes),
    "ENABLE_CONCURRENT_CONVERSATION_MANAGER": ("enabled", _bool),
}


def load(
    cls: type[C], path: str | os.PathLike[str] | None, env: Mapping[str, str] | None
) -> tuple[C, dict[str, str]]:
    """The settings, and the source of each: "default", the file, or the variable's name."""
    fields = {a.name: a for a in attrs.fields(cls)}
    return _combine(cls, [*_from_file(path), *_from_env(os.environ if env is None else env, fields)])


def from_table(cls: type[C], table: Mapping[str, Any], source: str) -> C:
    """The settings in a table that has been read from `source` already; the environment is not asked."""
    config, _ = _combine(cls, [(name, value, source) for name, value in table.items()])
    return config


def _combine(cls: type[C], found: Iterable[tuple[str, Any, str]]) -> tuple[C, dict[str, str]]:
    fields = [a.name for a in attrs.fields(cls)]
    values: dict[str, Any] = {}
    sources = dict.fromkeys(fields, "default")
    for name, value, source in found:
        if name not in fields:
            raise ConfigError(f"unknown setting {name!r} in {source}; known are: {', '.join(fields)}")
        try:
            cls(**{name: value})
        except ConfigError as error:
            raise ConfigError(f"{error} (from {source})") from None
        values[name] = value
        sources[name] = source
    return cls(**values), sources


def _from_file(path: str | os.PathLike[str] | None) -> list[tuple[str, Any, str]]:
    if path is None:
        return []
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration file {os.fspath(path)!r}: {error.strerror}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{os.fspath(path)!r} is not valid TOML: {error}") from error
    table = table.get("ccm", table)
    if not isinstance(table, dict):
        raise refuse("ccm", table, f"a table in {os.fspath(path)!r}")
    return [(name, value, os.fspath(path)) for name, value in table.items()]


def _from_env(env: Mapping[str, str], fields: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    found = []
    for variable in sorted(env):
        if variable in LEGACY:
            name, parse = LEGACY[variable]
            found.append((name, _parsed(variable, env[variable], parse), variable))
    for variable in sorted(env):
        if variable.startswith("CCM_") and not variable.startswith("CCM_TEST_"):
            name = variable[4:].lower()
            if name in fields:
                parse = _bool if isinstance(fields[name].default, bool) else _toml_value
                found.append((name, _parsed(variable, env[variable], parse), variable))
            else:
                raise ConfigError(f"unknown setting {name!r} in {variable}; known are: {', '.join(fields)}")
    return _last_wins_in_file_order(found)


def _last_wins_in_file_order(found: list[tuple[str, Any, str]]) -> list[tuple[str, Any, str]]:
    # "CCM_*, then the older names": what is read later wins.
    return [f for f in found if f[2].startswith("CCM_")] + [f for f in found if not f[2].startswith("CCM_")]


def _parsed(variable: str, text: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        allowed = str(error) if parse is _bool else "a number"
        raise ConfigError(f"{variable} must be {allowed}, got {text!r}") from None


def _toml_value(text: str) -> Any:
    """`text` as a TOML value (numbers, booleans, tables, arrays); what is none of these is a string."""
    low = text.strip().lower()
    if low in ("none", "null"):
        return None
    if low in ("yes", "on", "true"):
        return True
    if low in ("no", "off", "false"):
        return False
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
