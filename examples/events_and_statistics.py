"""Watch a bot: every step as an event, and one consistent picture of everything at any time."""

import random
from collections import Counter

import trio

import ccm

seen: Counter[str] = Counter()


async def reply(turn: ccm.Turn) -> str:
    await trio.sleep(random.uniform(0.01, 0.05))  # ask your model here
    if turn.attempt == 1 and turn.message.user == "user-3":
        raise ConnectionError("the model hung up")  # tried again by itself
    return "an answer"


async def watch(stream: ccm.EventStream) -> None:
    async for event in stream:  # ends when the manager has closed
        seen[type(event).__name__] += 1


async def main() -> None:
    config = ccm.Config(limit=5, retry=ccm.RetryPolicy(attempts=3, base=0.02))
    # A reader that falls behind loses events and is told how many; the bot never waits for it.
    async with (
        ccm.open_manager(reply, config=config) as manager,
        manager.events(buffer=1000) as stream,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(watch, stream)
        for number in range(60):
            user = f"user-{number % 20}"
            await manager.submit(ccm.Message(f"dm-{user}", user, "hello", channel="dm"))
            await trio.sleep(0.005)
        report(manager.statistics())
        await manager.wait_idle()
        report(manager.statistics())
        nursery.cancel_scope.cancel()  # stop watching
    print("events:", dict(seen))


def report(now: ccm.Statistics) -> None:
    now.check()  # law G1: every message is in exactly one place
    wait, queue = now.wait[ccm.NORMAL], now.queues[ccm.NORMAL]
    print(f"{now.conservation()}; success rate {now.success_rate:.0%}")
    print(f"  {now.slots_in_use} of {now.limit} slots, at most {now.peak_running}; {queue.waiting} wait")
    print(f"  wait p50 {wait.p50:.3f} s, p99 {wait.p99:.3f} s; {now.rates.last_1s:.0f} turns a second")
    print(f"  retries {now.routes['chat'].retries}, live conversations {now.sessions.total}")


trio.run(main)
