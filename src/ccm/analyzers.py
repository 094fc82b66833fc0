"""Analyzers for `Turn.gather` made of objects that know nothing of ccm.

An analyzer is an async function that takes a turn. `adapt` makes one of a method, synchronous or not, that
takes a text, or a text and a user::

    analyse_mood = adapt(EmotionAnalyzer(), method="analyze_emotion", default={"mood": "neutral"})

    async def reply(turn):
        found = await turn.gather(mood=analyse_mood, within=0.2)
        mood = found.get("mood", {"mood": "neutral"})
"""

from __future__ import annotations

from ._adapt import adapt

__all__ = ["adapt"]

adapt.__module__ = __name__  # shown where it is public
