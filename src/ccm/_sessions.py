"""`Session`: a read-only view of the live side of a conversation."""

from __future__ import annotations

from typing import final

from ._core import sessions as core


@final
class Session:
    """What is known of a conversation while it is live; a view that follows it, not a copy.

    Sessions are kept in memory, at most `Config.max_sessions`, and end after `Config.session_timeout` idle
    seconds. Times are on Trio's clock.
    """

    __slots__ = ("_entry",)

    def __init__(self, entry: core.Session) -> None:
        self._entry = entry

    @property
    def conversation(self) -> str:
        """The key of the conversation."""
        return self._entry.conversation

    @property
    def tenant(self) -> str:
        """The tenant of its first message."""
        return self._entry.tenant

    @property
    def channel(self) -> str:
        """The channel of its first message."""
        return self._entry.channel

    @property
    def users(self) -> tuple[str, ...]:
        """The first 64 distinct users, in order of appearance."""
        return self._entry.users

    @property
    def created(self) -> float:
        """When it began."""
        return self._entry.created

    @property
    def last_active(self) -> float:
        """When a message last came in or a turn last ended."""
        return self._entry.last_active

    @property
    def messages(self) -> int:
        """Messages accepted."""
        return self._entry.messages

    @property
    def replies(self) -> int:
        """Turns that were answered."""
        return self._entry.replies

    @property
    def failures(self) -> int:
        """Turns that failed for good."""
        return self._entry.failures

    @property
    def active(self) -> int:
        """Turns that wait or run now."""
        return self._entry.active

    def __repr__(self) -> str:
        return f"<Session {self.conversation!r}: {self.messages} messages, {self.active} active>"
