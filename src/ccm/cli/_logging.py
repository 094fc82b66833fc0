"""Log lines of `ccm serve`, for people or for machines, without what people have said.

What a handler's error says may be what somebody wrote, so of an exception its type and its places are told,
and its words only with `--log-text`. Keys are taken out of every line, wherever they come from.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final, TextIO, final

LEVELS: Final = ("debug", "info", "warning", "error")

# Fields that every record has; whatever else is there was given with `extra=`.
_USUAL: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {
    "message",
    "asctime",
    "taskName",
}
_KEYS: Final = (
    re.compile(r"(?i)(bearer )\s*[^\s\"',;]+"),
    re.compile(r"(?i)((?:authorization|x-api-key)[\"']?\s*[:=]\s*[\"']?)(?!bearer)[^\s\"',;]+"),
    re.compile(r"\b(key\.)[A-Za-z0-9_-]{8,}"),
    re.compile(r"\b(ccm_|sk-)[A-Za-z0-9_-]{8,}"),
)  # fmt: skip
_QUIET: Final = ("httpx2", "httpcore2", "asyncio")
"""Libraries that log each request."""


def redact(text: str) -> str:
    """`text` without anything that looks like a key."""
    for pattern in _KEYS:
        text = pattern.sub(lambda found: f"{found[1]}[key]", text)
    return text


def _places(error: BaseException) -> list[str]:
    """Where an error comes from, innermost last; no line of code, for it may hold a text."""
    return [
        f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
    ]


def _plain(value: Any) -> Any:
    """A field as JSON can hold it."""
    return value if isinstance(value, (int, float, bool, type(None))) else redact(str(value))


@final
class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the fields of `extra`, and an error's type.

    Args:
        text: also tell what errors say.
    """

    def __init__(self, *, text: bool = False) -> None:
        super().__init__()
        self._text = text

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname.lower(), "logger": record.name, "message": redact(record.getMessage()),
        }  # fmt: skip
        more = {name: value for name, value in vars(record).items() if name not in _USUAL | line.keys()}
        line |= {name: _plain(value) for name, value in more.items()}
        if record.exc_info and (error := record.exc_info[1]) is not None:
            line["error"] = type(error).__qualname__
            line["places"] = _places(error)
            if self._text:
                line["says"] = redact(str(error))
        return json.dumps(line, ensure_ascii=False)


@final
class TextFormatter(logging.Formatter):
    """A line for people; an error's type and places below it.

    Args:
        text: also tell what errors say.
    """

    def __init__(self, *, text: bool = False) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self._text = text

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        return redact(super().format(record))

    def formatException(self, ei: Any) -> str:
        """The error below the line."""
        error = ei[1]
        if error is None or self._text:
            return super().formatException(ei)
        return "\n".join([*(f"  {place}" for place in _places(error)), f"  {type(error).__qualname__}"])


def configure(kind: str, level: str, *, text: bool = False, stream: TextIO | None = None) -> logging.Handler:
    """Send all log lines to stderr from now on, and nowhere else.

    Args:
        kind: "text" or "json".
        level: one of `LEVELS`; less urgent lines are left out.
        text: also tell what errors say, which may be what somebody wrote.
        stream: instead of stderr.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(text=text) if kind == "json" else TextFormatter(text=text))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    return handler
