"""What a manager tells whoever listens to `ConversationManager.events()`.

async with manager.events() as stream:
    async for event in stream:
        match event:
            case ccm.events.Ended(outcome=outcome): ...
"""

from __future__ import annotations

from ._events import (
    Accepted,
    AlertCleared,
    AlertRaised,
    DrainStarted,
    Ended,
    Event,
    Lagged,
    LimitChanged,
    ProviderPaused,
    Refused,
    Retracted,
    Retrying,
    SessionEnded,
    SessionStarted,
    SheddingChanged,
    Started,
    StorageFailed,
    StorageRecovered,
    Stuck,
)

__all__ = [
    "Accepted",
    "AlertCleared",
    "AlertRaised",
    "DrainStarted",
    "Ended",
    "Event",
    "Lagged",
    "LimitChanged",
    "ProviderPaused",
    "Refused",
    "Retracted",
    "Retrying",
    "SessionEnded",
    "SessionStarted",
    "SheddingChanged",
    "Started",
    "StorageFailed",
    "StorageRecovered",
    "Stuck",
]

for _name in __all__:
    if _name not in ("Event", "Lagged"):  # those are at home in `ccm`
        globals()[_name].__module__ = __name__  # shown where it is public
del _name
