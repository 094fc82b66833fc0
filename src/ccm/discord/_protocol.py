"""The gateway's protocol, version 10, without I/O: what arrived goes in, what to do comes out.

A `Protocol` is one shard. Its owner dials where `start`, `closed` or `handshake_failed` say, tells
`opened`, says `heard` at each frame, hands in each payload with `receive`, calls `tick` when `next_deadline`
is reached, does what is returned in order, and says `closed` when the connection is over, whoever ended it.
It must not trust the other side, so any payload may come at any time; none raises. What belongs to a
connection is in a `_Link` and goes with it; what belongs to the session stays.

Source: Discord's developer documentation, "Gateway" and "Opcodes and status codes" (version 10).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from ._actions import Action, Close, Deliver, Dial, Fatal, Identify, SavedSession, Send
from ._errors import CLOSE_CODES
from ._models import Event, Gap, Ready, Resumed, User

__all__ = ["Protocol"]

DISPATCH, HEARTBEAT, IDENTIFY, RESUME, RECONNECT, INVALID, HELLO, ACK = 0, 1, 2, 6, 7, 9, 10, 11
NEW_SESSION = frozenset({4003, 4005, 4007, 4009})
RESUMABLE = 4000
"""Own close code: neither 1000 nor 1001, which would end the session."""
HELLO_TIMEOUT = 20.0
READY_TIMEOUT = 60.0
STABLE = 30.0
"""Seconds a session must have been live until its end counts as a first failure again."""
MAX_BACKOFF = 60.0
MAX_RESUMES = 3
SENDS = 120
WINDOW = 60.0
RESERVED = 20
"""Of the 120 sends a minute, those kept for heartbeats and sessions."""
ASKED = SENDS - RESERVED // 2
"""Sends within a minute after which no heartbeat is sent only because it was asked for."""
MIN_INTERVAL, MAX_INTERVAL = 0.01, 3600.0
UNANSWERED = 3
"""Heartbeats in a row that may stay without an answer while other data keeps coming."""
SILENCE = 0.25
"""Part of an interval without any data after which it does not keep coming."""
NOTHING: Final[tuple[Action, ...]] = ()


@final
class _Link:
    """One connection: from `opened` to `closed`.

    Attributes:
        phase: `"hello"` (not greeted), `"asked"` (for a session), `"identify"`, `"resume"` (sent), `"live"`.
        limit: when the phase must be over.
        interval: seconds between heartbeats, 0.0 before HELLO.
        beat: when the next one is due.
        unanswered: how many of them have been sent since the last answer.
        heard: when the last frame came.
        live: since when it is, infinity before.
        replayed: events since RESUME was sent.
        unread: payloads that could not be read since the last number: it leaves out theirs.
        closing: a `Close` was returned; nothing counts any more.
        sends: when the last 119 payloads were sent.
    """

    __slots__ = (
        "beat", "closing", "heard", "interval", "limit", "live", "phase", "replayed", "sends", "unanswered",
        "unread",
    )  # fmt: skip

    def __init__(self, now: float) -> None:
        self.phase = "hello"
        self.limit = now + HELLO_TIMEOUT
        self.interval = 0.0
        self.beat = math.inf
        self.unanswered = 0
        self.heard = now
        self.live = math.inf
        self.replayed = 0
        self.unread = 0
        self.closing = False
        self.sends: deque[float] = deque(maxlen=SENDS - 1)


@final
class Protocol:
    """One shard.

    Args:
        token, intents, shard, presence: as IDENTIFY takes them; `shard` is (number, of how many).
        url: where sessions are begun.
        query: what follows `?` in every URL.
        random: draws from [0, 1).
        saved: a session to go on with.

    Attributes:
        seq: number of the last event of the session; None: none yet.
        sessions: counts the sessions begun or taken over; 0 before the first.
        holes, ignored: numbers left out, each told by a gap; payloads that meant nothing.
    """

    __slots__ = (
        "_failures", "_identity", "_link", "_lost", "_not_before", "_query", "_random", "_resume_url",
        "_resumes", "_session_id", "_shard", "_token", "_url", "holes", "ignored", "seq", "sessions",
    )  # fmt: skip

    # _session_id  "": no session. Without one: _resume_url "", _resumes 0, and seq None when dialling
    # _lost        a session was forgotten and no new one has begun since
    # _resumes     RESUMEs sent since the last RESUMED or READY, at most MAX_RESUMES
    # _failures    connections in a row that were not stable
    # _not_before  the next one is dialled at this time at the earliest

    def __init__(
        self, *, token: str, intents: int, url: str, random: Callable[[], float],
        shard: tuple[int, int] = (0, 1), presence: Mapping[str, Any] | None = None,
        query: str = "v=10&encoding=json", saved: SavedSession | None = None,
    ) -> None:  # fmt: skip
        self._token = token
        self._identity: dict[str, Any] = {
            "token": token,
            "intents": intents,
            "properties": {"os": "linux", "browser": "ccm", "device": "ccm"},
            "shard": list(shard),
        }
        if presence is not None:
            self._identity["presence"] = dict(presence)
        self._shard = shard[0]
        self._url = url
        self._query = query
        self._random = random
        self._session_id = "" if saved is None else saved.session_id
        self._resume_url = "" if saved is None else saved.resume_url
        self.seq: int | None = None if saved is None else saved.seq
        self.sessions = 0 if saved is None else 1
        self._lost = False
        self._resumes = 0
        self._failures = 0
        self._not_before = -math.inf
        self._link: _Link | None = None
        self.holes = self.ignored = 0

    # -- connections -----------------------------------------------------------------------------

    def start(self, now: float) -> Dial:
        """Where to connect first. O(1)."""
        return self._dial(now)

    def opened(self, now: float) -> None:
        """The connection is there. O(1).

        Raises:
            RuntimeError: there is one already.
        """
        if self._link is not None:
            raise RuntimeError("this shard is connected already; say closed first")
        self._link = _Link(now)
        if not self._session_id:
            self.seq = None  # what was counted without a session belonged to the last connection

    def handshake_failed(self, now: float) -> Dial:
        """There is no connection; a resume URL that does not work is dropped. O(1).

        Raises:
            RuntimeError: there is one.
        """
        if self._link is not None:
            raise RuntimeError("this shard is connected; say closed")
        self._resume_url = ""
        self._failures += 1
        return self._dial(now)

    def closed(self, code: int | None, now: float) -> Dial | Fatal:
        """The connection is over; `code` is the peer's, None when it sent none. O(1).

        Raises:
            RuntimeError: there is none.
        """
        link = self._link
        if link is None:
            raise RuntimeError("this shard is not connected; closed is said once for each opened")
        self._link = None
        if code in CLOSE_CODES:
            assert code is not None
            return Fatal(code)
        if code in NEW_SESSION:
            self._forget()
        if now - link.live >= STABLE:
            self._failures = 0
        self._failures += 1
        return self._dial(now)

    def _dial(self, now: float) -> Dial:
        """The next attempt: at once after the first failure, then full jitter."""
        if self._session_id and self._resumes >= MAX_RESUMES:
            self._forget()
        delay = 0.0
        if self._failures > 1:
            # The exponent is bounded: a long outage would overflow the float.
            delay = self._random() * min(MAX_BACKOFF, 2.0 ** min(self._failures - 1, 10))
        at = max(now + delay, self._not_before)
        resume = bool(self._session_id)
        base = self._resume_url if resume and self._resume_url else self._url
        return Dial(at, f"{base.rstrip('/')}/?{self._query}", resume)

    def _forget(self) -> None:
        """The session cannot go on."""
        self._lost = self._lost or bool(self._session_id)
        self._session_id = self._resume_url = ""
        self._resumes = 0
        self.seq = None

    # -- what arrives ----------------------------------------------------------------------------

    def heard(self, now: float) -> None:
        """A frame has come, whatever is in it: the peer is there. O(1)."""
        if self._link is not None:
            self._link.heard = now

    def receive(self, payload: Any, now: float) -> tuple[Action, ...]:
        """What to do about a payload, decoded, whatever it is. O(1)."""
        link = self._link
        if link is None or link.closing:
            return NOTHING
        op = payload.get("op") if isinstance(payload, dict) else None
        if op == DISPATCH and op is not False:
            return self._dispatch(link, payload, now)
        if op == ACK:
            link.unanswered = 0
        elif op == HEARTBEAT and op is not True:
            return self._asked_to_beat(link, now)
        elif op == HELLO:
            return self._hello(link, payload.get("d"), now)
        elif op == RECONNECT:
            return self._close(link, "asked to reconnect")
        elif op == INVALID:
            return self._invalid(link, payload.get("d") is True, now)
        else:
            self.ignored += 1
        return NOTHING

    def _asked_to_beat(self, link: _Link, now: float) -> tuple[Action, ...]:
        """At once, without moving the rhythm; not without end: that would break the limit of sends."""
        if len(link.sends) >= ASKED and link.sends[-ASKED] + WINDOW > now:
            self.ignored += 1
            return NOTHING
        return (self._heartbeat(link, now),)

    def undecodable(self, now: float) -> tuple[Action, ...]:
        """A payload that could not be decoded: the connection goes on, one event may be missing. O(1)."""
        if self._link is None or self._link.closing:
            return NOTHING
        self._link.unread += 1
        return (self._gap("undecodable", 1, 0 if self.seq is None else self.seq + 1),)

    def _gap(self, reason: str, missing: int, first: int) -> Deliver:
        return Deliver(Gap(reason, missing, missing, self._shard, first, self.sessions))

    def broken(self, why: str) -> tuple[Action, ...]:
        """The connection cannot be read or written any more. O(1)."""
        if self._link is None or self._link.closing:
            return NOTHING
        return self._close(self._link, why)

    def _hello(self, link: _Link, data: Any, now: float) -> tuple[Action, ...]:
        interval = data.get("heartbeat_interval") if isinstance(data, dict) else None
        if isinstance(interval, bool) or not isinstance(interval, (int, float)):
            return self._close(link, "HELLO without an interval")
        if not MIN_INTERVAL * 1000 <= interval <= MAX_INTERVAL * 1000:
            return self._close(link, f"HELLO with an interval of {interval!r} ms")
        link.interval = interval / 1000
        link.beat = now + link.interval * self._random()
        link.unanswered = 0
        if link.phase != "hello":
            return NOTHING  # greeted twice: the rhythm is new, the session is not
        link.limit = now + READY_TIMEOUT
        if not self._session_id:
            link.phase = "asked"
            link.limit = math.inf  # how long others are in front is not this connection's fault
            return (Identify(),)
        link.phase = "resume"
        self._resumes += 1
        data = {"token": self._token, "session_id": self._session_id, "seq": self.seq}
        return (self._send(link, RESUME, data, now),)

    def identify(self, now: float) -> tuple[Action, ...]:
        """A session may be begun: what to send, nothing if the connection has changed meanwhile. O(1)."""
        link = self._link
        if link is None or link.closing or link.phase != "asked":
            return NOTHING
        link.phase = "identify"
        link.limit = now + READY_TIMEOUT
        return (self._send(link, IDENTIFY, self._identity, now),)

    def _invalid(self, link: _Link, resumable: bool, now: float) -> tuple[Action, ...]:
        if not resumable:
            self._forget()
        self._not_before = now + 1.0 + 4.0 * self._random()
        return self._close(link, "the session is not valid")

    def _close(self, link: _Link, why: str) -> tuple[Action, ...]:
        link.closing = True
        return (Close(RESUMABLE, why),)

    # -- events ----------------------------------------------------------------------------------

    def _dispatch(self, link: _Link, payload: dict[str, Any], now: float) -> tuple[Action, ...]:
        kind, seq = payload.get("t"), payload.get("s")
        if seq.__class__ is not int or seq < 0:  # a bool is no number here
            seq = None
        if kind == "READY":
            return self._ready(link, payload.get("d"), seq, now)
        gap = NOTHING if seq is None else self._count(link, seq)
        if kind == "RESUMED" and link.phase == "resume":
            return (*gap, self._resumed(link, now))
        if not isinstance(kind, str):
            self.ignored += 1
            return gap
        if link.phase == "resume":
            link.replayed += 1
            link.limit = now + READY_TIMEOUT
        event = Event(kind, payload.get("d"), seq, self._shard, self.sessions)
        return (*gap, Deliver(event)) if gap else (Deliver(event),)

    def _count(self, link: _Link, seq: int) -> tuple[Action, ...]:
        """Take note of a number; returns the gap in front of it.

        Live or in a replay, what was left out will not come: who is not told of it never asks for it.
        """
        last = self.seq
        if last is None or seq > last:
            self.seq = seq
        missing = max(seq - last - 1, 0) if last is not None else 0
        missing, link.unread = max(missing - link.unread, 0), 0  # those are told already
        # Without a session there are no numbers to compare.
        if last is None or not missing or not (self._session_id or link.phase == "live"):
            return NOTHING
        self.holes += missing
        return (self._gap("hole", missing, last + 1),)

    def _ready(self, link: _Link, data: Any, seq: int | None, now: float) -> tuple[Action, ...]:
        try:
            user = User.of(data.get("user")) if isinstance(data, dict) else User("")
        except ValueError:
            user = User("")
        data = data if isinstance(data, dict) else {}
        lost = self._lost or bool(self._session_id)  # READY in place of RESUMED: the old one is gone
        session, url, guilds = data.get("session_id"), data.get("resume_gateway_url"), data.get("guilds")
        self._forget()
        self._lost = False
        self._session_id = session if isinstance(session, str) else ""
        if self._session_id:
            usable = isinstance(url, str) and url.startswith(("ws://", "wss://"))
            self._resume_url = url if usable else ""
        self.seq = seq
        link.unread = 0
        self.sessions += 1
        self._live(link, now)
        guilds = guilds if isinstance(guilds, list) else []
        ids = tuple(str(guild["id"]) for guild in guilds if isinstance(guild, dict) and "id" in guild)
        return (Deliver(Ready(lost, user, ids, self._shard, self.sessions)),)

    def _resumed(self, link: _Link, now: float) -> Deliver:
        self._resumes = 0
        self._live(link, now)
        return Deliver(Resumed(link.replayed, self._shard))

    def _live(self, link: _Link, now: float) -> None:
        link.phase = "live"
        link.limit = math.inf
        link.live = now

    # -- time ------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When to call `tick`. O(1)."""
        link = self._link
        return math.inf if link is None or link.closing else min(link.beat, link.limit)

    def tick(self, now: float) -> tuple[Action, ...]:
        """What time has brought: a heartbeat, or the end of a connection that is dead. O(1)."""
        link = self._link
        if link is None or link.closing:
            return NOTHING
        if now >= link.limit:
            return self._close(link, f"nothing came in time (phase {link.phase!r})")
        if now < link.beat:
            return NOTHING
        if link.unanswered:
            # Data keeps its order: the answer may stand behind a burst, whose sender is not dead. One that
            # sends and never answers may not hear us, so that this has an end, too.
            coming = now - link.heard <= SILENCE * link.interval
            if not coming or link.unanswered >= UNANSWERED:
                return self._close(link, "a heartbeat was not answered")
        link.unanswered += 1
        link.beat += link.interval
        if link.beat <= now:  # the process was stopped meanwhile: no burst to catch up
            link.beat = now + link.interval
        return (self._heartbeat(link, now),)

    def _heartbeat(self, link: _Link, now: float) -> Send:
        return self._send(link, HEARTBEAT, self.seq, now)

    @staticmethod
    def _send(link: _Link, op: int, data: Any, now: float) -> Send:
        link.sends.append(now)
        return Send(op, data)

    # -- what the application sends --------------------------------------------------------------

    def send(self, op: int, data: Any, now: float) -> Send | float:
        """The payload if it may be sent now, else when to ask again; infinity: not while not live. O(1)."""
        link = self._link
        if link is None or link.closing or link.phase != "live":
            return math.inf
        free = SENDS - RESERVED
        if len(link.sends) >= free and (again := link.sends[-free] + WINDOW) > now:
            return again
        return self._send(link, op, data, now)

    # -- looking at it ---------------------------------------------------------------------------

    def session(self, seq: int | None) -> SavedSession | None:
        """What it takes to go on after event number `seq` in another process. O(1)."""
        if not self._session_id or seq is None:
            return None
        return SavedSession(self._session_id, seq, self._resume_url)

    @property
    def live(self) -> bool:
        """Whether events come. O(1)."""
        return self._link is not None and self._link.phase == "live" and not self._link.closing

    def _check(self) -> None:
        """Assert every invariant. O(1)."""
        assert 0 <= self._resumes <= MAX_RESUMES
        assert self._session_id or (not self._resume_url and not self._resumes)
        assert self.seq is None or (self.seq.__class__ is int and self.seq >= 0)
        link = self._link
        if link is not None:
            assert link.phase in ("hello", "asked", "identify", "resume", "live")
            assert (link.interval > 0.0) or link.beat == math.inf
            assert (link.live < math.inf) == (link.phase == "live")
            assert len(link.sends) <= SENDS
            assert 0 <= link.unanswered <= UNANSWERED
            assert link.closing or link.phase != "resume" or self._session_id
