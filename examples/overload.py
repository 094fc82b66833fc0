"""More comes in than can be answered: give up the least urgent first, and say so politely."""

import trio

import ccm


async def reply(turn: ccm.Turn) -> str:
    await trio.sleep(0.1)  # ask your model here
    return "a thoughtful answer"


async def excuse(turn: ccm.Turn) -> str:
    # Answers at once, outside the slots, for turns that were shed, expired or failed.
    return f"sorry, too busy ({turn.degraded})"


config = ccm.Config(
    limit=2,
    headroom={},  # every class may use both slots
    queue_limit=3,  # turns that may wait
    overflow=ccm.Overflow.SHED_LOWEST,
    max_wait={ccm.NORMAL: 0.08},  # seconds after which the answer would come too late
)

ARRIVALS = (
    ("first", ccm.NORMAL),
    ("second", ccm.NORMAL),
    ("small talk", ccm.LOW),
    ("chat", ccm.NORMAL),
    ("support", ccm.HIGH),
    ("urgent", ccm.HIGH),  # the queue is full: the small talk is shed
    ("more small talk", ccm.LOW),  # nothing waits that is less urgent: refused
)


async def ask(manager: ccm.ConversationManager, text: str, priority: ccm.Priority) -> None:
    message = ccm.Message(f"dm-{text}", f"user-{text}", text, priority=priority)
    try:
        print(f"{text}: {await manager.ask(message)}")
    except ccm.Rejected as refusal:  # never accepted; nothing about it is kept
        print(f"{text}: {refusal.reason.sentence}")
    except ccm.CcmError as error:  # accepted, but shed, expired, cancelled or failed
        print(f"{text}: {error}")


async def main() -> None:
    async with (
        ccm.open_manager(reply, config=config, fallback=excuse) as manager,
        trio.open_nursery() as nursery,
    ):
        for text, priority in ARRIVALS:
            nursery.start_soon(ask, manager, text, priority)
            await trio.sleep(0.003)


trio.run(main)
