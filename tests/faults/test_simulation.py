"""The whole system, simulated; `nox -s simulation` runs thousands of seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .simulation import run

ROOT = Path(__file__).parents[2]
CHUNK = 25


@pytest.mark.parametrize("first", range(0, 150, CHUNK))
def test_nothing_is_lost_doubled_or_reordered(first: int) -> None:
    events = kills = 0
    for seed in range(first, first + CHUNK):
        world = run(seed)
        assert not world.found, (seed, world.found)
        events += world.events
        kills += world.kills
    assert events > 100
    assert kills > 0


def trace(hash_seed: str) -> str:
    command = [sys.executable, "-m", "tests.faults.simulation", "--seeds", "20", "--trace"]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_a_seed_is_the_same_story_in_every_process() -> None:
    assert trace("1") == trace("2") != ""
