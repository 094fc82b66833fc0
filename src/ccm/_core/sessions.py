"""The live side of conversations: counters per conversation, bounded, forgotten when idle."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from math import inf
from typing import Final, Protocol, final

import attrs

from .history import History

__all__ = ["Session", "SessionStatistics", "SessionTable"]

_USERS: Final = 64


class Context(Protocol):
    """What is kept elsewhere for a session."""

    def clear(self) -> None:
        """The session is forgotten, and so is this."""


@final
class Session:
    """What is known of one conversation while it is live.

    Times are seconds of the clock that the table is given. Everything is kept by the table, except
    `replies`, `failures` and `context`, which belong to whoever runs the turns. A `context` is cleared
    when the table forgets the session: nothing that was kept for it outlives it.
    """

    __slots__ = (
        "_users",
        "active",
        "channel",
        "context",
        "conversation",
        "created",
        "failures",
        "history",
        "last_active",
        "messages",
        "replies",
        "tenant",
    )

    # active    turns waiting or running, >= 0; the session is idle at 0
    # messages  times the session was entered, >= 1
    # _users    the only user, or the first 64 in order of appearance: most conversations have one user,
    #           and a container for one costs as much as the rest of the session

    def __init__(self, conversation: str, tenant: str, channel: str, user: str, now: float) -> None:
        self.conversation = conversation
        self.tenant = tenant
        self.channel = channel
        self.created = now
        self.last_active = now
        self.messages = 0
        self.replies = 0
        self.failures = 0
        self.active = 0
        self.history: History | None = None
        self.context: Context | None = None
        self._users: str | dict[str, None] = user

    def __repr__(self) -> str:
        return f"<Session {self.conversation!r} active={self.active} messages={self.messages}>"

    @property
    def users(self) -> tuple[str, ...]:
        """The first 64 distinct users in order of appearance."""
        return (self._users,) if isinstance(self._users, str) else tuple(self._users)

    def _add(self, user: str) -> None:
        """Remember a user, unless known or beyond the bound. O(1)."""
        if isinstance(self._users, str):
            self._users = {self._users: None, user: None}
        elif len(self._users) < _USERS:
            self._users[user] = None

    def _clear(self) -> None:
        """The table has forgotten it. O(what its context keeps)."""
        if self.context is not None:
            self.context.clear()
            self.context = None

    def _check(self) -> None:
        """Assert every invariant that does not need the table. O(users)."""
        assert self.active >= 0
        assert self.messages >= 1
        assert self.created <= self.last_active
        assert 1 <= len(self.users) <= _USERS
        assert isinstance(self._users, str) or len(self._users) > 1


@final
@attrs.frozen(kw_only=True)
class SessionStatistics:
    """A table of sessions at one instant.

    Attributes:
        active: sessions with a turn waiting or running; they are never evicted.
        idle: the others.
        total: active + idle.
        max: the bound of total.
        utilisation: active / max; at 1.0 new conversations are refused.
        peak: most sessions active at once.
        created: sessions ever begun = total + expired + evicted.
        expired: sessions forgotten because they were idle for the time-out.
        evicted: sessions forgotten before that, to make room.
    """

    active: int
    idle: int
    total: int
    max: int
    utilisation: float
    peak: int
    created: int
    expired: int
    evicted: int


@final
class SessionTable:
    """The sessions by conversation, at most `max_sessions`.

    A session with turns waiting or running stays. An idle one is forgotten by `expire` after `timeout`
    seconds, or earlier, the longest idle first, when a new conversation needs its place. The clock must
    not go backwards; if it does, it is taken to stand still.

    Args:
        max_sessions: 1 or more.
        timeout: seconds, above 0; infinity is never.
    """

    __slots__ = (
        "_created",
        "_evicted",
        "_expired",
        "_gone",
        "_idle",
        "_latest",
        "_max",
        "_peak",
        "_sessions",
        "_timeout",
    )

    # _sessions  conversation -> session, at most _max
    # _idle      the part of _sessions with active == 0, ascending by last_active
    # _latest    the latest time seen
    # _gone      sessions evicted and not yet taken; bounded too, should nobody take them
    # _peak      most sessions with active > 0 at once
    # _created   = len(_sessions) + _expired + _evicted

    def __init__(self, *, max_sessions: int, timeout: float) -> None:
        if max_sessions < 1:
            raise ValueError(f"max_sessions must be 1 or more, not {max_sessions!r}")
        if not timeout > 0.0:
            raise ValueError(f"timeout must be above 0 seconds, not {timeout!r}; infinity is never")
        self._max = max_sessions
        self._timeout = timeout
        self._sessions: dict[str, Session] = {}
        self._idle: OrderedDict[str, Session] = OrderedDict()
        self._gone: deque[Session] = deque(maxlen=max_sessions)
        self._latest = -inf
        self._peak = self._created = self._expired = self._evicted = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        """The sessions in order of creation; the table must not change meanwhile."""
        return iter(self._sessions.values())

    def get(self, conversation: str) -> Session | None:
        """The session of a conversation, None when there is none. O(1)."""
        return self._sessions.get(conversation)

    def has_room(self, conversation: str, beside: int = 0) -> bool:
        """Whether `enter` would succeed: known, or below the bound, or an idle session can go. O(1).

        With `beside`, also if so many other conversations have been entered before.
        """
        if beside:
            session = self._sessions.get(conversation)
            active = session is not None and session.active > 0
            return active or len(self._sessions) - len(self._idle) + beside < self._max
        return len(self._sessions) < self._max or bool(self._idle) or conversation in self._sessions

    def enter(self, conversation: str, tenant: str, channel: str, user: str, now: float) -> Session:
        """Count a message and the turn it begins; begin the session if there is none. O(1).

        `tenant` and `channel` are those of the first message. When the table is full, the longest idle
        session is evicted (see `take_evicted`).

        Raises:
            RuntimeError: there is no room (see `has_room`); nothing was changed.
        """
        session = self._sessions.get(conversation)
        if session is None:
            session = self._begin(conversation, tenant, channel, user, now)
        elif session._users != user:
            session._add(user)
        if now > self._latest:
            self._latest = now
        session.last_active = self._latest
        session.messages += 1
        if session.active == 0:
            self._idle.pop(conversation, None)
            active = len(self._sessions) - len(self._idle)
            if active > self._peak:
                self._peak = active
        session.active += 1
        return session

    def hold(self, session: Session) -> None:
        """Count one more turn of an active session. O(1).

        Raises:
            RuntimeError: the session is idle; nothing was changed.
        """
        if session.active < 1:
            raise RuntimeError(f"session {session.conversation!r} is idle; enter it again")
        session.active += 1

    def leave(self, session: Session, now: float) -> None:
        """Count a turn as ended; with the last one the session is idle. O(1).

        Args:
            session: of this table.

        Raises:
            RuntimeError: no turn is left to end; nothing was changed.
        """
        active = session.active - 1
        if active < 0:
            raise RuntimeError(f"session {session.conversation!r} has no turn left; leave once per turn")
        if now > self._latest:
            self._latest = now
        session.last_active = self._latest
        session.active = active
        if active == 0:
            self._idle[session.conversation] = session

    def expire(self, now: float) -> list[Session]:
        """Forget the sessions idle for `timeout` or longer, and return them, longest idle first.

        Until then a session is live, however long it was idle. O(forgotten).
        """
        forgotten = []
        while self.next_deadline() <= now < inf:
            conversation, session = self._idle.popitem(last=False)
            del self._sessions[conversation]
            session._clear()
            forgotten.append(session)
        self._expired += len(forgotten)
        return forgotten

    def take_evicted(self) -> list[Session]:
        """The sessions evicted since the last call, in that order. O(result).

        At most `max_sessions` of them are kept; beyond that the earliest are let go.
        """
        taken = list(self._gone)
        self._gone.clear()
        return taken

    def next_deadline(self) -> float:
        """When the longest idle session expires; infinity when none is idle. O(1)."""
        for session in self._idle.values():
            return session.last_active + self._timeout
        return inf

    def statistics(self) -> SessionStatistics:
        """A frozen picture of this instant. O(1)."""
        total, idle = len(self._sessions), len(self._idle)
        return SessionStatistics(
            active=total - idle,
            idle=idle,
            total=total,
            max=self._max,
            utilisation=(total - idle) / self._max,
            peak=self._peak,
            created=self._created,
            expired=self._expired,
            evicted=self._evicted,
        )

    def _begin(self, conversation: str, tenant: str, channel: str, user: str, now: float) -> Session:
        """A new session, still without a turn, in the place of an idle one if need be. O(1)."""
        if len(self._sessions) >= self._max:
            if not self._idle:
                raise RuntimeError(f"no room for {conversation!r}: all {self._max} are active; ask has_room")
            evicted, session = self._idle.popitem(last=False)
            del self._sessions[evicted]
            session._clear()
            self._gone.append(session)
            self._evicted += 1
        session = Session(conversation, tenant, channel, user, max(now, self._latest))
        self._sessions[conversation] = session
        self._created += 1
        return session

    def _check(self) -> None:
        """Assert every invariant. O(sessions)."""
        assert len(self._sessions) <= self._max
        assert self._created == len(self._sessions) + self._expired + self._evicted
        assert len(self._sessions) - len(self._idle) <= self._peak <= self._max
        idle = {key: session for key, session in self._sessions.items() if session.active == 0}
        assert idle == dict(self._idle)
        times = [session.last_active for session in self._idle.values()]
        assert times == sorted(times)
        for conversation, session in self._sessions.items():
            session._check()
            assert session.conversation == conversation
            assert session.last_active <= self._latest
