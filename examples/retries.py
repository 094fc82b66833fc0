"""What a handler raises decides what follows: another attempt, a pause, or the end."""

import trio

import ccm


async def reply(turn: ccm.Turn) -> str:
    if turn.text == "flaky" and turn.attempt < 3:
        raise ConnectionError("the model hung up")  # any Exception: tried again after a growing pause
    if turn.text == "busy" and turn.attempt == 1:
        raise ccm.Busy(retry_after=0.1)  # a provider's 429: later, and no attempt is used up
    if turn.text == "poison":
        raise ccm.Permanent("no model will ever answer this")  # no other attempt
    if turn.text == "slow":
        await trio.sleep(60)  # cancelled after `timeout` seconds; counts as a failed attempt
    return f"answered in attempt {turn.attempt}"


async def main() -> None:
    config = ccm.Config(timeout=0.1, retry=ccm.RetryPolicy(attempts=3, base=0.05, cap=1))
    async with ccm.open_manager(reply, config=config) as manager:
        for text in ("flaky", "busy", "poison", "slow"):
            try:
                print(f"{text}: {await manager.ask(ccm.Message(f'dm-{text}', 'ada', text))}")
            except ccm.HandlerFailed as failure:
                print(f"{text}: {failure.__cause__!r}")
        for letter in manager.dead_letters():
            print(f"kept: {letter.text!r} after {letter.attempts} attempts")


trio.run(main)
