"""The bot behind the dashboard's tests: what it does depends on the text, and on gates that tests open."""

from __future__ import annotations

from typing import Any, final

import trio

import ccm


@final
class Bot:
    """A handler.

    Attributes:
        broken: whether texts with "fail" fail for good.
        gate: "story" waits for it in the middle.
        stories: how many have come as far as that.
    """

    def __init__(self) -> None:
        self.broken = True
        self.gate = trio.Event()
        self.seen: list[str] = []
        self.stories = 0
        self._come = trio.Event()

    async def waits(self, number: int) -> None:
        """Wait until so many stories have come to the gate; it opens for none that comes later."""
        while self.stories < number:
            self._come = trio.Event()
            await self._come.wait()

    def open(self) -> None:
        """Let the stories that wait go on."""
        self.gate.set()
        self.gate = trio.Event()

    async def __call__(self, turn: ccm.Turn) -> Any:
        text = turn.text
        self.seen.append(text)
        if "fail" in text and self.broken:
            raise ccm.Permanent("the model is gone")
        if "hang" in text:
            await turn.send("thinking about it… ")
            await trio.sleep_forever()
        if "story" in text:
            gate = self.gate
            await turn.send("Once upon ")
            self.stories += 1
            self._come.set()
            await gate.wait()
            await turn.send("a time.")
            return None
        if "class" in text:
            asked = turn.message.priority
            return f"handled as {'any' if asked is None else asked.name}"
        return f"you said: {text}"


async def remember(item: Any) -> None:
    """A service's work."""
    await trio.lowlevel.checkpoint()


def config() -> ccm.Config:
    """Five messages in ten seconds and user, one try each."""
    return ccm.Config(limit=4, rate_limit=ccm.RateLimit(20, per=10), retry=ccm.RetryPolicy(attempts=1))


def alerts() -> ccm.AlertRules:
    """One dead letter is worth a look."""
    return ccm.AlertRules(dead_letters=ccm.Threshold(1, 100), idle=None, error_rate=None, interval=0.1)
