"""One guild floods the bot; the others hardly notice. One of them has paid for a double share."""

from collections import Counter

import trio

import ccm

starts: list[str] = []


async def reply(turn: ccm.Turn) -> str:
    starts.append(turn.message.tenant)
    await trio.sleep(0.002)  # ask your model here
    return "an answer"


async def main() -> None:
    config = ccm.Config(limit=1, weights={"gold": 2}, rate_limit=None)
    async with ccm.open_manager(reply, config=config) as manager:
        sent = {"flood": 200, "calm": 10, "gold": 20}
        for tenant, count in sent.items():  # the flood comes first
            for number in range(count):
                conversation = f"{tenant}/channel-{number % 10}"
                user = f"{tenant}/user-{number}"
                manager.submit_nowait(ccm.Message(conversation, user, "hello", tenant=tenant))
        await manager.wait_idle()

    print("messages of each tenant:", sent)
    print("the first 12 turns:", " ".join(starts[:12]))
    print("of the first 40 turns:", dict(sorted(Counter(starts[:40]).items())))


trio.run(main)
