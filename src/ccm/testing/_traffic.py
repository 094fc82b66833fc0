"""Workloads: messages with the times at which they arrive, generated from a seed or taken from chat logs."""

from __future__ import annotations

import heapq
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby, takewhile
from itertools import count as count_from
from pathlib import Path
from typing import Literal, TypeVar, final

import attrs

from ccm._message import Message, Priority

_T = TypeVar("_T")


@final
@attrs.frozen
class Arrival:
    """`message` arrives `at` seconds after the start."""

    at: float
    message: Message


def traffic(
    *,
    rate: float,
    count: int | None = None,
    duration: float | None = None,
    seed: int = 0,
    arrivals: Literal["poisson", "constant"] = "poisson",
    users: int = 10,
    conversations: int = 10,
    tenants: Mapping[str, float] | None = None,
    mix: Mapping[Priority, float] | None = None,
    text: Callable[[random.Random], str] | None = None,
) -> Iterator[Arrival]:
    """Generate messages in order of arrival; the same arguments give the same messages, ids included.

    Another `mix` or `text` leaves times and senders as they are, another `rate` scales the times, and a
    longer workload begins with the shorter one.

    Args:
        rate: messages per second on average, > 0.
        count: end after so many messages, >= 0; None means no such end.
        duration: end before so many seconds, >= 0; None means no such end. Without either the workload
            is endless.
        seed: of everything drawn; also part of the ids, so that two workloads have different ones.
        arrivals: "poisson" (independent, bursty, as people are) or "constant" (every `1 / rate` s).
        users: how many people each tenant has, >= 1.
        conversations: how many conversations each tenant has, >= 1.
        tenants: share of the traffic by tenant, finite and >= 0; None is the one default tenant `""`.
        mix: share of the traffic by priority; None leaves the priority to the routes.
        text: draws a text; None numbers the messages.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 < rate < math.inf:
        raise ValueError(f"rate must be messages per second > 0, got {rate!r}")
    if arrivals not in ("poisson", "constant"):
        raise ValueError(f"arrivals must be 'poisson' or 'constant', got {arrivals!r}")
    _at_least(1, users=users, conversations=conversations)
    _at_least(0, count=count, duration=duration)
    who, what = (random.Random(f"{seed}/{stream}") for stream in ("senders", "texts"))
    tenant = _shares("tenants", {"": 1.0} if tenants is None else tenants, who)
    priorities: dict[Priority | None, float] = {None: 1.0} if mix is None else dict(mix.items())
    priority = _shares("mix", priorities, who)

    def message(number: int) -> Message:
        name = next(tenant)
        prefix = f"{name}/" if name else ""
        return Message(
            f"{prefix}conversation-{who.randrange(conversations)}",
            f"{prefix}user-{who.randrange(users)}",
            f"message {number}" if text is None else text(what),
            id=f"{seed}-{number}",
            tenant=name,
            priority=next(priority),
        )

    times = takewhile(lambda at: duration is None or at < duration, _times(rate, arrivals, seed))
    numbers = count_from() if count is None else range(count)
    return (Arrival(at, message(number)) for number, at in zip(numbers, times, strict=False))


def _at_least(least: int, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value >= least:
            raise ValueError(f"{name} must be >= {least}, got {value!r}")


def _times(rate: float, arrivals: str, seed: int) -> Iterator[float]:
    if arrivals == "constant":
        return (number / rate for number in count_from())
    rng = random.Random(f"{seed}/times")
    return accumulate(rng.expovariate(rate) for _ in count_from())


def _shares(name: str, shares: Mapping[_T, float], rng: random.Random) -> Iterator[_T]:
    """Endless draws of the keys of `shares`, by their shares."""
    keys, weights = list(shares), list(shares.values())
    if not all(0 <= weight < math.inf for weight in weights) or not sum(weights) > 0:
        raise ValueError(f"{name} must have finite shares >= 0, at least one > 0, got {dict(shares)!r}")
    bounds = list(accumulate(weights))
    return (rng.choices(keys, cum_weights=bounds)[0] for _ in count_from())


@final
@attrs.frozen
class IrcLine:
    """One thing said in a log.

    Attributes:
        file: name of the log.
        line: its line number, from 1.
        minute: when, in minutes since the midnight before the log's first line; never falls.
        nick: who.
        text: what; may be empty.
        action: whether it was said as `* nick does something`.
    """

    file: str
    line: int
    minute: int
    nick: str
    text: str
    action: bool = False


@final
@attrs.frozen
class MalformedLine:
    """A line of a log that is neither a message nor an action, and why."""

    file: str
    line: int
    text: str
    reason: str


_TIME = re.compile(r"\[([0-9]{2}):([0-9]{2})\]")
_SAID = re.compile(r" <\s*([^>\s][^>]{0,63})>(?: (.*))?")
_DONE = re.compile(r" {1,2}\* (\S{1,64})(?: (.*))?")
_TO = re.compile(r"\s*([^\s:,]+)[:,]")
_DAY = 24 * 60
# A clock set back (at most the hour of daylight saving) must not be taken for a new day.
_SET_BACK = 60


def parse_irc(lines: Iterable[str], *, name: str) -> Iterator[IrcLine | MalformedLine]:
    """Read a log of `[HH:MM] <nick> text` and `[HH:MM]  * nick does something`, one value per line.

    Never raises over what a line contains: a line that is neither comes back as a `MalformedLine`. A
    time that falls by more than an hour is past midnight; one that falls by less is a clock set back,
    and counts as no time passed.

    Args:
        lines: the log, with or without line ends.
        name: of the log, for the values; usually its file name.
    """
    minute = -1
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        stamp = _TIME.match(text)
        said = stamp and (_SAID.fullmatch(text, stamp.end()) or _DONE.fullmatch(text, stamp.end()))
        if stamp is None or not said:
            yield MalformedLine(name, number, text, _why(text, stamp))
            continue
        hour, past = int(stamp[1]), int(stamp[2])
        if hour > 23 or past > 59:
            yield MalformedLine(name, number, text, f"no such time: {stamp[0]}")
            continue
        minute = _advance(minute, hour * 60 + past)
        yield IrcLine(name, number, minute, said[1].rstrip(), said[2] or "", said.re is _DONE)


def _why(text: str, stamp: re.Match[str] | None) -> str:
    if not text.strip():
        return "empty line"
    return "no [HH:MM] at the start" if stamp is None else "neither <nick> nor * nick after the time"


def _advance(minute: int, clock: int) -> int:
    """The minute count for the time of day `clock`, when it stood at `minute` (-1: at nothing) before."""
    if minute < 0:
        return clock
    ahead = (clock - minute) % _DAY
    return minute if ahead >= _DAY - _SET_BACK else minute + ahead


def irc_traffic(
    files: Iterable[str | Path],
    *,
    speed: float = 1.0,
    by: Literal["file", "user"] = "file",
    tenant: str | Callable[[IrcLine], str] = "",
    malformed: Callable[[MalformedLine], object] | None = None,
) -> Iterator[Arrival]:
    """Replay chat logs as messages in order of arrival, all files starting at 0, side by side.

    A log knows only minutes: the messages of a minute are spread evenly over it. Ids are
    `<file>:<line>`. A text addressed to somebody of the same file (`nick: text`, `nick, text`) has
    `metadata["to"]`, an action has `metadata["action"]`.

    Args:
        files: paths of UTF-8 logs; read at once, before anything is returned.
        speed: how many seconds of the log pass in one, > 0.
        by: what is a conversation: "file" (a channel everybody shares) or "user" (each person of each
            file alone with the bot).
        tenant: of all messages, or a function of the line.
        malformed: is called with each line that could not be read; None raises on the first.

    Raises:
        ValueError: an argument is out of range, two files have one name, or a line is malformed.
        OSError: a file cannot be read.
    """
    if not 0 < speed < math.inf:
        raise ValueError(f"speed must be > 0, got {speed!r}; 1 is the speed of the log")
    if by not in ("file", "user"):
        raise ValueError(f"by must be 'file' or 'user', got {by!r}")
    logs: dict[str, list[IrcLine]] = {}
    for path in map(Path, files):
        if path.name in logs:
            raise ValueError(f"file names must differ, got {path.name!r} twice; ids are made of them")
        logs[path.name] = _read(path, malformed or _refuse)
    name_tenant = tenant if callable(tenant) else lambda line: tenant

    def play(log: Sequence[IrcLine]) -> Iterator[Arrival]:
        nicks = {line.nick.casefold(): line.nick for line in log}
        for minute, group in groupby(log, key=lambda line: line.minute):
            said = list(group)
            start = minute - log[0].minute
            for place, line in enumerate(said):
                at = (start + place / len(said)) * 60 / speed
                yield Arrival(at, _message(line, by, name_tenant(line), nicks))

    return heapq.merge(*map(play, logs.values()), key=lambda arrival: arrival.at)


def _read(path: Path, malformed: Callable[[MalformedLine], object]) -> list[IrcLine]:
    lines: list[IrcLine] = []
    # Only \n ends a line: chat contains the control characters that str.splitlines() would split at.
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for line in parse_irc(file, name=path.name):
            if isinstance(line, IrcLine):
                lines.append(line)
            else:
                malformed(line)
    return lines


def _refuse(line: MalformedLine) -> None:
    raise ValueError(
        f"{line.file}:{line.line}: {line.reason}, got {line.text!r}; pass malformed= to go on without it"
    )


def _message(line: IrcLine, by: str, tenant: str, nicks: Mapping[str, str]) -> Message:
    metadata: dict[str, object] = {"action": True} if line.action else {}
    to = _TO.match(line.text)
    if to and (nick := nicks.get(to[1].casefold())):
        metadata["to"] = nick
    return Message(
        line.file if by == "file" else f"{line.file}/{line.nick}",
        line.nick,
        line.text,
        id=f"{line.file}:{line.line}",
        tenant=tenant,
        channel=line.file,
        metadata=metadata,
    )
