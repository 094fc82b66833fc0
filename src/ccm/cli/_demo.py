"""`ccm demo`: ten people talk to a bot at once, and each class is held to its target."""

from __future__ import annotations

import argparse
import contextlib
from functools import partial
from typing import Any

from ._console import MISSED, OK, load_tables, print_json, run_trio, whole
from ._console import factor as number_above_0
from ._scenario import Scenario, play
from ._storing import add_storage, check_storage, run_prefix


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="ten people talk to a bot at once, with a target per class",
        description="Ten people talk to a bot at once, in real time, and each class is held to its target. "
        "Takes about ten seconds.",
    )
    parser.add_argument("--users", type=whole(1, 1000), default=10, metavar="N", help="people (default 10)")
    parser.add_argument(
        "--messages", type=whole(1, 100_000), metavar="N", help="messages in all (default 18 per person)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="draws who says what (default 1)")
    parser.add_argument(
        "--speed", type=number_above_0, default=1.0, metavar="X",
        help="messages come X times as fast; the bot does not get faster (default 1)",
    )  # fmt: skip
    add_storage(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON, nothing else")
    parser.set_defaults(command=demo)


def demo(arguments: argparse.Namespace) -> int:
    """Run the command."""
    messages = arguments.messages or 18 * arguments.users
    scenario = Scenario(
        users=arguments.users, messages=messages, seed=arguments.seed, speed=arguments.speed,
        storage=check_storage(arguments.storage), run=run_prefix(arguments.storage),
    )  # fmt: skip
    if arguments.json:
        report = run_trio(partial(play, scenario))
        print_json(report.as_json())
    else:
        tables = load_tables()
        live = tables.live_demo() if tables.on_terminal() else contextlib.nullcontext()
        with live as show:
            report = run_trio(partial(play, scenario, show))
        tables.print_report(report)
    return OK if report.ok else MISSED
