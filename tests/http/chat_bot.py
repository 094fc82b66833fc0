"""The bot that tests of the front end talk to."""

from __future__ import annotations

import trio

import ccm

ONCE = ccm.Config(rate_limit=None, retry=ccm.RetryPolicy(attempts=1))


class Bot:
    """A handler that says its answer in words, waits when told to, and notes what happened."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.cancelled: list[str] = []
        self.go, self.started = trio.Event(), trio.Event()

    async def __call__(self, turn: ccm.Turn) -> str | None:
        self.seen.append(turn.text)
        self.started.set()
        try:
            match turn.text.split()[0]:
                case "wait":
                    await self.go.wait()
                case "hang":
                    await trio.sleep_forever()
                case "fail":
                    raise ValueError("secret of the handler")
                case "write":
                    for word in turn.text.split():
                        await turn.send(word + " ")
                    return None
        except trio.Cancelled:
            self.cancelled.append(turn.text)
            raise
        return f"re {turn.text}"
