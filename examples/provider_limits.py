"""A provider that takes two calls at a time and, for a moment, none: nobody is lost, it is not stormed."""

from __future__ import annotations

import trio

import ccm

CONFIG = ccm.Config(limit=8, headroom={}, provider_limits={"model": ccm.ProviderLimit(2)})
OUTAGE = (0.25, 0.45)  # seconds after the start


class Provider:
    """Answers after 0.1 s; during the outage it says when to come back."""

    def __init__(self) -> None:
        self.start = trio.current_time()
        self.calls = 0

    async def complete(self, text: str) -> str:
        self.calls += 1
        now = trio.current_time() - self.start
        if OUTAGE[0] <= now < OUTAGE[1]:
            raise ccm.Busy(retry_after=OUTAGE[1] - now)  # what an HTTP client makes of a 429
        await trio.sleep(0.1)
        return f"about {text}: it depends"


async def ask_model(turn: ccm.Turn, provider: Provider) -> str:
    async with turn.limit("model"):
        return await provider.complete(turn.text)


async def main() -> None:
    provider = Provider()

    async def reply(turn: ccm.Turn) -> str:
        return await ask_model(turn, provider)

    async with ccm.open_manager(reply, config=CONFIG) as manager:
        async with trio.open_nursery() as people:
            for number in range(10):
                message = ccm.Message(f"channel-{number}", f"user-{number}", f"topic {number}")
                people.start_soon(manager.ask, message)
        statistics = manager.statistics()
        print(statistics.conservation())
        print(f"{provider.calls} calls for {statistics.received} messages")
        figures = statistics.providers["model"]
        print(f"told to wait: {figures.busy} by the provider, {figures.held_back} before they asked it")


if __name__ == "__main__":
    trio.run(main)
