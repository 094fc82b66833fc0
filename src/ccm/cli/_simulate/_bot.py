"""Who answers: a handler with latencies, failures and outages, in front of a provider that takes so much."""

from __future__ import annotations

import random
from typing import final

import trio

from ccm import Busy, Priority, Turn
from ccm.testing import ModelError
from ccm.testing._clock import sleep

from ._people import DRAW
from ._scenario import Answers, Outage, Provider

_INF = float("inf")


@final
class Bot:
    """A handler. What happens to a call depends on the message, the attempt, the outages and the provider.

    Attributes:
        handler: to be called with a turn.
        busy: calls that were told that the provider is busy.
        calls: calls in all.
    """

    def __init__(self, answers: Answers, seed: int) -> None:
        self.calls = 0
        self.busy = 0
        self.handler = self._answer if answers.limit is None else self._answer_in_turn
        self._answers = answers
        self._seed = seed
        self._latency = [answers.latency[priority] for priority in Priority]
        self._failures = answers.failures
        self._unsure = any((self._failures.errors, self._failures.busy, self._failures.hangs))
        self._outages = answers.outages
        self._gate = None if answers.provider is None else Gate(answers.provider)

    async def _answer_in_turn(self, turn: Turn) -> str:
        """As a handler does that keeps to the provider's limit."""
        assert self._answers.limit is not None
        async with turn.limit(self._answers.limit):
            return await self._answer(turn)

    async def _answer(self, turn: Turn) -> str:
        self.calls += 1
        message = turn.message
        fate, seconds = message.metadata[DRAW] if turn.attempt == 1 else self._again(turn)
        if self._outages:
            seconds = await self._in_outage(turn, seconds)
        if self._unsure:
            await self._or_fail(fate, seconds)
        gate = self._gate
        if gate is None:
            await sleep(seconds)
            return "answer"
        retry_after = gate.enter(trio.current_time())
        if retry_after is not None:
            self._refuse(retry_after)
        try:
            await sleep(seconds)
        finally:
            gate.inside -= 1
        return "answer"

    def _again(self, turn: Turn) -> tuple[float, float]:
        """Other draws for another attempt."""
        # A string seeds through SHA-512, which is the same in every process; hash() is not.
        draw = random.Random(f"{self._seed}/{turn.message.text}/{turn.attempt}")
        priority = turn.message.priority
        return draw.random(), self._latency[Priority.NORMAL if priority is None else priority](draw)

    def _refuse(self, retry_after: float) -> None:
        self.busy += 1
        raise Busy(retry_after)

    async def _in_outage(self, turn: Turn, seconds: float) -> float:  # noqa: ASYNC910 - part of an answer
        """What the outages of now do to the call: the seconds that it takes, or an error."""
        now = trio.current_time()
        for outage in self._outages:
            if outage.start <= now < outage.end and (outage.share >= 1.0 or self._hit(outage, turn)):
                if outage.what == "slow":
                    seconds *= outage.factor
                elif outage.what == "busy":
                    self._refuse(outage.retry_after)
                elif outage.what == "hang":
                    await trio.sleep_forever()
                else:
                    await sleep(seconds)
                    raise ModelError("the provider is out of order")
        return seconds  # noqa: ASYNC910

    def _hit(self, outage: Outage, turn: Turn) -> bool:
        of = f"{self._seed}/{outage.start}/{turn.message.text}/{turn.attempt}"
        return random.Random(of).random() < outage.share

    async def _or_fail(self, fate: float, seconds: float) -> None:  # noqa: ASYNC910 - part of an answer
        failures = self._failures
        if fate < failures.hangs:
            await trio.sleep_forever()
        if fate < failures.hangs + failures.busy:
            self._refuse(failures.retry_after)
        if fate < failures.hangs + failures.busy + failures.errors:
            await sleep(seconds)
            raise ModelError("made to fail")

    async def fall_back(self, turn: Turn) -> str:
        """The handler for those that got no answer in time."""
        assert self._answers.fallback is not None
        draw = random.Random(f"{self._seed}/{turn.message.text}/fallback")
        await sleep(self._answers.fallback(draw))
        return "excuse"


@final
class Gate:
    """Lets in as many calls as a provider takes: at a time, and per second with some in store (a token
    bucket).

    Attributes:
        inside: calls under way; whoever was let in takes its own off.
    """

    def __init__(self, provider: Provider) -> None:
        self.inside = 0
        self._most = _INF if provider.concurrency is None else provider.concurrency
        self._rate = provider.rate
        self._burst = self._tokens = float(provider.burst)
        self._at = 0.0
        self._retry_after = provider.retry_after

    def enter(self, now: float) -> float | None:
        """Let a call in (None), or the seconds after which it should come back. O(1)."""
        wait: float | None = None
        if self._rate is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
            if self._tokens < 1.0:
                wait = (1.0 - self._tokens) / self._rate
        if wait is None and self.inside >= self._most:
            wait = 1.0
        if wait is not None:
            return wait if self._retry_after is None else self._retry_after
        if self._rate is not None:
            self._tokens -= 1.0
        self.inside += 1
        return None
