"""Plays scenarios, one after the other, and keeps what that costs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

from ccm import ConfigError
from ccm.testing import Arrival, rehearse

from .. import _replay
from .._console import UsageError
from ._bot import Bot
from ._logs import read_logs, replayed, span
from ._people import people
from ._report import Report, judged
from ._scenario import Replay, Scenario

STEPS = 180
"""At most so many steps in a timeline."""


@final
class Player:
    """Plays scenarios and keeps what it costs."""

    def __init__(self) -> None:
        self._messages = 0
        self._virtual = self._real = 0.0
        self._logs: dict[Replay, list[list[Arrival]]] = {}
        self._done = 0

    def play(
        self, scenario: Scenario, varied: Mapping[str, Any], show: Callable[[float], object] | None
    ) -> Report:
        """Run one scenario to its end, and judge it."""
        arrivals, length = self._workload(scenario)
        bot = Bot(scenario.answers, scenario.seed)
        started = time.perf_counter()
        try:
            run = rehearse(
                arrivals, bot.handler, config=scenario.config, seed=scenario.seed,
                fallback=None if scenario.answers.fallback is None else bot.fall_back,
                duration=scenario.duration if scenario.duration < math.inf else None,
                step=scenario.step or step_for(length),
                progress=None if show is None else lambda now: show(self._done + min(1.0, now / length)),
            )  # fmt: skip
        except ConfigError as error:
            raise UsageError(str(error)) from None
        self._real += time.perf_counter() - started
        self._messages += run.sent
        self._virtual += run.seconds
        self._done += 1
        return Report(
            scenario=scenario, varied=varied, rehearsal=run, busy=bot.busy, calls=bot.calls,
            aimed=judged(scenario, run),
        )  # fmt: skip

    def _workload(self, scenario: Scenario) -> tuple[Iterator[Arrival], float]:
        """The messages, and about how many seconds they take."""
        replay = scenario.replay
        if replay is None:
            return people(scenario), scenario.duration
        if replay not in self._logs:
            self._logs[replay], malformed = read_logs(replay)
            _replay.tell(malformed)
        logs = self._logs[replay]
        return replayed(scenario, logs), min(scenario.duration, span(replay, logs))

    @property
    def speed(self) -> str:
        """What it cost, for people."""
        real = max(self._real, 1e-9)
        return (
            f"ccm: simulated {self._virtual:.0f} s and {self._messages} messages in {self._real:.1f} s: "
            f"{self._virtual / real:.0f} s a second, {self._messages / real:.0f} messages a second"
        )


def step_for(seconds: float) -> float:
    """A round number of seconds that makes at most `STEPS` steps of `seconds`."""
    least = max(seconds, 1e-3) / STEPS
    unit = 10.0 ** math.floor(math.log10(least))
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= least * (1 - 1e-9))
