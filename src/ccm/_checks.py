"""What a setting may be: validators and converters for attrs fields, and the one form of their errors."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ._errors import ConfigError
from ._message import Priority, check_priority

INF = math.inf


def refuse(field: str, value: object, allowed: str) -> ConfigError:
    """The error for a `value` that is not `allowed`."""
    return ConfigError(f"{field} must be {allowed}, got {value!r}")


def number(
    low: float, high: float = INF, *, above: bool = False, infinite: bool = False
) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Validator: a number from `low` (`above`: greater) to `high`; infinity only if `infinite`."""
    bound = f"a number {'>' if above else '>='} {low:g}"
    if high < INF:
        bound += f" and <= {high:g}"
    bound += "" if infinite else " and finite"

    def check(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
        ok = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (ok and low <= value <= high and not (above and value == low) and (infinite or value < INF)):
            raise refuse(field.name, value, bound)

    return check


def optional(check: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """Validator: None, or what `check` lets pass."""

    def check_or_none(instance: Any, field: Any, value: Any) -> None:
        if value is not None:
            check(instance, field, value)

    return check_or_none


def whole(low: int, high: int) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Validator: a whole number from `low` to `high`."""

    def check(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise refuse(field.name, value, f"a whole number from {low} to {high}")

    return check


def instance_of(kind: type, allowed: str) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Validator: a `kind`; `allowed` says so in words."""

    def check(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, kind):
            raise refuse(field.name, value, allowed)

    return check


def enum_of(kind: type[enum.StrEnum]) -> Callable[[Any], Any]:
    """Converter: the name of a member, in any case, becomes the member; the rest stays."""

    def convert(value: Any) -> Any:
        try:
            return kind(value.lower()) if isinstance(value, str) else value
        except ValueError:
            return value

    return convert


def one_of(kind: type[enum.StrEnum]) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Validator: a member of `kind`."""
    return instance_of(kind, "one of " + ", ".join(m.value for m in kind))


def by_class(field: str, value: Any) -> dict[Priority, Any]:
    """A mapping whose keys are classes, by name, number or member."""
    if not isinstance(value, Mapping):
        raise refuse(field, value, "a mapping from Priority to a number")
    try:
        return {check_priority(_priority_of(key)): item for key, item in value.items()}
    except (TypeError, ValueError):
        raise refuse(field, value, "a mapping whose keys are CRITICAL, HIGH, NORMAL or LOW") from None


def _priority_of(key: Any) -> Any:
    if isinstance(key, str) and key.upper() in Priority.__members__:
        return Priority[key.upper()]
    return key
