import trio

import ccm


async def reply(turn: ccm.Turn) -> str:
    await trio.sleep(0.1)  # ask your model here
    return f"{turn.message.user}, you said: {turn.text}"


async def main() -> None:
    async with ccm.open_manager(reply) as manager:
        receipt = await manager.submit(ccm.Message("channel-1", "ada", "hello"))
        print(await manager.ask(ccm.Message("channel-2", "bob", "help!", priority=ccm.Priority.HIGH)))
        print(await receipt.outcome())


trio.run(main)
