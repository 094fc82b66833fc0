"""JSON schemas of ccm's own figures and settings, made from their types: what `plain` makes of them fits.

Their meanings are read from the docstrings of the classes, so that they are said in one place.
"""

from __future__ import annotations

import enum
import inspect
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from .. import _books, _config, _policies, _statistics
from .._core import alerts as alerts_
from .._core import service
from .._core import trends as trends_
from ..storage import Analytics
from . import _settings

Schema = dict[str, Any]
_SIMPLE: dict[Any, Schema] = {
    Any: {},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": ["number", "null"]},  # infinity is null
    str: {"type": "string"},
    type(None): {"type": "null"},
}
_MEANING = re.compile(r"^ {4}(?P<names>[a-z_0-9, ]+): (?P<words>.+(?:\n {8,}\S.*)*)", re.MULTILINE)
_STORAGE: dict[Any, str] = {
    str: "kind", bool: "durable behind", str | None: "failing", float: "lag",
    int: "pending commits written failures unsealed unjournaled recovered poisoned undelivered delivered"
         " delivery_retries delivery_failures",
}  # fmt: skip
_MODULES = (_books, _config, _policies, _statistics, _settings, service, trends_)
_NAMES = {name: value for module in _MODULES for name, value in vars(module).items()} | {"Callable": Callable}
"""Where the names in annotations are looked up: a class says it is of `ccm`, not where it was made."""
AT = "2026-01-31T12:00:00.250Z"
_TIME: Schema = {"type": "string", "format": "date-time"}


def schema(kind: Any) -> Schema:
    """The schema of `plain(value)` for values of a type."""
    if kind in _SIMPLE:
        return dict(_SIMPLE[kind])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        return {"anyOf": [schema(one) for one in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema(arguments[1])}
    if origin is tuple and arguments[-1:] != (...,):
        return {"type": "array", "items": {"anyOf": [schema(one) for one in arguments]}}
    if origin in (tuple, list, frozenset):
        return {"type": "array", "items": schema(arguments[0])}
    if isinstance(kind, type) and issubclass(kind, enum.IntEnum):
        return {"enum": [one.name for one in kind]}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [one.value for one in kind]}
    if isinstance(kind, type) and attrs.has(kind):
        return _object(kind)
    return {"type": "string"}  # the name of a function or a class


def _object(kind: type, *without: str, **more: Schema) -> Schema:
    """All public fields of a class, which are always there; `more` are besides, or in place of them."""
    hints = get_type_hints(kind, localns=_NAMES)
    names = [field.name for field in attrs.fields(kind) if not field.name.startswith("_")]
    fields = {name: schema(hints[name]) for name in names if name not in without} | more
    meanings = _meanings(kind)
    for name, found in fields.items():
        if name in meanings:
            found.setdefault("description", meanings[name])
    return {"type": "object", "properties": fields, "required": [*fields]}


def _meanings(kind: type) -> dict[str, str]:
    """What the docstring says of each field, or its metadata."""
    found = {f.name: f.metadata["doc"] for f in attrs.fields(kind) if "doc" in f.metadata}
    for match in _MEANING.finditer(inspect.getdoc(kind) or ""):
        words = " ".join(match["words"].split())
        found.update(dict.fromkeys(match["names"].split(", "), words))
    return found


def example(found: Schema) -> Any:
    """A value that fits, as of a manager that has just been opened."""
    if "anyOf" in found:
        return example(found["anyOf"][0])
    if "enum" in found:
        return found["enum"][0]
    kind = found.get("type")
    if kind == "object":
        return {name: example(one) for name, one in found.get("properties", {}).items()}
    if kind == "array":
        return []
    if kind == "string":
        return AT if found.get("format") == "date-time" else ""
    return {"integer": 0, "boolean": False, "null": None}.get(str(kind), 0.0)


def statistics() -> Schema:
    """Of `GET /api/v1/statistics`."""
    fields = {name: schema(kind) for kind, names in _STORAGE.items() for name in names.split()}
    storage = {"anyOf": [{"type": "object", "properties": fields, "required": [*fields]}, {"type": "null"}]}
    return _object(
        _statistics.Statistics,
        at=_TIME | {"description": "when it was taken"},
        uptime={"type": "number", "description": "seconds since the front end began"},
        success_rate={"type": "number", "description": "part of the ended messages that was answered"},
        bottlenecks=schema(tuple[str, ...]) | {"description": "services that hold others up"},
        unjournaled={"type": "integer", "description": "messages accepted although the storage failed"},
        storage=storage | {"description": "what keeps messages; null without a storage"},
    )  # fmt: skip


def trends() -> Schema:
    """Of `GET /api/v1/trends`."""
    at = {
        "type": "array",
        "items": {"type": "number"},
        "description": "when a row begins, since 1970 (UTC)",
    }
    columns = _object(trends_.Trends, "step", "epoch", at=at)
    fields = {"step": {"enum": [1, 60], "description": "seconds in a row"}, "columns": columns}
    return {"type": "object", "properties": fields, "required": [*fields]}


def alerts() -> Schema:
    """Of `GET /api/v1/alerts`."""
    return _items(_object(alerts_.Alert, since=_TIME | {"description": "when the alert was raised"}))


def services() -> Schema:
    """Of `GET /api/v1/services`."""
    return _items(_object(service.ServiceStatistics, name={"type": "string"}))


def analytics() -> Schema:
    """Of `GET /api/v1/analytics`."""
    return _object(Analytics)


def letters() -> Schema:
    """Of `GET /api/v1/dead-letters`."""
    said = {
        name: schema(str | None) | {"description": "of the message; null for an item of a service"}
        for name in ("conversation", "user", "text")
    }
    at = _TIME | {"description": "when it was given up"}
    without = ("message", "data", "source", "priority")
    return _items(_object(_books.DeadLetter, *without, at=at, **said))


def settings() -> Schema:
    """Of `GET /api/v1/settings`."""
    keys = {"type": "boolean", "description": "whether there are keys"}
    fields = {
        "config": _object(_config.Config), "http": _object(_settings.Settings, keys=keys),
        "routes": schema(tuple[str, ...]) | {"description": "the manager's, by name"},
        "version": {"type": "string", "description": "of ccm"},
    }  # fmt: skip
    return {"type": "object", "properties": fields, "required": [*fields]}


def _items(one: Schema) -> Schema:
    return {"type": "object", "properties": {"items": {"type": "array", "items": one}}, "required": ["items"]}
