"""`ccm load`: put a running server under load, and judge how it bears it."""

from __future__ import annotations

import argparse
import contextlib
from functools import partial
from typing import Any

from ccm import Priority

from ._console import MISSED, OK, factor, load_pictures, print_json, run_trio, say, whole
from ._load_mix import PRESETS, TEST, WAITS
from ._load_run import Load, Result, run_load
from ._web import Target, add_target, fetch, open_client, target_of


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    presets = "; ".join(f"{preset.name}: {preset.meaning}" for preset in PRESETS.values())
    parser: argparse.ArgumentParser = commands.add_parser(
        "load",
        help="put a running server under load and judge it",
        description="Sends made-up messages to a server, at random moments and whatever has been answered, "
        f"and judges the waits of each class. Presets: {presets}; performance: all of them in turn.",
        epilog="Do this to your own server only: it costs what answers cost.",
    )
    add_target(parser)
    parser.add_argument(
        "--users", type=whole(1, 100_000), default=20, metavar="N", help="people (default 20)"
    )
    parser.add_argument(
        "--rate", type=factor, default=4.0, metavar="R",
        help="messages a second from all together (default 4)",
    )  # fmt: skip
    parser.add_argument("--duration", type=factor, default=10.0, metavar="S", help="seconds (default 10)")
    parser.add_argument(
        "--preset", choices=(*PRESETS, "performance"), default="mixed", help="(default mixed)"
    )
    transport = parser.add_mutually_exclusive_group()
    transport.add_argument(
        "--stream", dest="transport", action="store_const", const="sse", default="json",
        help="read the replies as they are written",
    )  # fmt: skip
    transport.add_argument(
        "--websocket", dest="transport", action="store_const", const="websocket",
        help="the same on one WebSocket for each of the people",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="draws who says what (default 1)")
    parser.add_argument(
        "--target", action="append", default=[], type=_target, metavar="CLASS=S",
        help="seconds that 99 in 100 waits of a class must stay below; may be repeated (default "
        + ", ".join(f"{priority.name}={seconds:g}" for priority, seconds in WAITS.items()) + ")",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the report as JSON, nothing else")
    parser.set_defaults(command=load)


def _target(text: str) -> tuple[Priority, float]:
    name, _, value = text.partition("=")
    if name.upper() not in Priority.__members__:
        raise argparse.ArgumentTypeError(f"must be like CRITICAL=0.1, got {text!r}")
    return Priority[name.upper()], factor(value)


def load(arguments: argparse.Namespace) -> int:
    """Run the command."""
    target = target_of(arguments)
    names = TEST if arguments.preset == "performance" else (arguments.preset,)
    pictures = None if arguments.json else load_pictures()
    run_trio(partial(_greet, target))
    runs = []
    for name in names:
        job = Load(
            preset=PRESETS[name], users=arguments.users, rate=arguments.rate, duration=arguments.duration,
            seed=arguments.seed, transport=arguments.transport, targets=WAITS | dict(arguments.target),
        )  # fmt: skip
        expected = round(job.rate * job.preset.haste * job.duration)
        if pictures is not None:
            say(f"{name}: {job.preset.meaning}; about {expected} messages ...")
        drawn = contextlib.nullcontext() if pictures is None else pictures.bar(name, expected)
        with drawn as show:
            result: Result = run_trio(partial(run_load, target, job, show))
        runs.append(result.as_json())
    report = {"url": target.url, "ok": all(run["ok"] for run in runs), "runs": runs}
    if pictures is None:
        print_json(report)
    else:
        pictures.print_load(report)
    return OK if report["ok"] else MISSED


async def _greet(target: Target) -> None:
    """Find out whether a server is there before a thousand requests do."""
    async with open_client(target) as client:
        await fetch(client, "/healthz")
