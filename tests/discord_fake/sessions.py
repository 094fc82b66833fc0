"""The gateway's rules, without I/O: sessions with numbered events, and the connections they live on.

A `Link` is one connection. Its owner says `begin` when it is open, hands in what arrives with `receive`,
calls `tick` when `next_deadline` is reached, sends what is in `out`, in order, and says `gone` at the end.
`wake` is called when something was put into `out`.

What Discord leaves open is decided thus:
- RESUMED takes a number, like every event (clients have always seen "1 event replayed" of an empty replay),
  but is not said again by a later replay: a client that missed it sees a hole of one.
- A client that falls silent is cut with 4000 and keeps its session; 4009 only comes when a test says so.
- A session that is resumed on a second connection leaves the first, which is closed with 4000.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from . import identifying
from .identifying import Refused
from .rules import PRIVATE_TWIN, Bits, Faults, Rules
from .world import APPLICATION, Happening, World

MAX_PAYLOAD: Final = 4096
DISPATCH, HEARTBEAT, IDENTIFY, PRESENCE, VOICE, RESUME, RECONNECT, MEMBERS, INVALID, HELLO, ACK = (
    0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11,
)  # fmt: skip
CLOSED_BY_CLIENT: Final = (1000, 1001)
CONTENT: Final[Mapping[str, Any]] = {"content": "", "embeds": [], "attachments": [], "components": []}


@final
@dataclass(frozen=True)
class Hangup:
    """End the connection: with a close code, or, without one, by dropping it."""

    code: int | None


@final
@dataclass
class Session:
    """Events for one shard.

    Attributes:
        seq: number of the last event.
        log: (number, name, payload) of the last ones.
        link: where it is live; None since `left` otherwise.
    """

    id: str
    shard: tuple[int, int]
    intents: int
    log: deque[tuple[int, str, str]]
    link: Link | None = None
    left: float = 0.0
    seq: int = 0

    def add(self, kind: str, data: Any) -> None:
        """One more event."""
        self.seq += 1
        text = json.dumps({"op": DISPATCH, "d": data, "s": self.seq, "t": kind})
        self.log.append((self.seq, kind, text))
        if self.link is not None:
            self.link.put(text)

    def oldest(self) -> int:
        """The first number that can still be replayed."""
        return self.log[0][0] if self.log else self.seq + 1


@final
class Link:
    """One connection; made by `Hub.open`.

    Attributes:
        out: texts and at last a `Hangup`, for the owner to send.
        host: `"gateway"` or `"resume"`.
        query: of the URL.
        heard: op and data of every payload that could be read.
        session: None while there is none.
        closing: a `Hangup` is on its way.
        over: it has ended; `code` is the client's close code.
    """

    def __init__(self, hub: Hub, host: str, query: Mapping[str, str], now: float, wake: Callable[[], None]):
        self._hub = hub
        self._wake = wake
        self._beat = now
        self._arrivals: deque[float] = deque(maxlen=hub.rules.sends)
        self.host = host
        self.query = query
        self.out: deque[str | Hangup] = deque()
        self.heard: list[tuple[int, Any]] = []
        self.session: Session | None = None
        self.closing = self.over = False
        self.code: int | None = None

    # -- sending ---------------------------------------------------------------------------------

    def put(self, text: str) -> None:
        if not self.closing:
            self.out.append(text)
            self._wake()

    def say(self, op: int, data: Any = None) -> None:
        """Send what is no event."""
        payload: dict[str, Any] = {"t": None, "s": None, "op": op, "d": data}
        if self._hub.faults.bare:
            payload = {"op": op} if data is None else {"op": op, "d": data}
        self.put(json.dumps(payload))

    def close(self, code: int | None = None) -> None:
        """Hang up, with a close code if there is one. The session stays, unless the code ends it."""
        if not self.closing:
            self.closing = True
            self.out.append(Hangup(code))
            self._wake()
        if code in identifying.SESSION_ENDS and self.session is not None:
            self._hub.end(self.session)

    # -- the connection --------------------------------------------------------------------------

    def begin(self) -> None:
        """It is open: HELLO."""
        faults = self._hub.faults
        if self.query.get("v") != "10":
            self.close(4012)
        elif faults.hello == "reconnect":
            self.say(RECONNECT)
        elif faults.hello != "late":
            self.greet()

    def greet(self) -> None:
        """HELLO."""
        self.say(HELLO, {"heartbeat_interval": self._hub.rules.heartbeat_interval * 1000})

    def next_deadline(self) -> float:
        """When to call `tick`."""
        rules = self._hub.rules
        return math.inf if self.closing else self._beat + 1.5 * rules.heartbeat_interval + rules.patience

    def tick(self, now: float) -> None:
        """Cut a client that has fallen silent."""
        if now >= self.next_deadline():
            self.close(4000)

    def gone(self, code: int | None, now: float) -> None:
        """The connection is over; `code` is the client's, None when it sent none.

        Only a client that hangs up first ends its session so: one that is hung up on echoes some code.
        """
        first = not self.closing
        self.closing = self.over = True
        self.code = code
        session = self.session
        if session is not None and session.link is self:
            session.link, session.left = None, now
            if first and code in CLOSED_BY_CLIENT:
                self._hub.end(session)

    def receive(self, data: str | bytes, now: float) -> None:
        """Something the client has sent."""
        if self.closing:
            return
        rules = self._hub.rules
        if len(self._arrivals) == rules.sends and now - self._arrivals[0] < rules.send_window:
            self.close(4008)
            return
        self._arrivals.append(now)
        payload = _decoded(data)
        if payload is None:
            self.close(4002)
            return
        op, told = payload["op"], payload.get("d")
        self.heard.append((op, told))
        refused = self._obey(op, told, now)
        if refused is not None:
            self.close(refused.code)

    def _obey(self, op: int, told: Any, now: float) -> Refused | None:
        if op == HEARTBEAT:
            self._beat = now
            if not self._hub.faults.mute:
                self.say(ACK)
            return None if told is None or _whole(told) else Refused(4002)
        if op == IDENTIFY:
            return Refused(4005) if self.session is not None else self._hub.identify(self, told, now)
        if op == RESUME:
            return Refused(4005) if self.session is not None else self._hub.resume(self, told, now)
        if op not in identifying.COMMANDS:
            return Refused(4001)
        if self.session is None:
            return Refused(4003)
        refused = identifying.command(op, told)
        if refused is None and op == MEMBERS:
            self._hub.members(self.session, told)
        return refused

    def invalidate(self, resumable: bool) -> None:
        """Op 9."""
        session = self.session
        self.say(INVALID, resumable)
        if not resumable and session is not None:
            self._hub.end(session)
            self.session = None


@final
class Hub:
    """All sessions of the bot.

    Attributes:
        links: every connection there was, in order.
        sessions: by id; those that ended are gone.
        identified: when sessions were begun, and of which shard.
        withheld: payloads that faults left out of a replay, or broke.
        watch: called with the id of each session that begins.
    """

    def __init__(self, rules: Rules, faults: Faults) -> None:
        self.rules = rules
        self.faults = faults
        self.world: World | None = None
        self.resume_url = ""
        self.links: list[Link] = []
        self.sessions: dict[str, Session] = {}
        self.identified: list[tuple[float, int]] = []
        self.withheld: list[str] = []
        self.watch: Callable[[str], object] = bool
        self.starts = identifying.Starts(rules)
        self._serial = 0

    def open(self, host: str, query: Mapping[str, str], now: float, wake: Callable[[], None]) -> Link:
        """A client has connected; say `begin` next."""
        link = Link(self, host, query, now, wake)
        self.links.append(link)
        return link

    @property
    def live(self) -> list[Link]:
        """Connections with a session."""
        return [link for link in self.links if link.session is not None and not link.closing]

    # -- sessions --------------------------------------------------------------------------------

    def identify(self, link: Link, told: Any, now: float) -> Refused | None:
        found = identifying.identity(told, self.rules)
        if isinstance(found, Refused):
            return found
        if not self.starts.take(found.shard[0], now):
            for other in self.links:  # one too many: the token is no good any more
                other.close(4004)
            return None
        if not self.starts.in_time:
            link.invalidate(False)
            return None
        self.identified.append((now, found.shard[0]))
        self._serial += 1
        session = Session(
            f"session-{self._serial}", found.shard, found.intents, deque(maxlen=self.rules.replay), link
        )
        self.sessions[session.id] = session
        self.watch(session.id)
        link.session = session
        session.add("READY", self._ready(session))
        assert self.world is not None
        for guild in self.world.guilds.values():
            happening = Happening(
                "GUILD_CREATE", self.world.guild_create(guild), guild.raw["id"], Bits.GUILDS
            )
            self._pass(session, happening)
        return None

    def _ready(self, session: Session) -> dict[str, Any]:
        assert self.world is not None
        mine = [key for key in self.world.guilds if shard_of(key, session.shard[1]) == session.shard[0]]
        return {
            "v": 10, "user": self.world.bot, "guilds": [{"id": key, "unavailable": True} for key in mine],
            "session_id": session.id, "session_type": "normal", "resume_gateway_url": self.resume_url,
            "shard": list(session.shard), "application": {"id": APPLICATION, "flags": 1 << 18},
            "private_channels": [], "relationships": [], "presences": [], "user_settings": {},
            "geo_ordered_rtc_regions": [], "_trace": ["fake"],
        }  # fmt: skip

    def resume(self, link: Link, told: Any, now: float) -> Refused | None:
        found = identifying.resumption(told, self.rules)
        if isinstance(found, Refused):
            return found
        session = self.sessions.get(found.session)
        if session is not None and session.link is None and now - session.left >= self.rules.session_ttl:
            self.end(session)
            session = None
        if session is None or self.faults.refuse_resume or found.seq < session.oldest() - 1:
            link.invalidate(False)
            return None
        if found.seq > session.seq:
            return Refused(4007)
        if session.link is not None:
            before, session.link = session.link, None
            before.session = None
            before.close(4000)
        missed = [text for seq, kind, text in session.log if seq > found.seq and kind != "RESUMED"]
        # One that got lost has a number, and is not told again.
        self.withheld += [text for seq, kind, text in session.log if seq > found.seq and kind == "RESUMED"]
        session.link, link.session = link, session
        if self.faults.drop_first_replayed and missed:
            self.withheld.append(missed.pop(0))
        incomplete = self.faults.drop_last_replayed and missed
        for text in missed[:-1] if incomplete else missed:
            link.put(text)
        if incomplete:
            self.withheld.append(missed[-1])
            link.put(json.dumps({"op": DISPATCH, "t": "RESUMED", "d": {"_trace": []}}))
        else:
            session.add("RESUMED", {"_trace": ["fake"]})
        return None

    def end(self, session: Session) -> None:
        """It cannot be resumed any more."""
        self.sessions.pop(session.id, None)
        if session.link is not None:
            session.link.session, session.link = None, None

    # -- events ----------------------------------------------------------------------------------

    def tell(self, happening: Happening) -> None:
        """Something has happened: every session that asked for it gets it, live or not."""
        for session in list(self.sessions.values()):
            self._pass(session, happening)

    def _pass(self, session: Session, happening: Happening) -> None:
        number, count = session.shard
        if not happening.everywhere and shard_of(happening.guild, count) != number:
            return
        intent = happening.intent
        if intent and not happening.guild:
            intent = PRIVATE_TWIN.get(Bits(intent), Bits(intent))
        if intent and not intent & session.intents:
            return
        data = happening.data
        if happening.type in ("MESSAGE_CREATE", "MESSAGE_UPDATE") and not self._may_read(session, data):
            data = {**data, **CONTENT}
        session.add(happening.type, data)

    def _may_read(self, session: Session, data: Mapping[str, Any]) -> bool:
        assert self.world is not None
        bot = self.world.bot["id"]
        return bool(
            session.intents & Bits.MESSAGE_CONTENT
            or "guild_id" not in data
            or data["author"]["id"] == bot
            or any(user["id"] == bot for user in data["mentions"])
        )

    def members(self, session: Session, told: Mapping[str, Any]) -> None:
        """Answer op 8."""
        assert self.world is not None
        guild = self.world.guilds.get(str(told["guild_id"]))
        if guild is None:
            return
        wanted = told.get("user_ids")
        chosen: Iterable[Any] = guild.members.values()
        if wanted is not None:
            wanted = [wanted] if isinstance(wanted, str) else wanted
            chosen = [guild.members[key] for key in map(str, wanted) if key in guild.members]
        data = {"guild_id": guild.raw["id"], "members": list(chosen), "chunk_index": 0, "chunk_count": 1}
        if "nonce" in told:
            data["nonce"] = told["nonce"]
        session.add("GUILD_MEMBERS_CHUNK", data)

    def _check(self) -> None:
        """Assert every invariant."""
        for key, session in self.sessions.items():
            assert key == session.id
            assert len(session.log) <= self.rules.replay
            numbers = [seq for seq, _, _ in session.log]
            assert numbers == list(range(session.oldest(), session.seq + 1))
            assert session.link is None or session.link.session is session
        for link in self.links:
            assert link.session is None or link.over or link.closing or link.session.link is link
            assert all(isinstance(entry, str) for entry in list(link.out)[:-1])


def shard_of(guild: str, count: int) -> int:
    """The shard of a guild; that of private chats is 0."""
    return (int(guild) >> 22) % count if guild else 0


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _decoded(data: str | bytes) -> dict[str, Any] | None:
    """A payload; None when it is none, or too large."""
    if len(data if isinstance(data, bytes) else data.encode()) > MAX_PAYLOAD:
        return None
    try:
        payload = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) and _whole(payload.get("op")) else None
