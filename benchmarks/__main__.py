"""`python -m benchmarks [names...]`: measure and judge; exit code 1 when something is not reached."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from ._table import Row, markdown, show
from .reference import ORIGIN
from .rows import CASES, measure


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure ccm beside plain programs, in turns, and judge the ratios.",
        epilog="Exit code: 0 all reached, 1 something missed or void, 2 wrong arguments. Load curves: "
        "python -m benchmarks.loadcurve --out FILE.svg",
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"rows: {', '.join(CASES)} (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON; '-' is the standard output")
    parser.add_argument("--markdown", metavar="FILE", help="write the table for the documentation")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of each row (default: 5)")
    parser.add_argument(
        "--quick", action="store_true", help="a tiny run that shows that it works; not judged"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in CASES]:
        parser.error(f"unknown row {unknown[0]!r}; choose from: {', '.join(CASES)}")
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    return options


def machine() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "trio": trio.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "reference": ORIGIN,
    }


def report(rows: Sequence[Row], options: argparse.Namespace) -> dict[str, object]:
    settings = {"rounds": 1 if options.quick else options.rounds, "quick": options.quick}
    return {"machine": machine(), **settings, "rows": [row.data() for row in rows]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = parse(arguments)
    rows = []
    for name in options.names or CASES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows.append(measure(CASES[name], rounds=1 if options.quick else options.rounds, quick=options.quick))
    # Whoever wants JSON on the standard output wants nothing else there.
    show(rows, sys.stderr if options.json == "-" else sys.stdout)
    if options.markdown:
        Path(options.markdown).write_text(markdown(rows), encoding="utf-8")
    if options.json:
        text = json.dumps(report(rows, options), indent=2, ensure_ascii=False) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            Path(options.json).write_text(text, encoding="utf-8")
    return 1 if any(row.failed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
