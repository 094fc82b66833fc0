"""The catalog fits the sources: a mutant that no longer applies guards nothing."""

from __future__ import annotations

import pytest

from .catalog import MUTANTS
from .mutant import Mutant
from .trial import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_every_mutant_applies_and_its_tests_exist(mutant: Mutant) -> None:
    text = (ROOT / "src" / "ccm" / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"{mutant.old!r} in {mutant.file}"
    assert mutant.new != mutant.old
    assert mutant.tests
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).exists(), test


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
