"""Figures and settings of ccm as JSON; `_schemas` describes what comes out."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Any

import attrs


def plain(value: Any) -> Any:
    """Any figure or setting of ccm as JSON: names for classes, null for infinity. O(size)."""
    if isinstance(value, enum.IntEnum):
        return value.name
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (str, int)) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(one) for key, one in value.items()}
    if attrs.has(type(value)):
        return {
            field.name: plain(getattr(value, field.name))
            for field in attrs.fields(type(value))
            if not field.name.startswith("_")
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    return getattr(value, "__name__", type(value).__name__)
