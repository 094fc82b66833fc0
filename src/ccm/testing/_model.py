"""A stand-in for whoever answers: slow, unreliable, and the same every time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol, TypeAlias, final

import attrs
import trio

from ccm._errors import Busy
from ccm._message import Message
from ccm.testing._clock import sleep

Latency: TypeAlias = Callable[[random.Random], float]
"""Draws the seconds one answer takes, >= 0."""


class ModelError(Exception):
    """What a `FakeModel` raises when it fails."""


class _Turn(Protocol):
    @property
    def message(self) -> Message: ...
    @property
    def attempt(self) -> int: ...


def _at_least_0(name: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and >= 0, got {value!r}")
    return value


def constant(seconds: float) -> Latency:
    """Every answer takes `seconds`, >= 0."""
    _at_least_0("seconds", seconds)
    return lambda rng: seconds


def uniform(low: float, high: float) -> Latency:
    """Answers take between `low` and `high` seconds, each as likely; 0 <= low <= high."""
    if not _at_least_0("low", low) <= _at_least_0("high", high):
        raise ValueError(f"low must be at most high, got {low!r} and {high!r}; swap them")
    return lambda rng: rng.uniform(low, high)


def lognormal(median: float, sigma: float) -> Latency:
    """Half the answers take up to `median` seconds (> 0), a few far longer: the shape of real models.

    `sigma` (>= 0) is the spread of the logarithm: with 1.0 one answer in a hundred takes ten medians.
    """
    if not _at_least_0("median", median):
        raise ValueError(f"median must be > 0, got {median!r}")
    _at_least_0("sigma", sigma)
    mu = math.log(median)
    return lambda rng: math.exp(rng.gauss(mu, sigma))


@final
@attrs.frozen(kw_only=True)
class Failures:
    """Which share of the calls fails, and how.

    Args:
        errors: share that raises `ModelError` after its latency.
        busy: share that raises `ccm.Busy(retry_after)` at once, as a provider's 429 does.
        hangs: share that never returns and has to be cancelled.
        retry_after: seconds given with `ccm.Busy`, >= 0.

    Raises:
        ValueError: a share is outside 0..1, or they add up to more than 1.
    """

    errors: float = 0.0
    busy: float = 0.0
    hangs: float = 0.0
    retry_after: float = 1.0

    def __attrs_post_init__(self) -> None:
        for name in ("errors", "busy", "hangs", "retry_after"):
            _at_least_0(name, getattr(self, name))
        if self.errors + self.busy + self.hangs > 1:
            raise ValueError(f"errors, busy and hangs must add up to at most 1, got {self!r}")


@final
class FakeModel:
    """A handler, `await model(turn) -> str`, with a latency and a failure profile.

    What happens to a call depends on the seed, the message and the attempt alone, not on the calls
    before it: leaving one message out of a workload does not move the others. The message counts by its
    id or, when that was generated, by its tenant, conversation, user and text.

    Args:
        latency: seconds per answer, or a function of a `random.Random`: `constant`, `uniform`,
            `lognormal`, or your own.
        failures: which calls fail.
        seed: of everything it draws.
        chunks: above 1, the answer is also sent through `await turn.send(piece)` in at most as many
            pieces, spread evenly over the latency.
        reply: makes the answer out of the message's text.

    Attributes:
        calls: calls so far.
        running: calls under way.
        peak_running: the most there were at a time.
        completed, failed, cancelled: how the calls ended; with `running` they add up to `calls`.

    Cancelling a call ends it at once.
    """

    def __init__(
        self,
        *,
        latency: float | Latency = 0.1,
        failures: Failures | None = None,
        seed: int = 0,
        chunks: int = 1,
        reply: Callable[[str], str] = "re: {}".format,
    ) -> None:
        if chunks < 1:
            raise ValueError(f"chunks must be >= 1, got {chunks!r}; 1 does not stream")
        self._latency = latency if callable(latency) else constant(latency)
        self._failures = failures or Failures()
        self._seed = seed
        self._chunks = chunks
        self._reply = reply
        self.calls = self.running = self.peak_running = 0
        self.completed = self.failed = self.cancelled = 0

    async def __call__(self, turn: _Turn) -> str:
        self.calls += 1
        self.running += 1
        self.peak_running = max(self.peak_running, self.running)
        try:
            answer = await self._answer(turn)
        except Exception:
            self.failed += 1
            raise
        except BaseException:
            self.cancelled += 1
            raise
        else:
            self.completed += 1
            return answer
        finally:
            self.running -= 1

    async def _answer(self, turn: _Turn) -> str:
        # A string seeds through SHA-512, which is the same in every process; hash() is not.
        rng = random.Random(repr((self._seed, _key(turn.message), turn.attempt)))
        fate, seconds = rng.random(), self._latency(rng)
        failures = self._failures
        if fate < failures.hangs:
            await trio.sleep_forever()
        if fate < failures.hangs + failures.busy:
            await trio.lowlevel.checkpoint()
            raise Busy(failures.retry_after)
        if fate < failures.hangs + failures.busy + failures.errors:
            await sleep(seconds)
            raise ModelError(f"made to fail, attempt {turn.attempt} at {turn.message.text!r}")
        return await self._speak(turn, self._reply(turn.message.text), seconds)

    async def _speak(self, turn: Any, answer: str, seconds: float) -> str:
        pieces = _split(answer, self._chunks)
        await sleep(seconds / len(pieces))
        if self._chunks > 1:
            await turn.send(pieces[0])
        for piece in pieces[1:]:
            await sleep(seconds / len(pieces))
            await turn.send(piece)
        return answer


def _key(message: Message) -> tuple[str, ...]:
    if message.generated_id:
        return ("text", message.tenant, message.conversation, message.user, message.text)
    return ("id", message.tenant, message.id)


def _split(text: str, pieces: int) -> list[str]:
    """`text` in at most `pieces` parts of about equal length, none empty unless the text is."""
    bounds = [len(text) * part // pieces for part in range(pieces + 1)]
    return [text[a:b] for a, b in pairwise(bounds) if a < b] or [text]
