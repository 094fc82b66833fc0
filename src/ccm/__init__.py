"""ccm: decides which chat message is answered next, and gives every message one outcome.

It sits between chat front ends and the slow, expensive code that answers: strict order inside a
conversation, priority between messages, fairness between tenants, bounded everything.
"""

from __future__ import annotations

import typing as _typing
from importlib import import_module as _import_module
from types import FunctionType as _FunctionType

from ._books import DeadLetter
from ._bus import EventStream
from ._changes import Change, Stopped
from ._config import Config
from ._core.adaptive import LimitController
from ._core.alerts import Alert, AlertRules, AlertStatistics, Threshold
from ._core.classify import by_content, matches
from ._core.histogram import LatencySummary
from ._core.history import HistoryEntry
from ._core.permits import ProviderStatistics
from ._core.routes import Route, Router
from ._core.service import ServiceStatistics
from ._core.trends import Trends
from ._errors import (
    Busy,
    BusyConversation,
    CcmError,
    ConfigError,
    ConversationFull,
    Draining,
    Duplicate,
    Expired,
    HandlerFailed,
    NoRoute,
    Outcome,
    Overloaded,
    Permanent,
    RateLimited,
    Reason,
    Rejected,
    ServiceCycle,
    Shed,
    StorageError,
    Superseded,
    TooManySessions,
    TurnCancelled,
)
from ._events import Event, Lagged
from ._gather import Gathered
from ._manager import ConversationManager
from ._message import Message, OnBusy, Priority, Reply
from ._opening import open_manager
from ._outcome import Cancelled, Failed, Merged, Replied
from ._policies import (
    AdaptiveLimit,
    Overflow,
    ProviderLimit,
    RateLimit,
    RetryPolicy,
    Shedding,
    TenantPolicy,
)
from ._receipt import Receipt
from ._services import Service, ServiceItem
from ._sessions import Session
from ._statistics import Statistics
from ._streaming import ReplyStream, Restarted
from ._turn import Turn

if _typing.TYPE_CHECKING:
    from ._batching import Batcher

CRITICAL = Priority.CRITICAL
HIGH = Priority.HIGH
NORMAL = Priority.NORMAL
LOW = Priority.LOW

__all__ = [
    "CRITICAL",
    "HIGH",
    "LOW",
    "NORMAL",
    "AdaptiveLimit",
    "Alert",
    "AlertRules",
    "AlertStatistics",
    "Batcher",
    "Busy",
    "BusyConversation",
    "Cancelled",
    "CcmError",
    "Change",
    "Config",
    "ConfigError",
    "ConversationFull",
    "ConversationManager",
    "DeadLetter",
    "Draining",
    "Duplicate",
    "Event",
    "EventStream",
    "Expired",
    "Failed",
    "Gathered",
    "HandlerFailed",
    "HistoryEntry",
    "Lagged",
    "LatencySummary",
    "LimitController",
    "Merged",
    "Message",
    "NoRoute",
    "OnBusy",
    "Outcome",
    "Overflow",
    "Overloaded",
    "Permanent",
    "Priority",
    "ProviderLimit",
    "ProviderStatistics",
    "RateLimit",
    "RateLimited",
    "Reason",
    "Receipt",
    "Rejected",
    "Replied",
    "Reply",
    "ReplyStream",
    "Restarted",
    "RetryPolicy",
    "Route",
    "Router",
    "Service",
    "ServiceCycle",
    "ServiceItem",
    "ServiceStatistics",
    "Session",
    "Shed",
    "Shedding",
    "Statistics",
    "Stopped",
    "StorageError",
    "Superseded",
    "TenantPolicy",
    "Threshold",
    "TooManySessions",
    "Trends",
    "Turn",
    "TurnCancelled",
    "by_content",
    "matches",
    "open_manager",
]

_public = globals().copy()
for _name in __all__:
    _object = _public.get(_name)
    # Whoever meets one of them in a traceback or in the documentation finds it where it is public.
    if getattr(_object, "__module__", "").startswith("ccm.") and isinstance(_object, (type, _FunctionType)):
        _object.__module__ = __name__
del _public, _name, _object


def __getattr__(name: str) -> _typing.Any:
    """`storage` and `Batcher` are imported when they are asked for: who needs neither need not wait."""
    if name == "storage":
        return _import_module("ccm.storage")
    if name == "Batcher":
        from ._batching import Batcher

        Batcher.__module__ = __name__
        return Batcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
