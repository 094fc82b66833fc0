"""What the documentation repeats: tables of what the code says, and what commands print.

`python docs/tables.py` writes both. Run it after a setting, an event, a part of the statistics or what a
command prints has changed; tests compare.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs

import ccm
from ccm import _events as events
from ccm import _statistics as statistics
from ccm._config_load import LEGACY
from ccm._core.sessions import SessionStatistics
from ccm._core.trends import WaitTrend
from ccm.cli import main
from ccm.cli._config import plain

DOCS = Path(__file__).parent
LIMITS = (1, 2, 5, 8, 9, 10, 13, 20, 25, 50, 100, 200)
PARTS = {
    "`queues[class]`": statistics.ClassQueue,
    "`wait[class]`, `service[class]`": ccm.LatencySummary,
    "`routes[name]`": statistics.RouteStatistics,
    "`arrivals`, `rates`": statistics.Rates,
    "`sessions`": SessionStatistics,
    "`channels`": statistics.ChannelStatistics,
    "`trends().wait[class]`": WaitTrend,
}

Rows = Iterable[Iterable[str]]


def allowed(field: str) -> str:
    """What the error for an impossible value of a setting says is allowed."""
    try:
        ccm.Config().replace(**{field: object()})
    except ccm.ConfigError as error:
        text = str(error).removeprefix(f"{field} must be ").partition(", got <object")[0]
        return re.sub(r"<\w+\.\w+: ('\w+')>", r"\1", text)
    raise AssertionError(f"{field} takes anything")


def field_names(kind: type, leave_out: tuple[str, ...] = ()) -> str:
    """The fields of an attrs class."""
    fields: Any = attrs.fields(kind)
    return ", ".join(f"`{field.name}`" for field in fields if field.name not in leave_out)


def settings() -> Iterator[list[str]]:
    """Every field of `Config`."""
    yield ["setting", "default", "allowed", "what it is"]
    meanings, fields = ccm.Config.describe(), attrs.fields(ccm.Config)
    for field in fields:
        yield [f"`{field.name}`", f"`{plain(field.default)!r}`", allowed(field.name), meanings[field.name]]


def older() -> Iterator[list[str]]:
    """Variables that are not named after their setting."""
    yield ["variable", "setting"]
    for variable, (name, _) in LEGACY.items():
        yield [f"`{variable}`", f"`{name}`{', in minutes' if 'MINUTES' in variable else ''}"]


def headroom() -> Iterator[list[str]]:
    """How many slots each class may use by default."""
    yield ["`limit`", *(priority.name for priority in ccm.Priority)]
    for limit in LIMITS:
        config = ccm.Config(limit=limit)
        yield [str(limit), *(str(limit - config.headroom_of(priority)) for priority in ccm.Priority)]


def told() -> Iterator[list[str]]:
    """Every kind of event."""
    yield ["event", "when", "fields"]
    for name, kind in vars(events).items():
        if inspect.isclass(kind) and issubclass(kind, ccm.Event) and kind is not ccm.Event:
            first = (inspect.getdoc(kind) or "").splitlines()[0]
            yield [f"`{name}`", first, field_names(kind, ("at",))]


def parts() -> Iterator[list[str]]:
    """What the values in `Statistics` consist of."""
    yield ["part", "fields"]
    for name, kind in PARTS.items():
        yield [name, field_names(kind)]


TABLES = {
    ("configuration", "settings"): settings,
    ("configuration", "older"): older,
    ("scheduling", "headroom"): headroom,
    ("reference", "events"): told,
    ("reference", "parts of Statistics"): parts,
}
"""Page and name, which stands in a comment above the table, of each table."""


def render(rows: Rows) -> str:
    """Rows, the first of which is the head, as Markdown."""
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * (head.count(" | ") + 1), *body]) + "\n"


def updated(page: str, text: str) -> str:
    """The text of a page with its tables as they should be."""
    for (where, name), rows in TABLES.items():
        if where == page:
            pattern = rf"(?<=^<!-- table: {name} -->\n)(\|.*\n)+"
            text, found = re.subn(pattern, lambda _: render(rows()), text, flags=re.MULTILINE)  # noqa: B023
            if found != 1:
                raise ValueError(f"{page}.md must have one table {name!r}, has {found}")
    return text


COMMAND = re.compile(r"^```sh\nccm (.+)\n```\n\n```text\n((?:.*\n)*?)```$", re.MULTILINE)
"""A command in the text, by itself in its block, followed by a block with what it prints."""


def printed(arguments: str) -> str:
    """What a command prints where there is no terminal, without spaces at the ends of lines."""
    bytes_ = io.BytesIO()
    with (
        io.TextIOWrapper(bytes_, encoding="utf-8") as out,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        main(shlex.split(arguments))
        out.flush()
        lines = bytes_.getvalue().decode().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def with_outputs(text: str) -> str:
    """The text of a page in which each command is followed by what it prints."""
    return COMMAND.sub(lambda m: f"```sh\nccm {m[1]}\n```\n\n```text\n{printed(m[1])}```", text)


if __name__ == "__main__":
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        path.write_text(with_outputs(updated(path.stem, text)), encoding="utf-8")
