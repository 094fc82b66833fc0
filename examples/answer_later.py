"""Hand a message in and go on: the answer is delivered when it is ready, once per message id."""

import trio

import ccm


async def reply(turn: ccm.Turn) -> str:
    await trio.sleep(0.05)  # ask your model here
    return f"hello {turn.message.user}"


async def deliver(answer: ccm.Reply, message: ccm.Message) -> None:
    # Called in the order of the conversation. When it raises, it is tried again, so it may run more than
    # once for one message: let the platform recognise a repetition by the turn's id.
    print(f"to {message.conversation}: {answer} (turn {answer.turn_id})")


async def on_webhook(manager: ccm.ConversationManager, event: dict[str, str]) -> str:
    message = ccm.Message(event["chat"], event["from"], event["text"], id=event["id"], tenant="webhook")
    try:
        receipt = await manager.submit(message)
    except ccm.Duplicate as duplicate:  # the platform sent it twice; the first one counts
        return f"{event['id']} is known as turn {duplicate.receipt.turn_id}"
    except ccm.Rejected as refusal:
        return f"{event['id']} refused: {refusal.reason.sentence}"
    return f"{event['id']} accepted as turn {receipt.turn_id}, {receipt.position} ahead"


async def main() -> None:
    async with ccm.open_manager(reply, deliver=deliver) as manager:
        first = {"id": "m-1", "chat": "dm-ada", "from": "ada", "text": "hi"}
        second = {"id": "m-2", "chat": "dm-ada", "from": "ada", "text": "are you there?"}
        for event in (first, second, first):
            print(await on_webhook(manager, event))


trio.run(main)
