"""Moderation warns within milliseconds while slow answers hold every slot it does not have to itself."""

import sys

import trio

import ccm

TARGET = 0.1  # seconds
SLOW = 50
warn, warned = trio.open_memory_channel[str](10)


async def chat(turn: ccm.Turn) -> str:
    await trio.sleep(1)  # a slow model
    return "a long answer"


async def moderate(turn: ccm.Turn) -> None:
    print(f"warning: {turn.message.user} posted {turn.text!r}")
    warn.send_nowait(turn.message.user)


async def main() -> bool:
    router = ccm.Router.default(chat, moderation=moderate)
    # Four slots are kept for what is CRITICAL; the others are open to everybody.
    config = ccm.Config(limit=SLOW + 4, headroom={ccm.CRITICAL: 4})
    worst = 0.0
    async with ccm.open_manager(router, config=config) as manager:
        for number in range(2 * SLOW):
            manager.submit_nowait(ccm.Message(f"channel-{number}", f"user-{number}", "tell me a story"))
        await trio.sleep(0.5)
        statistics = manager.statistics()
        print(f"{statistics.running} slow answers run, {statistics.waiting} wait")
        # The last one is over the rate limit: it is refused, and moderated all the same.
        for number in range(6):
            sent = trio.current_time()
            try:
                manager.submit_nowait(ccm.Message(f"channel-{number}", "mallory", "join discord.gg/spam"))
            except ccm.RateLimited as refusal:
                print(f"mallory may write again in {refusal.retry_after:.0f} s")
            with trio.move_on_after(10 * TARGET):
                await warned.receive()
            worst = max(worst, trio.current_time() - sent)
    print(f"slowest warning: {1000 * worst:.1f} ms after the message (target: {1000 * TARGET:.0f} ms)")
    return worst < TARGET


if not trio.run(main):
    sys.exit(1)
