"""Generated requests against the OpenAPI description, in short; `python -m tests.http.schema` is long."""

from __future__ import annotations

import pytest

from .live import echo, in_thread
from .schema import run

pytestmark = pytest.mark.filterwarnings("ignore")  # of schemathesis and what it uses


def test_answers_are_what_the_description_says() -> None:
    total, counts = run(160)
    assert total >= 100
    assert len(counts) >= 20


def test_every_endpoint_is_described() -> None:
    with in_thread(echo) as server:
        description = server.get("/openapi.json").json
        for path, methods in description["paths"].items():
            for method, operation in methods.items():
                assert operation.get("summary"), (method, path)
                problems = [
                    status for status, answer in operation["responses"].items()
                    if "application/problem+json" in answer.get("content", {})
                ]  # fmt: skip
                assert "422" in problems or not operation.get("parameters"), (method, path)
                assert "401" in problems, (method, path)
