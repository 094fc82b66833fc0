"""What the command line says, as changes to a scenario's plain data."""

from __future__ import annotations

import argparse
import copy
import itertools
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from .._console import UsageError
from ._read import load
from ._scenario import PER_HOUR

BRACKETS = {"[": 1, "{": 1, "]": -1, "}": -1}
PEOPLE = ("users", "rate")
MADE_UP = (*PEOPLE, "per_hour", "tenants", "conversations", "mix")
LOGS = ("scale", "by", "shift", "speed")


def value_of(text: str) -> Any:
    """`text` as a TOML value; words such as `none` and `off` as in variables; anything else is a string."""
    word = text.strip().lower()
    if word in ("none", "null"):
        return None
    if word in ("yes", "on", "true", "no", "off", "false"):
        return word in ("yes", "on", "true")
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def split(text: str) -> list[str]:
    """`text` at its commas, but not at those in brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += BRACKETS.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def pairs(option: str, text: str) -> dict[str, Any]:
    """`name=value,name=value` as a table.

    Raises:
        UsageError: a part is no pair.
    """
    found = {}
    for part in split(text):
        name, sign, value = part.partition("=")
        if not (sign and name.strip() and value.strip()):
            raise UsageError(f"{option} must be NAME=VALUE,NAME=VALUE,..., got {text!r}")
        found[name.strip()] = value_of(value)
    return found


def varied(options: list[str]) -> list[dict[str, str]]:
    """Every combination of `NAME=VALUE,VALUE,...`, the last option changing fastest; [{}] without any.

    Raises:
        UsageError: an option is not of that form, or a name comes twice.
    """
    axes: dict[str, list[str]] = {}
    for option in options:
        name, sign, values = option.partition("=")
        parts = [part.strip() for part in split(values)]
        if not (sign and name.strip() and all(parts)):
            raise UsageError(f"--vary must be SETTING=VALUE,VALUE,..., got {option!r}")
        if name.strip() in axes:
            raise UsageError(f"--vary has {name.strip()!r} twice; give all its values in one")
        axes[name.strip()] = parts
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def source(arguments: argparse.Namespace) -> dict[str, Any]:
    """The scenario's plain data, with what the options change.

    Raises:
        UsageError: the scenario cannot be read, or an option does not fit it.
    """
    data = load(arguments.scenario) if arguments.scenario else {}
    if arguments.replay:
        data.pop("traffic", None)
        data["replay"] = {"logs": list(arguments.replay)}
    _fit(arguments, LOGS if "replay" not in data else MADE_UP, "replay" in data)
    if "replay" in data:
        _into(data, "replay", scale=arguments.scale, by=arguments.by, shift=arguments.shift,
              speed=arguments.speed)  # fmt: skip
    else:
        _people(data, arguments)
    for key in ("seed", "duration", "step"):
        if getattr(arguments, key) is not None:
            data[key] = getattr(arguments, key)
    _into(data, "handler", latency=arguments.handler_latency)
    if arguments.failures:
        _into(data, "handler", **pairs("--failures", arguments.failures))
    if arguments.provider:
        _into(data, "provider", **pairs("--provider", arguments.provider))
    if arguments.limit is not None:
        change(data, "limit", str(arguments.limit))
    for option in arguments.set:
        name, sign, text = option.partition("=")
        if not (sign and name.strip()):
            raise UsageError(f"--set must be SETTING=VALUE, got {option!r}")
        change(data, name.strip(), text)
    return data


def _fit(arguments: argparse.Namespace, options: tuple[str, ...], replay: bool) -> None:
    """Refuse options that would have no effect."""
    for name in options:
        if getattr(arguments, name) is not None:
            rest = "is about made-up people, and this is a replay" if replay else "needs --replay"
            raise UsageError(f"--{name.replace('_', '-')} {rest}; leave it out")


def _into(data: dict[str, Any], table: str, **values: Any) -> None:
    given = {name: value for name, value in values.items() if value is not None}
    if given:
        data[table] = {**_table(data, table), **given}


def _table(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = data.get(name, {})
    if not isinstance(table, Mapping):
        raise UsageError(f"{name} must be a table, got {table!r}")
    return table


def _people(data: dict[str, Any], arguments: argparse.Namespace) -> None:
    if not data:
        data["traffic"] = [{"users": 10_000, "tenants": 10}]
    groups = _groups(data)
    for key in ("tenants", "conversations", "per_hour"):
        value = getattr(arguments, key)
        if value is not None:
            if len(groups) != 1:
                raise UsageError(
                    f"--{key.replace('_', '-')} needs a scenario with one [[traffic]], it has {len(groups)}; "
                    "change it in a copy of the scenario (--show prints it)"
                )
            groups[0][key] = value
            if key == "tenants":
                groups[0].pop("tenant", None)
            elif key == "per_hour":
                groups[0].pop("rate", None)
    if arguments.mix:
        mix = pairs("--mix", arguments.mix)
        for group in groups:
            group["mix"] = mix
    for key in PEOPLE:
        if getattr(arguments, key) is not None:
            change(data, key, str(getattr(arguments, key)))


def _groups(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    groups = data.get("traffic")
    if not isinstance(groups, list) or not groups or not all(isinstance(group, dict) for group in groups):
        raise UsageError("users and rate need a scenario with [[traffic]]; what is replayed has its own")
    return groups


def change(data: dict[str, Any], name: str, text: str) -> None:
    """Set a setting, or a part of one (`max_wait.LOW`); `users` and `rate` scale all groups to that sum;
    `scale` and `seed` are the scenario's own.

    Raises:
        UsageError: it cannot be set.
    """
    value = value_of(text)
    if name in PEOPLE:
        _scale(_groups(data), name, value)
        return
    if name == "seed":
        data[name] = value
        return
    if name == "scale" and "replay" in data:
        _into(data, "replay", scale=value)
        return
    table = data["config"] = dict(_table(data, "config"))
    *path, last = name.split(".")
    for part in path:
        inner = table.get(part, {})
        if not isinstance(inner, Mapping):
            raise UsageError(f"{name!r} cannot be set: {part} is {inner!r} and no table")
        table[part] = table = dict(inner)
    table[last] = value


def _scale(groups: list[dict[str, Any]], name: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise UsageError(f"{name} must be a number > 0, got {value!r}")
    now = [_now(group, name) for group in groups]
    for group, own in zip(groups, now, strict=True):
        part = value * own / sum(now)
        if name == "users":
            group["users"] = max(1, round(part))
        else:
            group["rate"] = part
            group.pop("per_hour", None)


def _now(group: Mapping[str, Any], name: str) -> float:
    """What a group has now; what is no number is refused when the scenario is read."""
    users = group.get("users", 1000)
    users = users if isinstance(users, int) and users > 0 else 1
    if name == "users":
        return float(users)
    per_hour = group.get("per_hour", PER_HOUR)
    rate = group.get("rate", users * per_hour / 3600 if isinstance(per_hour, (int, float)) else 1.0)
    return float(rate) if isinstance(rate, (int, float)) and rate > 0 else 1.0


def variants(data: dict[str, Any], options: list[str]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """What is varied, and the plain data of that variant."""
    for settings in varied(options):
        own = copy.deepcopy(data)
        for name, text in settings.items():
            change(own, name, text)
        yield settings, own
