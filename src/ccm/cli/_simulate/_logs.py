"""Messages of real chat logs, said again by many times as many people."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import groupby

from ccm import by_content
from ccm.testing import Arrival, MalformedLine, irc_traffic

from .._console import UsageError
from ._people import DRAW, STAMP, drawing
from ._scenario import Replay, Scenario


def read_logs(replay: Replay) -> tuple[list[list[Arrival]], list[MalformedLine]]:
    """The messages of each log in order, with their classes, and the lines that are none.

    Raises:
        UsageError: a log cannot be read, or there is no message in any of them.
    """
    malformed: list[MalformedLine] = []
    try:
        arrivals = list(
            irc_traffic(replay.logs, speed=replay.speed, by=replay.by, malformed=malformed.append)
        )
    except OSError as error:
        raise UsageError(f"cannot read {error.filename!r}: {error.strerror}; name chat logs") from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not arrivals:
        raise UsageError("no message in these logs; a line looks like this: [12:34] <nick> text")
    urgency = by_content()
    said = [
        Arrival(a.at, a.message.replace(priority=urgency(a.message, None), metadata={})) for a in arrivals
    ]
    said.sort(key=lambda arrival: arrival.message.channel)  # stable: by time inside each log
    return [list(log) for _, log in groupby(said, key=lambda arrival: arrival.message.channel)], malformed


def replayed(scenario: Scenario, logs: Sequence[Sequence[Arrival]]) -> Iterator[Arrival]:
    """Every log `scale` times: each copy with people, conversations and a tenant of its own, and the times
    of all but the first moved by up to `shift` seconds."""
    replay = scenario.replay
    assert replay is not None
    moves = random.Random(f"{scenario.seed}/moves")
    copies = []
    for number, log in enumerate(logs):
        for copy in range(replay.scale):
            move = moves.uniform(0.0, replay.shift) if copy else 0.0
            copies.append(_copy(scenario, log, f"{number}-{copy}", f"#{copy + 1}", move / replay.speed))
    return merge(*copies, key=lambda arrival: arrival.at)


def _copy(
    scenario: Scenario, log: Sequence[Arrival], number: str, mark: str, move: float
) -> Iterator[Arrival]:
    draw = drawing(f"{scenario.seed}/{number}", scenario.answers.latency)
    for count, arrival in enumerate(log):
        said = arrival.message
        assert said.priority is not None
        yield Arrival(
            arrival.at + move,
            STAMP(
                said.conversation + mark, f"{said.channel}/{said.user}{mark}", f"{number}-{count}",
                said.channel + mark, said.priority, {DRAW: draw(said.priority)},
            ),
        )  # fmt: skip


def span(replay: Replay, logs: Sequence[Sequence[Arrival]]) -> float:
    """Seconds from the first message to the last one that any copy may have."""
    return max(log[-1].at for log in logs) + replay.shift / replay.speed
