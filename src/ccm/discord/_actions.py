"""What the protocol asks its owner to do: small frozen values."""

from __future__ import annotations

from typing import Any, final

import attrs

from ._models import Event, Gap, Ready, Resumed

__all__ = ["Action", "Close", "Deliver", "Dial", "Fatal", "Identify", "SavedSession", "Send"]


@final
@attrs.frozen
class Send:
    """Send this payload."""

    op: int
    data: Any


@final
@attrs.frozen
class Identify:
    """Ask whether a session may be begun; then call `identify`."""


@final
@attrs.frozen(eq=False)
class Deliver:
    """Hand this out."""

    event: Event | Ready | Resumed | Gap


@final
@attrs.frozen
class Close:
    """End the connection, with this code; then call `closed`."""

    code: int
    why: str


@final
@attrs.frozen
class Dial:
    """Connect at time `at` to `url`. `resume`: no new session will be begun, so no permission is needed."""

    at: float
    url: str
    resume: bool


@final
@attrs.frozen
class Fatal:
    """Give up: connecting again is of no use."""

    code: int


@final
@attrs.frozen
class SavedSession:
    """What it takes to go on with a session after a restart; whoever has it can read the bot's events."""

    session_id: str = attrs.field(repr=False)
    seq: int
    resume_url: str


Action = Send | Identify | Deliver | Close
