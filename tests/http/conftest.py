"""A live front end for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .chat_bot import ONCE, Bot
from .live import Live, in_thread


@pytest.fixture
def live() -> Iterator[Live]:
    """A front end without keys that echoes, on a free port."""
    with in_thread() as server:
        yield server


@pytest.fixture
def bot() -> Bot:
    """A bot to be talked to."""
    return Bot()


@pytest.fixture
def server(bot: Bot, tmp_path: Path) -> Iterator[Live]:
    """A front end without keys in front of it, which keeps everything in a file."""
    with in_thread(bot, storage=tmp_path / "bot.db", config=ONCE) as live:
        yield live
