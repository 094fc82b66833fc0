"""The pictures of `ccm top` and the tables of `ccm load`; needs rich."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ccm import Priority

from ._tables import STYLES, duration, make_console, make_table, on_terminal, verdict

__all__ = ["bar", "live", "on_terminal", "print_load", "print_picture", "sparkline"]

BLOCKS = "▁▂▃▄▅▆▇█"
ROWS = 60
"""Seconds that a sparkline shows."""


def sparkline(values: Sequence[float | None], width: int = ROWS) -> str:
    """The last `width` values as blocks between 0 and their maximum; a dot where there is no value."""
    shown = values[-width:]
    most = max((value for value in shown if value is not None), default=0.0)
    return "".join(
        "·" if value is None else BLOCKS[0 if most <= 0 else min(int(max(value, 0) / most * 7.999), 7)]
        for value in shown
    )


def column(trends: Mapping[str, Any], *names: str) -> list[float | None]:
    """A column of the trends, by the names on the way to it; empty if there is none."""
    found: Any = trends.get("columns", trends)
    for name in names:
        found = found.get(name, []) if isinstance(found, Mapping) else []
    return found if isinstance(found, list) else []


def picture(url: str, look: Mapping[str, Any], note: str = "") -> RenderableType:
    """One look at a server."""
    now, trends = look["statistics"], look["trends"]
    alerts = look["alerts"].get("items", [])
    parts: list[RenderableType] = [_head(url, now, note), _lines(now, trends), _classes(now), _outcomes(now)]
    if now.get("services"):
        parts.append(_services(now["services"]))
    if alerts:
        parts.append(_alerts(alerts))
    return Group(*parts)


def _head(url: str, now: Mapping[str, Any], note: str) -> Text:
    head = Text(f"ccm at {url}", style="bold")
    head.append(f"   up {_age(now.get('uptime') or 0)}   received {now['received']}", style="default")
    if note:
        head.append(f"   {note}", style="bold red")
    return head


def _lines(now: Mapping[str, Any], trends: Mapping[str, Any]) -> Table:
    storage = now.get("storage") or {}
    received = column(trends, "received") or column(trends, "arrivals")
    table = Table.grid(padding=(0, 2))
    for name, values, text in (
        ("messages/s", received, f"{_last(received):.0f} now"),
        ("running", column(trends, "running"), f"{now['running']} in {now['limit']} slots"),
        ("waiting", column(trends, "waiting"), f"{now['waiting']} wait, {now['retrying']} retry"),
        ("memory", column(trends, "memory"), f"{_last(column(trends, 'memory')) / 1e6:.0f} MB"),
        ("cpu", column(trends, "cpu"), f"{_last(column(trends, 'cpu')) * 100:.0f} %"),
    ):
        if values:
            table.add_row(Text(name), Text(sparkline(values), style="cyan"), Text(text))
    if "lag" in storage:
        failing = storage.get("failing")
        state = f"FAILING: {failing}" if failing else f"{storage.get('pending', 0)} pending"
        lag = duration(storage["lag"] or 0)
        table.add_row(Text("storage"), Text(f"lag {lag}"), Text(state, style="bold red" if failing else ""))
    return table


def _classes(now: Mapping[str, Any]) -> Table:
    table = make_table(
        "per class, since the start", "class", "waiting", "oldest", "started", "wait p50", "wait p99",
        "service p50", "service p99", widths=(8, 7, 8, 7, 8, 8, 11, 11),
    )  # fmt: skip
    for priority in Priority:
        queue = now["queues"].get(priority.name, {})
        wait, service = now["wait"].get(priority.name, {}), now["service"].get(priority.name, {})
        times = [
            duration(figures[key]) if figures.get("count") else "-"
            for figures in (wait, service) for key in ("p50", "p99")
        ]  # fmt: skip
        table.add_row(
            Text(priority.name, style=STYLES[priority]), str(queue.get("waiting", 0)),
            duration(queue["oldest"]) if queue.get("waiting") else "-", str(wait.get("count", 0)), *times,
        )  # fmt: skip
    return table


def _outcomes(now: Mapping[str, Any]) -> Text:
    text = Text("outcomes  ")
    for name, count in now["outcomes"].items():
        if count:
            text.append(f"{count} {name}  ", style="bold red" if name == "failed" else "default")
    reasons = ", ".join(f"{count} {reason}" for reason, count in now["rejected"].items() if count)
    if reasons:
        text.append(f"(rejected: {reasons})")
    return text


def _services(services: Mapping[str, Any]) -> Table:
    table = make_table("services", "service", "waiting", "at work", "done", "dead")
    for name, figures in services.items():
        cells = (figures.get(key, 0) for key in ("waiting", "processing", "done", "dead"))
        table.add_row(Text(name), *map(str, cells))
    return table


def _alerts(alerts: Sequence[Mapping[str, Any]]) -> Table:
    table = make_table("alerts", "alert", "level", "value", "threshold", left=2)
    for alert in alerts:
        style = "bold red" if alert.get("level") == "critical" else "yellow"
        cells = (str(alert.get(key, "")) for key in ("level", "value", "threshold"))
        name = " ".join(str(alert[key]) for key in ("kind", "subject") if alert.get(key))
        table.add_row(Text(name, style=style), *map(Text, cells))
    return table


def _last(values: Sequence[float | None]) -> float:
    return next((value for value in reversed(values) if value is not None), 0.0)


def _age(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def print_picture(url: str, look: Mapping[str, Any]) -> None:
    """One look, on stdout."""
    make_console().print(picture(url, look))


@contextmanager
def live(url: str) -> Iterator[Callable[[Mapping[str, Any], str], None]]:
    """A picture on the whole terminal that is drawn again whenever it is called with a look and a note."""
    with Live(console=make_console(), auto_refresh=False, screen=True) as screen:
        yield lambda look, note: screen.update(picture(url, look, note), refresh=True)


# -- load --------------------------------------------------------------------------------------------------


def print_load(report: Mapping[str, Any]) -> None:
    """The tables at the end of `ccm load`."""
    console = make_console()
    for run in report["runs"]:
        console.print(_load_table(run))
        statuses = ", ".join(f"{count} x {status}" for status, count in run["answers"].items())
        console.print(Text(f"  {run['sent']} messages in {run['seconds']:.1f} s, "
                           f"{run['per_second']:.1f} a second: {statuses or 'nothing sent'}"))  # fmt: skip
        for missed in run["missed"]:
            console.print(Text(f"  MISSED: {missed}", style="bold red"))
    if report["ok"]:
        console.print(Text("OK: every target held", style="bold green"))


def _load_table(run: Mapping[str, Any]) -> Table:
    table = make_table(
        f"{run['preset']}: {run['users']} people, {run['rate']:g} messages a second", "class", "sent",
        "answered", "refused", "failed", "lost", "first p50", "response p50", "response p99", "wait p99",
        "target", "verdict",
    )  # fmt: skip
    for row in run["classes"]:
        times = [
            duration(row[of][key]) if row[of]["count"] else "-"
            for of, key in (("first", "p50"), ("response", "p50"), ("response", "p99"), ("wait", "p99"))
        ]
        counts = (str(row[key]) for key in ("sent", "answered", "refused", "failed", "lost"))
        target = "-" if row["target"] is None else f"< {duration(row['target'])}"
        style = STYLES[Priority[row["class"]]]
        table.add_row(Text(row["class"], style=style), *counts, *times, target, verdict(row["met"]))
    return table


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr: call what it yields with messages done, and those under way."""
    from ._tables import bar as drawn

    with drawn(what, total, "under way") as show:
        yield show
