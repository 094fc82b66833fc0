"""Log lines of `ccm serve`: valid JSON, and neither texts nor keys."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from ccm.cli._logging import configure, redact

SECRET = "what somebody wrote"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("httpx2", "httpcore2", "asyncio"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def fail() -> None:
    raise ValueError(SECRET)


def lines(kind: str, **options: Any) -> list[str]:
    stream = io.StringIO()
    configure(kind, "info", stream=stream, **options)
    log = logging.getLogger("ccm.audit")
    log.debug("not told")
    log.info("%s\ndid it", "ada", extra={"action": "replay", "letter": 7})
    try:
        fail()
    except ValueError:
        log.exception("a handler failed")
    logging.getLogger("httpx2").info("HTTP Request: POST http://x")
    return stream.getvalue().splitlines()


def test_json_is_one_object_a_line() -> None:
    first, second = map(json.loads, lines("json"))
    assert first.items() >= {
        "level": "info", "logger": "ccm.audit", "message": "ada\ndid it", "action": "replay", "letter": 7
    }.items()  # fmt: skip
    assert first["time"].endswith("Z")
    assert second["error"] == "ValueError"
    assert second["places"][-1].endswith(" fail")
    assert SECRET not in json.dumps(second)
    assert json.loads(lines("json", text=True)[1])["says"] == SECRET


def test_text_has_places_and_no_words() -> None:
    told = "\n".join(lines("text"))
    assert "ccm.audit: ada\ndid it" in told
    assert " fail\n  ValueError" in told
    assert SECRET not in told
    assert f"ValueError: {SECRET}" in "\n".join(lines("text", text=True))


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer abcdef123456", "got {'authorization': 'abcdef123456'}",
        "key.abcdef123456 chosen",
        "ccm_abcdef123456 is unknown", "sk-abcdef123456", '"X-API-Key": "abcdef123456"',
    ],
)  # fmt: skip
def test_keys_are_taken_out(line: str) -> None:
    assert "abcdef" not in redact(line)
    stream = io.StringIO()
    configure("json", "info", stream=stream)
    logging.getLogger("x").warning(line)
    assert "abcdef" not in stream.getvalue()
    json.loads(stream.getvalue())
