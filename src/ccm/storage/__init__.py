"""What keeps messages: the contract, a SQLite file, memory; and the values that go in and come out."""

from typing import TYPE_CHECKING, Any

from ._abc import Storage as Storage
from ._memory import MemoryStorage as MemoryStorage
from ._records import (
    Accept as Accept,
)
from ._records import (
    Accepted as Accepted,
)
from ._records import (
    Analytics as Analytics,
)
from ._records import (
    Annotate as Annotate,
)
from ._records import (
    Archive as Archive,
)
from ._records import (
    Attempted as Attempted,
)
from ._records import (
    Conversation as Conversation,
)
from ._records import (
    Delivered as Delivered,
)
from ._records import (
    Delivery as Delivery,
)
from ._records import (
    Discard as Discard,
)
from ._records import (
    Entry as Entry,
)
from ._records import (
    Forget as Forget,
)
from ._records import (
    Health as Health,
)
from ._records import (
    Hit as Hit,
)
from ._records import (
    Letter as Letter,
)
from ._records import (
    Operation as Operation,
)
from ._records import (
    Page as Page,
)
from ._records import (
    Repeated as Repeated,
)
from ._records import (
    Retract as Retract,
)
from ._records import (
    Rewrite as Rewrite,
)
from ._records import (
    Said as Said,
)
from ._records import (
    Settle as Settle,
)
from ._records import (
    Stored as Stored,
)

if TYPE_CHECKING:
    from ._sqlite import SqliteStorage as SqliteStorage


def __getattr__(name: str) -> Any:
    """SQLite is loaded when it is first asked for."""
    if name == "SqliteStorage":
        from ._sqlite import SqliteStorage

        return SqliteStorage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
