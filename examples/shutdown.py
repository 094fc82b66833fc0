"""A deploy stops the bot with SIGTERM: what was accepted is answered first, within a deadline."""

import os
import signal

import trio

import ccm


async def reply(turn: ccm.Turn) -> str:
    try:
        await trio.sleep(0.2 if turn.text == "short" else 60)  # ask your model here
    finally:
        print(f"{turn.text}: the handler has cleaned up")
    return "an answer"


async def main() -> None:
    config = ccm.Config(drain=0.5)  # seconds; keep it below what the platform waits before it kills
    receipts = []
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with ccm.open_manager(reply, config=config) as manager:
            for text in ("short", "endless"):
                receipts.append(await manager.submit(ccm.Message(f"dm-{text}", "ada", text)))
            os.kill(os.getpid(), signal.SIGTERM)  # stands for the platform's
            async for number in signals:
                print(f"{signal.Signals(number).name}: no new messages from here on")
                break
        # Leaving the block waited until all was answered, or until the deadline.
    for receipt in receipts:
        print(await receipt.outcome())


trio.run(main)
