"""A reply read as it is written: what a retry and a newer message do to it."""

import trio

import ccm


async def reply(turn: ccm.Turn) -> None:
    for number, word in enumerate(("once", "upon", "a", "time")):
        await trio.sleep(0.05)  # as the model writes
        if turn.text == "flaky" and turn.attempt == 1 and number == 2:
            raise ConnectionError("the model hung up")
        await turn.send(word + " ")  # waits until the reader has it; without a reader it goes on at once
    # Returning None: what was sent is the reply.


async def read(manager: ccm.ConversationManager, text: str) -> None:
    async with manager.stream(ccm.Message("dm", "ada", text)) as pieces:
        try:
            async for piece in pieces:
                if isinstance(piece, ccm.Restarted):
                    print(f"{text}: (forget that: attempt {piece.attempt} begins)")
                else:
                    print(f"{text}: {piece}")
        except ccm.Superseded:
            print(f"{text}: (a newer message came; so far it said {pieces.text!r})")
        else:
            print(f"{text}: (complete: {pieces.text!r})")


async def leave_early(manager: ccm.ConversationManager) -> None:
    async with manager.stream(ccm.Message("dm", "ada", "enough")) as pieces:
        async for piece in pieces:
            print(f"enough: {piece}")
            break
    # Leaving the block cancels the turn: no words are paid for that nobody reads.


async def main() -> None:
    config = ccm.Config(on_busy=ccm.OnBusy.INTERRUPT, retry=ccm.RetryPolicy(base=0))
    async with ccm.open_manager(reply, config=config) as manager:
        await read(manager, "flaky")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, manager, "story")
            await trio.sleep(0.12)  # after two words
            nursery.start_soon(read, manager, "no, wait")
        await leave_early(manager)
        await manager.wait_idle()
        print(manager.statistics().conservation())


trio.run(main)
