"""Generated requests against the OpenAPI description: `python -m tests.http.schema --cases 2000`.

No answer may be a server's error, and each must be what the description says of it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .chat_bot import ONCE, Bot
from .live import in_thread

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
STREAMS = ("/api/v1/events",)


class Quiet(Bot):
    """Never waits for anybody."""

    async def __call__(self, turn: Any) -> str:
        return f"re {turn.text}"


def run(cases: int) -> tuple[int, dict[str, int]]:
    """Send at least so many requests; how many it were, and how many by endpoint. Raises at the first that
    is answered wrongly."""
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bot.db"
        with in_thread(Quiet(), storage=path, config=ONCE) as server:
            server.post("/api/v1/chat", {"user": "ada", "text": "hello", "conversation": "c1"})
            schema = schemathesis.openapi.from_dict(server.app.inner.openapi())
            found: list[Any] = [each.ok() for each in schema.get_all_operations()]  # type: ignore[union-attr]
            operations = [one for one in found if one.path not in STREAMS]
            each = -(-cases // len(operations))
            for operation in operations:

                @settings(
                    max_examples=each, deadline=None, database=None, derandomize=True,
                    phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck),
                )  # fmt: skip
                @given(case=operation.as_strategy())
                def one(case: Any) -> None:
                    name = f"{case.operation.method.upper()} {case.operation.path}"
                    counts[name] = counts.get(name, 0) + 1
                    case.call_and_validate(base_url=server.url, checks=CHECKS, timeout=20)

                one()
            assert server.get("/healthz").status == 200
    return sum(counts.values()), counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    began = time.monotonic()
    total, counts = run(parser.parse_args().cases)
    for name, count in sorted(counts.items()):
        print(f"{count:6} {name}")
    print(
        f"{total} requests in {time.monotonic() - began:.0f} s: no server error, no answer but as described"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
