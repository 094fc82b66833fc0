"""A live front end for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .live import Live, in_thread


@pytest.fixture
def live() -> Iterator[Live]:
    """A front end without keys that echoes, on a free port."""
    with in_thread() as server:
        yield server
