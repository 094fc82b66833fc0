"""`ccm storage`: look after a SQLite file."""

from __future__ import annotations

import argparse
from typing import Any

import attrs

from ._console import MISSED, OK, load_tables, print_json, say
from ._kept import opened


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "storage",
        help="check, migrate and vacuum a storage file",
        description="Looks after a storage file. 'check' and 'vacuum' may run while a bot uses it.",
    )
    parts = parser.add_subparsers(metavar="WHAT", required=True)
    for name, function, text in (
        ("check", _check, "whether the file is sound, and what it holds"),
        ("migrate", _migrate, "bring the file up to date with this version of ccm"),
        ("vacuum", _vacuum, "give unused space back and leave no trace of what was erased"),
    ):  # fmt: skip
        part = parts.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        part.add_argument("storage", metavar="FILE", help="the SQLite file")
        part.add_argument("--json", action="store_true", help="print the result as JSON, nothing else")
        part.set_defaults(command=function)


def _check(arguments: argparse.Namespace) -> int:
    with opened(arguments.storage) as storage:
        health, wrong = storage.health(), storage.check()
    if arguments.json:
        print_json({"ok": not wrong, "wrong": wrong} | attrs.asdict(health))
        return MISSED if wrong else OK
    rows = [(name, str(value)) for name, value in attrs.asdict(health).items()]
    rows += [("WRONG", line) for line in wrong]
    sound = "the file is sound" if not wrong else "the file is damaged: restore a backup"
    load_tables().print_rows(f"storage {arguments.storage}", ("what", "figure"), rows, sound)
    return MISSED if wrong else OK


def _migrate(arguments: argparse.Namespace) -> int:
    with opened(arguments.storage) as storage:
        version = storage.health().version
    if arguments.json:
        print_json({"version": version})
    else:
        say(f"{arguments.storage} has version {version} of the schema, the newest this ccm knows")
    return OK


def _vacuum(arguments: argparse.Namespace) -> int:
    with opened(arguments.storage) as storage:
        before = storage.health().bytes
        if not arguments.json:
            say(f"rewriting {before / 1e6:.1f} MB; a bot that uses the file waits meanwhile ...")
        storage.vacuum()
        after = storage.health().bytes
    if arguments.json:
        print_json({"before": before, "after": after})
    else:
        say(f"{before / 1e6:.1f} MB became {after / 1e6:.1f} MB")
    return OK
