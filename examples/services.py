"""Work that nobody should wait for: a memory writer with two instances, retries and dead letters."""

import trio

import ccm

disk_full = True
memory: ccm.Service


async def write_memory(fact: str) -> None:
    await trio.sleep(0.01)  # write to your database here
    if fact == "poison" and disk_full:
        raise OSError("no space left")
    item = ccm.Service.current()
    print(f"remembered {fact!r} from {item.source}, attempt {item.attempt}")


async def mood_of(text: str) -> str:
    await trio.sleep(0.01)
    return "happy" if "!" in text else "calm"


async def reply(turn: ccm.Turn) -> str:
    mood = await turn.call("mood", turn.text)  # waits for the result, as urgent as the turn
    await memory.send(turn.text, source=turn.message.user, priority=ccm.LOW)  # waits only when it is full
    return f"you sound {mood}"


async def main() -> None:
    global memory, disk_full
    config = ccm.Config(retry=ccm.RetryPolicy(attempts=2, base=0.01))
    async with ccm.open_manager(reply, config=config) as manager:
        memory = manager.service("memory", write_memory, concurrency=2, queue=100)
        manager.service("mood", mood_of)
        for text in ("hello!", "i like tea", "poison"):
            print(await manager.ask(ccm.Message("dm-ada", "ada", text)))
        await manager.wait_idle()

        for letter in manager.dead_letters():
            print(f"kept: {letter.service} failed on {letter.text}: {letter.error}")
            disk_full = False
            await manager.replay(letter.id)
        await manager.wait_idle()
        for name, figures in manager.statistics().services.items():
            print(f"{name}: {figures.done} done, {figures.errors} errors, {figures.dead} dead")
        print("bottlenecks:", manager.statistics().bottlenecks)


trio.run(main)
