"""A small offline chat partner, so that `ccm serve` has somebody to talk to on a fresh machine.

It works the way ELIZA did: it looks for a pattern in what was said, turns the person around ("my" becomes
"your") and asks back. The method is J. Weizenbaum's ("ELIZA - A Computer Program For the Study of Natural
Language Communication Between Man and Machine", CACM 9(1), 1966); rules and texts are its own. It understands
nothing, and says so when it is greeted or asked.

A few words make it do something to look at: "count to 30" streams long enough to stop it, "take 5 seconds"
keeps a slot busy, "please fail" raises an error, so that retries and a dead letter can be seen.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Final, final

import attrs
import trio

from ._core.routes import Router
from ._turn import Turn

__all__ = ["Demonstration", "Responder", "answer", "router"]

MAX_COUNT: Final = 200
MAX_SECONDS: Final = 20

_TURNED: Final = {
    "i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself", "am": "are",
    "i'm": "you are",
    "i've": "you have", "i'll": "you will", "i'd": "you would", "we": "you", "us": "you", "our": "your",
    "you": "I", "your": "my", "yours": "mine", "yourself": "myself", "you're": "I am", "you've": "I have",
    "you'll": "I will", "was": "were",
}  # fmt: skip

HONEST: Final = (
    "I am a small offline program that looks for patterns in what you write, in the manner of ELIZA. "
    "There is no language model behind me, and I understand nothing."
)
HELP: Final = (
    "Talk to me about anything, or try: 'count to 30' and stop me, 'take 5 seconds' to keep a slot busy, "
    "'please fail' to see retries and a dead letter. A question counts as HIGH, a link as CRITICAL for "
    "moderation; watch the classes while you write. For real answers start ccm serve with your own handler, "
    "or with --model URL."
)


@final
@attrs.frozen
class _Rule:
    """A pattern, and what may be said when it is found; `{0}` is the turned-around rest."""

    find: re.Pattern[str]
    say: tuple[str, ...]


def _rule(pattern: str, *say: str) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), say)


# The first rule that fits decides, so the special ones come first.
_RULES: Final = (
    _rule(
        r"\b(?:who|what) are you\b|\bare you (?:a |an )?(?:real|human|person|robot|bot|ai|machine|program|llm"
        r"|chatgpt|computer|alive|model)\b|\bwhat can you do\b",
        HONEST + " Say 'help' for what there is to try.",
    ),
    _rule(r"^\W*(?:help|what now|commands)\b", HELP),
    _rule(r"\bwhat(?:'s| is) ccm\b|^\W*ccm\W*$",
          "ccm decides which chat message is answered next: urgent ones first, each conversation in order, "
          "everybody with a fair share, and one outcome for every message."),
    _rule(r"^\W*(?:hi|hello|hey|hallo|good (?:morning|evening|day)|moin|servus)\b",
          "Hello! " + HONEST + " What is on your mind?"),
    _rule(r"^\W*(?:bye|goodbye|good night|see you|ciao)\b",
          "Goodbye. Our talk is kept in the storage, so we can go on later.",
          "Take care. I will not think of you, but the storage will remember."),
    _rule(r"\b(?:thanks|thank you|thx)\b",
          "You are welcome. Go on, if you like.", "Gladly. What else?"),
    _rule(r"\bmy name is (\w[\w'-]*)", "Nice to meet you, {0}. What would you like to talk about?"),
    _rule(r"\bsorry\b", "There is nothing to be sorry about.", "No need; a program takes no offence."),
    _rule(r"\bi (?:can't|cannot|can not) ([^.!?]+)",
          "What keeps you from it, that you cannot {0}?", "Perhaps you could {0} if you tried differently?"),
    _rule(r"\bi (?:want|need|would like|wish)(?: to have)? ([^.!?]+)",
          "What would it change if you got {0}?", "Why {0}, and why now?"),
    _rule(r"\bi(?:'m| am) (?:so |very |really )?(sad|unhappy|tired|angry|afraid|lonely|bored|worried)\b",
          "How long have you been {0}?", "What makes you {0}?", "Does talking help when you are {0}?"),
    _rule(r"\bi(?:'m| am) ([^.!?]+)", "How does it feel to be {0}?", "Since when are you {0}?"),
    _rule(r"\bi feel ([^.!?]+)", "When do you usually feel {0}?", "What happens when you feel {0}?"),
    _rule(r"\bi (?:think|believe|guess) (?:that )?([^.!?]+)",
          "What makes you think {0}?", "Would others agree that {0}?"),
    _rule(r"\bi (like|love|hate|miss) ([^.!?]+)",
          "What is it about {1} that you {0}?", "When did you begin to {0} {1}?"),
    _rule(r"\bbecause ([^.!?]+)", "Is that the only reason?", "Suppose it were not so that {0}; what then?"),
    _rule(r"\bmy ([^.!?,]+)", "Tell me more about your {0}.", "Why does your {0} come to mind?"),
    _rule(r"\byou (?:are|seem|sound) ([^.!?]+)",
          "What gives you the impression that I am {0}?", "I am a program; how can I be {0}?"),
    _rule(r"^\W*why\b",
          "What do you think is the reason?", "I cannot know; which reasons come to your mind?"),
    _rule(r"^\W*(?:how|what|when|where|who|which)\b[^?]*\?",
          "I know no facts, only patterns. What would you answer?",
          "What answer would help you most?"),
    _rule(r"\?", "What do you think yourself?", "Why do you ask?", "Would you like that to be so?"),
    _rule(r"^\W*(?:yes|yeah|yep|ok|okay|sure)\b", "I see. Go on.", "Good. And then?"),
    _rule(r"^\W*(?:no|nope|never)\b", "Why not?", "Are you quite sure?"),
)  # fmt: skip

_PLAIN: Final = (
    "Please go on.",
    "Tell me more.",
    "What does that mean to you?",
    "And how did it come to that?",
)
_AGAIN: Final = ("Earlier you spoke of your {0}. Has that to do with it?", "Let us go back to your {0}.")
_MINE: Final = re.compile(r"\bmy ((?!name\b)[a-z][^.!?,;]{1,40})", re.IGNORECASE)
_NAME: Final = re.compile(r"\bmy name is (\w[\w'-]*)", re.IGNORECASE)
_ASKS_NAME: Final = re.compile(r"\bwhat(?:'s| is) my name\b", re.IGNORECASE)
_COUNT: Final = re.compile(r"\bcount to (\d{1,4})\b", re.IGNORECASE)
_TAKE: Final = re.compile(r"\btake (\d{1,3}(?:\.\d)?) seconds?\b", re.IGNORECASE)
_FAIL: Final = re.compile(r"\bplease fail\b", re.IGNORECASE)
_PIECE: Final = re.compile(r"\S+\s*|\s+")


class Demonstration(Exception):
    """Somebody said "please fail"."""


def answer(said: Sequence[str], told: Sequence[str] = (), *, seed: int = 0) -> str:
    """What the responder says: a function of the talk so far and of the seed, nothing else.

    Args:
        said: what the person has said, oldest first; the last one is answered.
        told: what was answered before.
        seed: draws among answers that fit equally well.
    """
    text = said[-1].strip()
    if (count := _COUNT.search(text)) is not None:
        return ", ".join(map(str, range(1, min(int(count[1]), MAX_COUNT) + 1))) + "."
    # A text as seed is the same in every process; the hash of a string is not.
    draw = random.Random(f"{seed} {len(said)} {text}")
    if _ASKS_NAME.search(text):
        names = [found[1] for line in said for found in [_NAME.search(line)] if found]
        return f"You told me that it is {names[-1]}." if names else "You have not told me yet."
    for rule in _RULES:
        found = rule.find.search(text)
        if found is not None:
            return _choose(rule.say, draw, told).format(*map(_turned, found.groups()))
    topics = [found[1].strip() for line in said[:-1] for found in [_MINE.search(line)] if found]
    if topics and draw.random() < 0.5:
        return _choose(_AGAIN, draw, told).format(_turned(draw.choice(topics)))
    return _choose(_PLAIN, draw, told)


def _choose(sentences: Sequence[str], draw: random.Random, told: Sequence[str]) -> str:
    """One of them, and not what was said just before if there is another. O(sentences)."""
    last = told[-1] if told else ""
    fresh = [sentence for sentence in sentences if not last.startswith(sentence.partition("{")[0] or "\0")]
    return draw.choice(fresh or list(sentences))


def _turned(rest: str) -> str:
    """The same words from the other one's side."""
    return " ".join(_TURNED.get(word.lower(), word) for word in rest.split()).strip(" ,;:")


@final
class Responder:
    """A handler that answers like `answer` and writes word by word, so that streaming can be seen.

    The talk so far is the history of the session, so with a storage it remembers across restarts.

    Args:
        seed: draws among answers that fit equally well; the same talk gets the same answers.
        pace: seconds between two words, 0 to 10.

    When cancelled it stops in the middle of its sentence. It keeps nothing of its own.
    """

    __slots__ = ("pace", "seed")

    def __init__(self, *, seed: int = 0, pace: float = 0.04) -> None:
        if not 0 <= pace <= 10:
            raise ValueError(f"pace must be seconds from 0 to 10, got {pace!r}")
        self.seed = seed
        self.pace = pace

    async def __call__(self, turn: Turn) -> None:
        """Answer one turn by sending pieces.

        Raises:
            Demonstration: the person asked for an error.
        """
        text = turn.text
        if (take := _TAKE.search(text)) is not None:
            await trio.sleep(min(float(take[1]), MAX_SECONDS))
        if _FAIL.search(text):
            raise Demonstration("you asked for an error, here it is")
        talk = [entry for entry in await turn.history(50) if entry.turn_id != turn.id]
        said = [entry.text for entry in talk if entry.role == "user"]
        told = [entry.text for entry in talk if entry.role == "assistant"]
        for word in _PIECE.findall(answer([*said, text], told, seed=self.seed)):
            await trio.sleep(self.pace)
            await turn.send(word)


async def moderate(turn: Turn) -> None:
    """A stand-in for moderation: its turns are there to be seen among the classes."""
    await trio.sleep(0.05)


async def analyse(turn: Turn) -> None:
    """A stand-in for analytics: it runs when nothing else wants the slot."""
    await trio.sleep(0.05)


async def apologise(turn: Turn) -> str:
    """What people get instead of an answer."""
    await trio.lowlevel.checkpoint()
    return "I have no time for a proper answer at the moment; please try again."


def router(*, seed: int = 0, pace: float = 0.04, fallback: bool = False) -> Router:
    """The responder behind `Router.default`: questions are HIGH, links are moderated, analytics is LOW.

    Args:
        seed, pace: see `Responder`.
        fallback: apologise for turns that were shed, expired or failed; else who asked is told the outcome.
    """
    return Router.default(
        Responder(seed=seed, pace=pace), moderation=moderate, analytics=analyse,
        fallback=apologise if fallback else None,
    )  # fmt: skip
