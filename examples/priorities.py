"""Urgent messages first: classes taken from the text, and moderation beside the chat."""

import trio

import ccm

router = ccm.Router()


@router.route(
    "moderation",
    when=ccm.matches(r"https?://|discord\.gg/"),
    priority=ccm.CRITICAL,
    ordered=False,  # starts at once, even while the conversation is busy
    answers=False,  # runs beside the answer
    rate_limited=False,  # nobody escapes moderation by flooding
)
async def moderate(turn: ccm.Turn) -> None:
    print(f"  moderation looks at {turn.text!r}")


@router.route("chat", priority=ccm.by_content(violation=None))
async def chat(turn: ccm.Turn) -> str:
    print(f"  chat answers        {turn.text!r}")
    await trio.sleep(0.05)  # ask your model here
    return "an answer"


SAID = (
    ("ada", "nice weather"),  # NORMAL, and first: a slot is free
    ("bob", "lunch soon"),  # NORMAL
    ("cy", "see http://example.org"),  # NORMAL, and CRITICAL for moderation
    ("dee", "what does this mean?"),  # HIGH: a question
    ("eve", "I need help"),  # HIGH: a word that asks for support
)


async def main() -> None:
    # Two slots, one of them kept for CRITICAL turns.
    config = ccm.Config(limit=2, headroom={ccm.CRITICAL: 1})
    async with ccm.open_manager(router, config=config) as manager:
        for user, text in SAID:
            manager.submit_nowait(ccm.Message(f"dm-{user}", user, text))
    # Leaving the block waits for the answers.


trio.run(main)
