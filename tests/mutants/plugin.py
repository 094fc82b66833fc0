"""Loaded into the tests of a mutant: makes sure that they run on it, and lets them fail fast."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

import ccm


def pytest_sessionstart(session: pytest.Session) -> None:
    """After `conftest.py` has chosen a profile, before any test module reads it."""
    source = Path(os.environ["CCM_MUTANT_SOURCE"])
    if not Path(ccm.__file__).is_relative_to(source):
        pytest.exit(f"the tests would run on {ccm.__file__}, not on {source}", returncode=3)
    # One failing example is enough: shrinking it may take a minute, and nobody reads it.
    quick = hypothesis.settings(
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate), database=None, print_blob=False
    )
    hypothesis.settings.register_profile("mutants", quick)
    hypothesis.settings.load_profile("mutants")
