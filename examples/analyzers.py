"""Analyzers that know nothing of ccm, side by side: one works, one is missing, one fails, one is too late."""

import trio

import ccm
from ccm.analyzers import adapt

try:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
except ImportError:  # pip install 'ccm[examples]' for the real one

    class SentimentIntensityAnalyzer:  # type: ignore[no-redef]
        """Four words instead of VADER's 7,500: for a look only."""

        def polarity_scores(self, text: str) -> dict[str, float]:
            known = {"love": 0.6, "great": 0.6, "broken": -0.5, "hate": -0.6}
            return {"compound": sum(known.get(word, 0.0) for word in text.lower().split())}


class Memory:
    """Synchronous, with a message and a user, as many bots have them; here its database is gone."""

    def recall(self, message: str, user_id: str) -> list[str]:
        raise ConnectionError(f"no memory of {user_id}")


async def ask_a_slow_model(turn: ccm.Turn) -> str:
    await trio.sleep(60)  # an analyzer of your own is any async function that takes the turn
    return "gardening"


analyse_mood = adapt(SentimentIntensityAnalyzer(), method="polarity_scores")  # runs in a thread
recall = adapt(Memory(), method="recall")
analyse_voice = adapt(None, method="analyze_voice", default="no voice")  # not installed: its default


async def reply(turn: ccm.Turn) -> str:
    found = await turn.gather(
        mood=analyse_mood, memory=recall, topic=ask_a_slow_model, voice=analyse_voice, within=0.2
    )
    for name, error in found.errors.items():
        print(f"  without {name}: {error!r}")
    mood = found.get("mood", {"compound": 0.0})["compound"]
    return f"mood {mood:+.2f}, topic {found.get('topic', 'unknown')}, {found['voice']}"


async def main() -> None:
    print(
        "sentiment by", SentimentIntensityAnalyzer.__module__.replace("__main__", "a stand-in of four words")
    )
    async with ccm.open_manager(reply) as manager:
        for text in ("I love it, great work", "I hate it: it is broken"):
            print(f"{text!r}: {await manager.ask(ccm.Message('channel-1', 'ada', text))}")


trio.run(main)
