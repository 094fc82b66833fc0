"""Three quick messages in one conversation: what each policy makes of them."""

import trio

import ccm

SAID = ("hi", "one more thing", "never mind")
histories: list[str] = []


async def reply(turn: ccm.Turn) -> str:
    heard = [message.text for message in turn.messages]
    for part in ("I ", "heard "):
        await turn.send(part)
        await trio.sleep(0.05)  # the model writes
    while turn.message.on_busy is ccm.OnBusy.STEER:
        try:
            heard.append(turn.steered.receive_nowait().text)  # what came in meanwhile
        except trio.WouldBlock:
            break
    histories.append(" / ".join(entry.text.strip() for entry in await turn.history()))
    return f"I heard {' and '.join(heard)}"


def describe(outcome: ccm.Outcome) -> str:
    if isinstance(outcome, ccm.Replied):
        return str(outcome.reply)
    if isinstance(outcome, ccm.Merged):
        return f"{outcome.reply} (merged into turn {outcome.into})"
    return str(outcome)


async def main() -> None:
    for policy in ccm.OnBusy:
        print(policy.name)
        async with ccm.open_manager(reply) as manager:
            receipts = []
            for number, text in enumerate(SAID):
                message = ccm.Message("dm", "ada", text, id=f"m{number + 1}", on_busy=policy)
                try:
                    receipts.append((text, await manager.submit(message)))
                except ccm.BusyConversation as refusal:
                    print(f"  {text}: {refusal}")
                await trio.sleep(0.01)
            for text, receipt in receipts:
                print(f"  {text}: {describe(await receipt.outcome())}")
            print(f"  what the last turn saw: {histories[-1]}")


trio.run(main)
