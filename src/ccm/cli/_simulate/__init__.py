"""`ccm simulate`: hours of thousands of people, on virtual time, through the real manager."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from .._console import MISSED, OK, UsageError, load_tables, print_json, say, whole
from .._console import factor as number_above_0
from ._options import source, variants
from ._play import Player
from ._read import load, read, shipped, text_of
from ._report import Report

GIVEN = "the options"


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "simulate",
        help="capacity planning: hours of thousands of people on virtual time, in seconds",
        description="Sends hours of made-up or real messages through a manager on virtual time and shows how "
        "each class and tenant fares. Without options: an hour of 10,000 users. "
        "The same seed gives the same output.",
    )
    _add_what(parser)
    _add_people(parser)
    _add_bot(parser)
    shown = parser.add_argument_group("what is shown")
    shown.add_argument(
        "--vary", action="append", default=[], metavar="SETTING=A,B,...",
        help="compare settings side by side: any setting, users, rate, scale or seed; "
        "given twice, all combinations",
    )  # fmt: skip
    shown.add_argument("--plot", metavar="FILE", help="draw the timeline, or what was varied: .png or .svg")
    shown.add_argument("--step", type=number_above_0, metavar="S", help="seconds of a step of the timeline")
    shown.add_argument("--json", action="store_true", help="print everything as JSON, nothing else")
    parser.set_defaults(command=simulate)


def _add_what(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what is played")
    what.add_argument(
        "--scenario", metavar="NAME|FILE.toml", help="a scenario that comes with ccm, or a file"
    )
    what.add_argument("--list", action="store_true", help="list the scenarios that come with ccm")
    what.add_argument("--show", metavar="NAME", help="print one of them: a start for your own")
    what.add_argument("--replay", nargs="+", metavar="LOG", help="chat logs instead of made-up people")
    what.add_argument(
        "--scale", type=whole(1), metavar="N", help="(replay) each log N times, with other people (default 1)"
    )
    what.add_argument(
        "--by", choices=("file", "user"),
        help="(replay) what is a conversation: a whole file, or each person of a file (default file)",
    )  # fmt: skip
    what.add_argument(
        "--shift", type=number_above_0, metavar="S",
        help="(replay) the copies start up to S seconds later (default 3600)",
    )  # fmt: skip
    what.add_argument(
        "--speed", type=number_above_0, metavar="X", help="(replay) X times as fast (default 1)"
    )
    what.add_argument(
        "--duration", type=number_above_0, metavar="S", help="seconds (default 3600; replay: all)"
    )
    what.add_argument("--seed", type=int, metavar="N", help="of everything that is drawn (default 1)")


def _add_people(parser: argparse.ArgumentParser) -> None:
    who = parser.add_argument_group("who sends")
    who.add_argument("--users", type=whole(1, 10_000_000), metavar="N", help="people (default 10000)")
    who.add_argument(
        "--per-hour", type=number_above_0, metavar="R", help="messages of a person in an hour (default 6)"
    )
    who.add_argument(
        "--rate", type=number_above_0, metavar="R", help="messages a second of all people instead"
    )
    who.add_argument(
        "--conversations", type=whole(1, 10_000_000), metavar="N", help="(default one for each user)"
    )
    who.add_argument("--tenants", type=whole(1, 100_000), metavar="N", help="of equal size (default 10)")
    who.add_argument("--mix", metavar="CLASS=SHARE,...", help="(default critical=2,high=18,normal=60,low=20)")


def _add_bot(parser: argparse.ArgumentParser) -> None:
    bot = parser.add_argument_group("who answers")
    bot.add_argument("--limit", type=whole(1, 100_000), metavar="N", help="slots (default 50)")
    bot.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SETTING=VALUE",
        help="any setting; 'ccm config' lists them",
    )
    bot.add_argument(
        "--handler-latency", metavar="SPEC",
        help="seconds of an answer: constant:S, uniform:LOW,HIGH or lognormal:MEDIAN,SIGMA "
        "(default lognormal:0.8,0.6)",
    )  # fmt: skip
    bot.add_argument(
        "--failures", metavar="WHAT=SHARE,...", help="shares of calls: errors, busy, hangs; and retry_after"
    )
    bot.add_argument(
        "--provider", metavar="WHAT=N,...",
        help="what the provider takes, beyond which it is busy: concurrency, rate, burst; and retry_after",
    )  # fmt: skip


# -- the command -------------------------------------------------------------------------------------------


def simulate(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.show is not None:
        print(text_of(arguments.show), end="")
        return OK
    if arguments.list:
        return _list(arguments.json)
    show = None if arguments.json else load_show()
    draw = load_plot(arguments.plot) if arguments.plot else None
    origin = arguments.scenario or GIVEN
    wanted = [(settings, read(own, origin)) for settings, own in variants(source(arguments), arguments.vary)]
    player = Player()
    with _progress(len(wanted)) as tell:
        reports = [player.play(scenario, settings, tell) for settings, scenario in wanted]
    say(player.speed)
    if show is None:
        print_json(as_json(reports))
    else:
        show.print_reports(reports)
    if draw is not None:
        draw(reports, arguments.plot)
    return OK if all(report.ok for report in reports) else MISSED


def _list(as_data: bool) -> int:
    found = [(name, read(load(name), name).title) for name in shipped()]
    if as_data:
        print_json({"scenarios": [{"name": name, "title": title} for name, title in found]})
        return OK
    width = max(len(name) for name, _ in found)
    for name, title in found:
        print(f"{name:{width}}  {title}")
    return OK


def as_json(reports: Sequence[Report]) -> dict[str, Any]:
    """All runs as plain data."""
    return {
        "command": "simulate",
        "ok": all(report.ok for report in reports),
        "missed": [miss for report in reports for miss in report.misses],
        "runs": [report.as_json() for report in reports],
    }


def load_show() -> ModuleType:
    """The module that draws tables and charts in the terminal.

    Raises:
        UsageError: rich is not installed.
    """
    load_tables()
    from . import _show

    return _show


def load_plot(path: str) -> Callable[[Sequence[Report], str], None]:
    """What draws a plot.

    Raises:
        UsageError: matplotlib is not installed, or the file is neither .png nor .svg.
    """
    if not path.lower().endswith((".png", ".svg")):
        raise UsageError(f"--plot must be a file that ends in .png or .svg, got {path!r}")
    try:
        from ._plot import draw
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise UsageError(
            "--plot needs the package 'matplotlib', which is not installed; run: pip install 'ccm[plot]'"
        ) from None
    return draw


@contextmanager
def _progress(runs: int) -> Iterator[Callable[[float], object] | None]:
    """A bar on stderr, where somebody watches it."""
    with contextlib.ExitStack() as exits:
        tell = None
        with contextlib.suppress(UsageError):
            tell = exits.enter_context(load_show().progress(runs))
        yield tell
