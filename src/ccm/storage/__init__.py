"""What keeps messages: the contract, a SQLite file, memory; and the values that go in and come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._abc import Storage
from ._analytics import Analytics
from ._records import (
    Accept,
    Accepted,
    Annotate,
    Archive,
    Attempted,
    Conversation,
    Delivered,
    Delivery,
    Discard,
    Ended,
    Entry,
    Forget,
    Health,
    Hit,
    Letter,
    Operation,
    Page,
    Repeated,
    Retract,
    Rewrite,
    Said,
    Settle,
    Stored,
)

if TYPE_CHECKING:
    from ._memory import MemoryStorage
    from ._sqlite import SqliteStorage

__all__ = [
    "Accept",
    "Accepted",
    "Analytics",
    "Annotate",
    "Archive",
    "Attempted",
    "Conversation",
    "Delivered",
    "Delivery",
    "Discard",
    "Ended",
    "Entry",
    "Forget",
    "Health",
    "Hit",
    "Letter",
    "MemoryStorage",
    "Operation",
    "Page",
    "Repeated",
    "Retract",
    "Rewrite",
    "Said",
    "Settle",
    "SqliteStorage",
    "Storage",
    "Stored",
]

for _name in __all__:
    if isinstance(_object := globals().get(_name), type):
        _object.__module__ = __name__  # shown where it is public
del _name, _object


def __getattr__(name: str) -> Any:
    """The storages themselves are loaded when they are first asked for."""
    if name == "SqliteStorage":
        from ._sqlite import SqliteStorage as found
    elif name == "MemoryStorage":
        from ._memory import MemoryStorage as found  # type: ignore[assignment]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found.__module__ = __name__
    return found
