"""`ccm top`: what a running server does, live in the terminal."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from ._console import OK, UsageError, factor, load_pictures, print_json, run_trio
from ._web import Target, add_target, fetch, open_client, target_of

PATIENCE = 10
"""Looks in a row that may fail before the command gives up."""


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "top",
        help="watch a running server: classes, queues, outcomes, alerts",
        description="Watches a running server. Ctrl-C ends it; the server does not notice.",
    )
    add_target(parser)
    parser.add_argument(
        "--every", type=factor, default=1.0, metavar="S", help="seconds between two looks (default 1)"
    )
    parser.add_argument("--once", action="store_true", help="look once and end")
    parser.add_argument("--json", action="store_true", help="print one look as JSON, nothing else")
    parser.set_defaults(command=top)


async def look(client: Any) -> dict[str, Any]:
    """What the server says of itself now: `statistics`, `trends` and `alerts`."""
    return {
        "statistics": await fetch(client, "/api/v1/statistics"),
        "trends": await fetch(client, "/api/v1/trends", step=1),
        "alerts": await fetch(client, "/api/v1/alerts"),
    }


async def _once(target: Target) -> dict[str, Any]:
    async with open_client(target) as client:
        return await look(client)


async def _watch(target: Target, every: float, show: Callable[[dict[str, Any], str], object]) -> None:
    """Look again and again; a server that is being restarted is waited for."""
    async with open_client(target) as client:
        last = await look(client)
        failed = 0
        while True:
            show(last, f"no answer for {failed} looks" if failed else "")
            await trio.sleep(every)
            try:
                last, failed = await look(client), 0
            except UsageError:
                failed += 1
                if failed >= PATIENCE:
                    raise


def top(arguments: argparse.Namespace) -> int:
    """Run the command."""
    target = target_of(arguments)
    if arguments.json:
        print_json(run_trio(partial(_once, target)))
        return OK
    pictures = load_pictures()
    if arguments.once or not pictures.on_terminal():
        pictures.print_picture(target.url, run_trio(partial(_once, target)))
        return OK
    with pictures.live(target.url) as show:
        try:
            run_trio(partial(_watch, target, arguments.every, show))
        except KeyboardInterrupt:
            return OK  # the usual way to end it
    return OK
