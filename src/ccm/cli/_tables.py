"""Reports, settings and runs under way as tables. The only module that needs rich."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ccm import Priority

from ._config import Setting
from ._crash import Proof
from ._report import ClassRow, Report
from ._run import View
from ._scenario import TARGETS
from ._witness import ClassFigures

WIDTH = 120
"""Columns where there is no terminal to ask."""
STYLES = {
    Priority.CRITICAL: "bold red",
    Priority.HIGH: "yellow",
    Priority.NORMAL: "green",
    Priority.LOW: "blue",
}
REPORT_EVERY = 5.0
"""Seconds between two lines of progress where there is no terminal."""


def make_console(*, stderr: bool = False) -> Console:
    """Where tables go: as wide as the terminal, or `WIDTH` columns."""
    stream = sys.stderr if stderr else sys.stdout
    console = Console(file=stream, markup=False, highlight=False, emoji=False)
    return console if console.is_terminal else Console(
        file=stream, markup=False, highlight=False, emoji=False, width=WIDTH
    )  # fmt: skip


def on_terminal() -> bool:
    """Whether somebody watches stdout."""
    return make_console().is_terminal and not make_console().is_dumb_terminal


def duration(seconds: float) -> str:
    """As people compare them: `0.42 ms`, `120 ms`, `1.20 s`, `83.1 s`."""
    if seconds >= 1:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return f"{seconds * 1e3:.2f} ms" if seconds < 0.01 else f"{seconds * 1e3:.0f} ms"


def _name(priority: Priority | None) -> Text:
    return Text("-") if priority is None else Text(priority.name, style=STYLES[priority])


def verdict(met: bool | None) -> Text:
    """Whether something was met; None was not judged."""
    if met is None:
        return Text("-", style="dim")
    return Text("ok", style="bold green") if met else Text("MISSED", style="bold red")


def make_table(title: str, *columns: str, left: int = 1, widths: tuple[int, ...] = ()) -> Table:
    """An empty table: the first `left` columns are words, the others are figures."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        # Widths given beforehand keep a table that is drawn again and again from jumping.
        width = widths[number] if number < len(widths) else None
        table.add_column(column, justify="left" if number < left else "right", no_wrap=True, min_width=width)
    return table


# -- the report --------------------------------------------------------------------------------------------


def print_report(report: Report) -> None:
    """The tables at the end of a run, on stdout."""
    console = make_console()
    console.print(_classes(report))
    _print_conservation(console, report)
    console.print(_checks(report))
    for error, count in report.failures:
        console.print(Text(f"  {count} failed for good with {error}", style="red"))
    for note in report.notes:
        console.print(Text(f"  {note}", style="dim"))
    rate = report.sent / report.seconds if report.seconds else 0.0
    console.print(f"  {report.sent} messages in {report.seconds:.1f} s, {rate:.0f} a second")
    if report.ok:
        console.print(Text("OK: every law and target held", style="bold green"))
    else:
        console.print(Text(f"MISSED: {'; '.join(report.misses)}", style="bold red"))


def _classes(report: Report) -> Table:
    aimed = any(row.target is not None for row in report.rows)
    columns = ["class", "turns", "answered", "wait p50", "wait p99", "response p50", "response p99"]
    table = make_table("per class", *columns, *(["target", "verdict"] if aimed else []))
    for row in report.rows:
        judged = (_target(row.target), verdict(row.met)) if aimed else ()
        table.add_row(_name(row.priority), *_figures(row), *judged)
    return table


def _target(target: float | None) -> str:
    return "-" if target is None else f"< {duration(target)}"


def _figures(row: ClassRow) -> list[str]:
    if not row.turns:
        return ["0", "0", "-", "-", "-", "-"]
    times = (row.wait.p50, row.wait.p99, row.response.p50, row.response.p99)
    return [str(row.turns), str(row.outcomes.get("replied", 0)), *map(duration, times)]


def _print_conservation(console: Console, report: Report) -> None:
    statistics = report.statistics
    console.print(f"  messages: {statistics.conservation()}")
    if statistics.side_received:
        ends = [f"{count} {name}" for name, count in statistics.side_outcomes.items() if count]
        console.print(f"  side turns: {statistics.side_received} received = {' + '.join(ends) or '0'}")
    loss = Text(f"  unanswered: {report.unanswered}")
    if report.answer_all:
        loss.append(" (target 0) ").append_text(verdict(not report.unanswered))
    console.print(loss)
    for reason, count in statistics.rejected.items():
        if count:
            console.print(f"  rejected: {count} {reason}")


def _checks(report: Report) -> Table:
    table = make_table("laws and checks", "law", "promise", "figures", "verdict", left=3)
    table.columns[2].no_wrap = False
    for check in report.checks:
        law = check.law if check.law.startswith("G") else ""
        table.add_row(law, check.promise, Text(check.detail), verdict(check.ok))
    return table


# -- runs under way ----------------------------------------------------------------------------------------


@contextmanager
def live_demo() -> Iterator[Callable[[View], None]]:
    """A picture of the demo on stdout that is drawn again whenever it is called with a `View`."""
    # Drawn by whoever calls, not by a thread of its own: it must not read what is being changed.
    with Live(console=make_console(), auto_refresh=False, transient=True) as live:
        yield lambda view: live.update(_picture(view), refresh=True)


def _picture(view: View) -> Group:
    statistics, witness = view.statistics, view.witness
    head = Table.grid(padding=(0, 2))
    ended = sum(statistics.outcomes.values())
    arriving, ending = statistics.arrivals.last_1s, statistics.rates.last_1s
    head.add_row(Text("messages"), _bar(ended, view.total), f"{ended} of {view.total} ended",
                 f"{arriving:.0f} turns/s in, {ending:.0f}/s out")  # fmt: skip
    head.add_row(Text("slots"), _bar(statistics.slots_in_use, statistics.limit),
                 f"{statistics.slots_in_use} of {statistics.limit} in use",
                 f"{statistics.sessions.active} conversations active, {view.elapsed:.1f} s")  # fmt: skip
    table = make_table(
        "", "class", "waiting", "running", "done", "wait p50", "wait p99", "response p99", "target",
        widths=(8, 7, 7, 6, 8, 8, 12, 9),
    )  # fmt: skip
    for priority, figures in witness.classes.items():
        table.add_row(_name(priority), *_now(figures), _target(TARGETS.get(priority)))
    said = make_table(
        "latest answers", "class", "who", "said", "answered after", left=3, widths=(8, 26, 34, 14)
    )  # fmt: skip
    for answer in witness.recent:
        message = answer.message
        said.add_row(_name(answer.priority), Text(f"{message.user} in {message.channel}"),
                     Text(message.text, overflow="ellipsis"), duration(answer.seconds))  # fmt: skip
    return Group(
        Text("people talk to a bot at once, each class has its target", style="bold"), head, table, said
    )


def _bar(done: int, total: int) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=done, width=30)


def _now(figures: ClassFigures) -> list[str]:
    wait, response = figures.wait, figures.response
    times = (wait.quantile(0.5), wait.quantile(0.99), response.quantile(0.99)) if response.count else ()
    return [
        str(figures.waiting), str(figures.running), str(sum(figures.outcomes.values())),
        *(map(duration, times) if times else "---"),
    ]  # fmt: skip


@contextmanager
def progress(total: int) -> Iterator[Callable[[View], None]]:
    """A progress bar on stderr with rate and remaining time; without a terminal, a line now and then."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.0f}/s"),
        TextColumn("eta"), TimeRemainingColumn(),
        TextColumn("{task.fields[waiting]} waiting, {task.fields[running]} running", style="dim"),
    )  # fmt: skip
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=total, rate=0.0, waiting=0, running=0)

        def show(view: View) -> None:
            now = view.statistics
            bar.update(
                task, completed=sum(now.outcomes.values()), rate=now.rates.last_1s, waiting=now.waiting,
                running=now.running, refresh=True,
            )  # fmt: skip

        yield show


@contextmanager
def bar(what: str, total: int, counted: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr: call what it yields with how far it is, and the number of `counted`."""
    console = make_console(stderr=True)
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[count]} " + counted),
    )
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=total, count=0)
        yield lambda done, count: progress.update(task, completed=done, count=count, refresh=True)


def print_rows(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]], note: str) -> None:
    """A plain table, and a line below it."""
    console = make_console()
    if rows:
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
    if note:
        console.print(Text(note, style="dim"))


def print_crash(proof: Proof) -> None:
    """What became of the messages of a bot that was killed again and again."""
    console = make_console()
    table = make_table("replay with kills", "what", "figure")
    for what, figure in (
        ("messages", proof.messages), ("processes", proof.lives), ("killed with SIGKILL", proof.kills),
        ("handlers started", proof.starts), ("of them again after a kill", proof.redelivered),
        ("outcomes", ", ".join(f"{count} {name}" for name, count in sorted(proof.outcomes.items()))),
        ("seconds", f"{proof.seconds:.1f}"),
    ):  # fmt: skip
        table.add_row(what, str(figure))
    console.print(table)
    for found in proof.found[:10]:
        console.print(Text(f"FOUND  {found}", style="bold red"))
    if proof.found:
        console.print(Text(f"{len(proof.found)} findings", style="bold red"))
    else:
        console.print(Text("every message has exactly one outcome, in order", style="bold green"))


def _lines(console: Console) -> Callable[[View], None]:
    due = REPORT_EVERY

    def show(view: View) -> None:
        nonlocal due
        if view.elapsed >= due:
            due = view.elapsed + REPORT_EVERY
            ended = sum(view.statistics.outcomes.values())
            console.print(f"{view.elapsed:.0f} s: {ended} of {view.total} messages have their outcome")

    return show


# -- settings ----------------------------------------------------------------------------------------------


def print_settings(settings: list[Setting]) -> None:
    """The effective configuration, on stdout."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("setting", "value", "source", "meaning"):
        table.add_column(column, overflow="fold", no_wrap=column == "setting")
    for setting in settings:
        source = setting.source if setting.origin is None else f"{setting.source} {setting.origin}"
        changed = "" if setting.origin is None else "bold"
        table.add_row(setting.name, Text(value_text(setting.value), style=changed),
                      Text(source, style=changed or "dim"), Text(setting.meaning))  # fmt: skip
    make_console().print(table)


def value_text(value: Any) -> str:
    """A setting's value as people write it."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {value_text(item)}" for key, item in value.items()) or "none"
    return value if isinstance(value, str) else json.dumps(value)
