"""`ccm config`: the effective configuration, and where each value comes from."""

from __future__ import annotations

import argparse
import enum
import math
from collections.abc import Mapping
from typing import Any

import attrs

from ccm import Config, ConfigError, Priority
from ccm._config_load import load

from ._console import OK, UsageError, load_tables, print_json


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "config",
        help="the effective configuration and the source of each value",
        description="Shows every setting, its value, and whether it is the default or comes from a file or a "
        "variable. Variables named CCM_<SETTING> override the file.",
    )
    parser.add_argument("--file", metavar="TOML", help="configuration file to read")
    parser.add_argument("--json", action="store_true", help="print it as JSON, nothing else")
    parser.set_defaults(command=config)


@attrs.frozen
class Setting:
    """One setting: `source` is "default", "file" or "variable", `origin` names the latter two."""

    name: str
    value: Any
    source: str
    origin: str | None
    meaning: str


def settings(file: str | None, env: Mapping[str, str] | None = None) -> list[Setting]:
    """All settings as they are in effect; values are plain data.

    Raises:
        ConfigError: the file cannot be read, a name is unknown, or a value is out of range.
    """
    effective, sources = load(Config, file, env)
    meanings = Config.describe()
    found = []
    for name, origin in sources.items():
        value = _headroom(effective) if name == "headroom" else getattr(effective, name)
        if origin == "default":
            found.append(Setting(name, plain(value), "default", None, meanings[name]))
        else:
            kind = "file" if origin == file else "variable"
            found.append(Setting(name, plain(value), kind, origin, meanings[name]))
    return found


def _headroom(config: Config) -> dict[Priority, int]:
    """Slots kept for each class and those more urgent, as they are at the effective limit."""
    below = [config.headroom_of(priority) for priority in Priority] + [config.headroom_of(Priority.LOW)]
    kept = {priority: below[priority + 1] - below[priority] for priority in Priority}
    return {priority: slots for priority, slots in kept.items() if slots}


def plain(value: Any) -> Any:
    """`value` as data that JSON can hold."""
    if attrs.has(type(value)):
        return {name: plain(item) for name, item in attrs.asdict(value, recurse=False).items()}
    if isinstance(value, Mapping):
        return {key.name if isinstance(key, Priority) else str(key): plain(v) for key, v in value.items()}
    if isinstance(value, enum.StrEnum):
        return value.value
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    return value


def config(arguments: argparse.Namespace) -> int:
    """Run the command."""
    try:
        found = settings(arguments.file)
    except ConfigError as error:
        raise UsageError(str(error)) from None
    if arguments.json:
        print_json({"settings": [attrs.asdict(setting) for setting in found]})
    else:
        load_tables().print_settings(found)
    return OK
