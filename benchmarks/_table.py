"""Rows, verdicts, and the table they are shown in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TextIO

import attrs

from ._measure import Series

Verdict = Literal["reached", "missed", "void", "not measured", "not judged", ""]
FAILURES: tuple[Verdict, ...] = ("missed", "void")
COLUMNS = ("name", "what", "ccm", "reference", "ratio", "of pairs", "reach", "verdict")


@attrs.frozen
class Reach:
    """What a row has to reach: `bound` at least (">=") or at most ("<=") for its ratio or its figure."""

    sign: Literal[">=", "<="]
    bound: float
    of: Literal["ratio", "figure"] = "ratio"

    def met(self, value: float) -> bool:
        return value >= self.bound if self.sign == ">=" else value <= self.bound

    def show(self, unit: str) -> str:
        return f"{self.sign} {self.bound:g} {'x' if self.of == 'ratio' else unit}"


@attrs.frozen(kw_only=True)
class Row:
    """One comparison with its verdict; figures are None when there are none."""

    name: str
    what: str
    unit: str
    reference_name: str = ""
    ours: float | None = None
    reference: float | None = None
    ratio: float | None = None
    pair_ratio: float | None = None
    reach: Reach | None = None
    verdict: Verdict = ""
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether the run ends with exit code 1 because of this row."""
        return self.verdict in FAILURES

    def measured(self, series: Series, *, judge: bool) -> Row:
        """This row with the figures of a run; `judge=False` (too short a run) leaves the verdict open."""
        row = attrs.evolve(
            self,
            ours=series.best(series.ours),
            reference=series.best(series.reference) if series.reference else None,
            ratio=series.ratio,
            pair_ratio=series.pair_ratio,
        )
        return attrs.evolve(row, verdict=row._verdict() if judge or row.reach is None else "not judged")

    def _verdict(self) -> Verdict:
        if self.reach is None:
            return ""
        value = self.ratio if self.reach.of == "ratio" else self.ours
        assert value is not None
        return "reached" if self.reach.met(value) else "missed"

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of `COLUMNS`."""
        theirs = f"{figure(self.reference, self.unit)} ({self.reference_name})" if self.reference else "–"
        reach = self.reach.show(self.unit) if self.reach else "–"
        return (
            self.name, self.what, figure(self.ours, self.unit), theirs, times(self.ratio),
            times(self.pair_ratio), reach, self.verdict or "–",
        )  # fmt: skip

    def data(self) -> dict[str, Any]:
        """The row for JSON."""
        return attrs.asdict(self) | {"reach": self.reach.show(self.unit) if self.reach else None}


def figure(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"


def times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def show(rows: Sequence[Row], file: TextIO) -> None:
    """Print the table, with rich where it is installed, and the notes below it."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(plain(rows), file=file)
    else:
        table = Table(*COLUMNS, title="ccm benchmarks")
        for row in rows:
            style = {"reached": "green", "missed": "red", "void": "red"}.get(row.verdict, "")
            table.add_row(*row.cells(), style=style)
        # A pipe has no width of its own, and a table cut to 80 columns cannot be read.
        Console(file=file, width=None if file.isatty() else 200).print(table)
    for row in rows:
        if row.note:
            print(f"{row.name}: {row.note}", file=file)


def plain(rows: Sequence[Row]) -> str:
    """The table as aligned text."""
    lines = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(rows: Sequence[Row]) -> str:
    """The table for the documentation, ratios first."""
    head = ("what", "ratio", "reach", "ratio of pairs", "ccm", "reference", "row")
    lines = [head, ("---",) * len(head)]
    for row in rows:
        name, what, ours, theirs, ratio, pairs, reach, _ = row.cells()
        lines.append((what, ratio, reach, pairs, ours, theirs, f"`{name}`"))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
