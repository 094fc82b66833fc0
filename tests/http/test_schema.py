"""Generated requests against the OpenAPI description, in short; `python -m tests.http.schema` is long."""

from __future__ import annotations

import pytest

from .schema import run

pytestmark = pytest.mark.filterwarnings("ignore")  # of schemathesis and what it uses


def test_answers_are_what_the_description_says() -> None:
    total, counts = run(160)
    assert total >= 100
    assert len(counts) >= 20
