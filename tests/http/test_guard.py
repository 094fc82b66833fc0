"""The guard lets in what it should, and nothing else."""

from __future__ import annotations

from .live import Live


def test_the_description_is_there(live: Live) -> None:
    assert live.get("/openapi.json").status == 200
