"""Who says what in `ccm load`: the presets, and what must hold in each."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

import attrs

from ccm import CRITICAL, HIGH, LOW, NORMAL, Priority

WAITS: Final = {CRITICAL: 0.1, HIGH: 0.5, NORMAL: 1.0}
"""What the wait of 99 in 100 answered messages of a class must stay below, in seconds."""

_TALK: Final = {
    CRITICAL: (
        "free nitro: https://example.com/gift", "you cheating bastards", "join discord.gg/abc123",
        "what an asshole move", "my account was broken into, lock it: https://example.com/me",
    ),
    HIGH: (
        "@bot are you there?", "please help, I am locked out", "when does the event start?",
        "there is an error in chapter two", "urgent: the printer burns",
    ),
    NORMAL: (
        "good morning all", "that was a great match", "I baked bread today", "my cat sits on the keyboard",
        "the weather is lovely", "I feel tired today",
    ),
    LOW: ("seen", "just reading along", "for the record"),
}  # fmt: skip
_ASKED: Final = {
    HIGH: (
        "Can you explain how a queue with priorities keeps the order of a conversation?",
        "What would you change in my plan to learn the violin in a year?",
        "Why do people dream, and is there anything that changes what they dream of?",
    ),
    NORMAL: (
        "I want a plan for a week in the mountains, with easy walks and a day of rest in the middle.",
        "I think my letter to the landlord is too long. Tell me what to leave out.",
        "My essay about bees needs a better beginning; here is what I have so far.",
    ),
}  # fmt: skip


@attrs.frozen(kw_only=True)
class Preset:
    """A workload.

    Attributes:
        meaning: what it is like, in a few words.
        mix: share of the messages by class.
        texts: what is said in each class.
        haste: times the rate that was asked for.
        answered: share of the messages that must be answered; None: refusals are part of it.
    """

    name: str
    meaning: str
    mix: Mapping[Priority, float]
    texts: Mapping[Priority, tuple[str, ...]] = attrs.field(factory=lambda: _TALK)
    haste: float = 1.0
    answered: float | None = 0.99

    def text(self, priority: Priority, draw: random.Random) -> str:
        """Something to say. O(1)."""
        return draw.choice(self.texts[priority])


PRESETS: Final = {
    preset.name: preset
    for preset in (
        Preset(
            name="security", meaning="many links and insults, which moderation looks at",
            mix={CRITICAL: 0.5, HIGH: 0.2, NORMAL: 0.3},
        ),
        Preset(
            name="ai", meaning="long questions for long answers", mix={HIGH: 0.4, NORMAL: 0.6}, texts=_ASKED
        ),
        Preset(
            name="mixed", meaning="as in a busy chat room",
            mix={CRITICAL: 0.1, HIGH: 0.3, NORMAL: 0.5, LOW: 0.1},
        ),
        Preset(
            name="stress", meaning="four times the rate; refusing is fine, losing or failing is not",
            mix={CRITICAL: 0.1, HIGH: 0.3, NORMAL: 0.5, LOW: 0.1}, haste=4.0, answered=None,
        ),
    )
}  # fmt: skip
TEST: Final = ("security", "ai", "mixed", "stress")
"""What the preset "performance" runs, one after the other."""
