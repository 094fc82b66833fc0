"""A feed that is faster than the bot: with `Overflow.WAIT` the feed waits, and nothing is refused."""

import trio

import ccm


async def reply(turn: ccm.Turn) -> None:
    await trio.sleep(0.01)  # ask your model here


async def main() -> None:
    config = ccm.Config(limit=4, queue_limit=8, overflow=ccm.Overflow.WAIT, rate_limit=None)
    longest = 0
    async with ccm.open_manager(reply, config=config) as manager:
        for number in range(100):
            await manager.submit(ccm.Message(f"dm-{number % 20}", f"user-{number}", "hello"))
            longest = max(longest, manager.statistics().waiting)
        try:
            for number in range(20):
                manager.submit_nowait(ccm.Message(f"dm-{number}", "ada", "hello"))
        except trio.WouldBlock:
            print("submit_nowait never waits: it says that submit would")
        await manager.wait_idle()
        print(f"at most {longest} waited; {manager.statistics().conservation()}")


trio.run(main)
