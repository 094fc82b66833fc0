"""What IDENTIFY, RESUME and other commands must look like, and how often sessions may be begun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

from .rules import KNOWN, PRIVILEGED, Rules

COMMANDS: Final = frozenset({3, 4, 8})
SESSION_ENDS: Final = frozenset({4003, 4004, 4005, 4007, 4009, 4010, 4011, 4012, 4013, 4014})
"""Close codes after which there is nothing to resume."""
DAY: Final = 86_400.0
STATUSES: Final = ("online", "dnd", "idle", "invisible", "offline")


@final
@dataclass(frozen=True)
class Refused:
    """Close with this code."""

    code: int


@final
@dataclass(frozen=True)
class Identity:
    shard: tuple[int, int]
    intents: int


@final
@dataclass(frozen=True)
class Resumption:
    session: str
    seq: int


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def identity(told: Any, rules: Rules) -> Identity | Refused:
    """What IDENTIFY asks for."""
    if not isinstance(told, dict) or not isinstance(told.get("token"), str):
        return Refused(4002)
    properties = told.get("properties")
    if not isinstance(properties, dict) or not all(isinstance(v, str) for v in properties.values()):
        return Refused(4002)
    if not whole(told.get("intents")) or ("presence" in told and _presence(told["presence"])):
        return Refused(4002)
    if told["token"].removeprefix("Bot ") != rules.token:
        return Refused(4004)
    shard = told.get("shard", [0, 1])
    if not isinstance(shard, list) or len(shard) != 2 or not all(map(whole, shard)):
        return Refused(4002)
    if not 0 <= shard[0] < shard[1]:
        return Refused(4010)
    if rules.shards > 1 and shard[1] < rules.shards:
        return Refused(4011)
    intents = told["intents"]
    if intents < 0 or intents & ~KNOWN:
        return Refused(4013)
    if intents & PRIVILEGED & ~rules.privileged:
        return Refused(4014)
    return Identity((shard[0], shard[1]), intents)


def resumption(told: Any, rules: Rules) -> Resumption | Refused:
    """What RESUME asks for."""
    if not isinstance(told, dict) or not isinstance(told.get("token"), str):
        return Refused(4002)
    if not isinstance(told.get("session_id"), str) or not whole(told.get("seq")):
        return Refused(4002)
    if told["token"].removeprefix("Bot ") != rules.token:
        return Refused(4004)
    return Resumption(told["session_id"], told["seq"])


def command(op: int, told: Any) -> Refused | None:
    """Whether a presence (3), a voice state (4) or a question for members (8) may be sent so."""
    if op == 3:
        return _presence(told)
    if not isinstance(told, dict):
        return Refused(4002)
    if op == 8:
        # hikari and others send ids as numbers here, and Discord takes them.
        asked = isinstance(told.get("query"), str) and whole(told.get("limit"))
        return None if told.get("guild_id") and (asked or told.get("user_ids")) else Refused(4002)
    return None if told.get("guild_id") and "channel_id" in told else Refused(4002)


def _presence(told: Any) -> Refused | None:
    if told is None:
        return None
    fits = (
        isinstance(told, dict)
        and told.get("status") in STATUSES
        and isinstance(told.get("activities", []), list)  # hikari says `game`, as of old
        and (told.get("since") is None or isinstance(told["since"], (int, float)))
        and isinstance(told.get("afk"), bool)
    )
    return None if fits else Refused(4002)


@final
class Starts:
    """How often sessions may be begun.

    Attributes:
        remaining: of the day.
        in_time: the last `take` was not too soon after another one of its bucket.
        reset: the token is no good any more.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._last: dict[int, float] = {}
        self._day: float | None = None
        self.remaining = rules.session_total
        self.in_time = True
        self.reset = False

    def take(self, shard: int, now: float) -> bool:
        """One more; false when that was one too many for the token, which is then changed."""
        self._turn(now)
        if self._day is None:
            self._day = now
        if self.remaining <= 0:
            self.reset = True
            self._rules.token += "'"
            return False
        self.remaining -= 1
        bucket = shard % self._rules.max_concurrency
        last = self._last.get(bucket)
        self.in_time = last is None or now - last >= self._rules.identify_spacing - 1e-6
        self._last[bucket] = now
        return True

    def _turn(self, now: float) -> None:
        if self._day is not None and now - self._day >= DAY:
            self._day, self.remaining = None, self._rules.session_total

    def told(self, now: float) -> dict[str, int]:
        """`session_start_limit`."""
        self._turn(now)
        return {
            "total": self._rules.session_total,
            "remaining": self.remaining,
            "reset_after": 0 if self._day is None else int((self._day + DAY - now) * 1000),
            "max_concurrency": self._rules.max_concurrency,
        }
