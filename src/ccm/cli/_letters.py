"""`ccm dead-letters`: messages that failed for good, handed in again or forgotten."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import attrs

from ccm._message import uuid7
from ccm.storage import Accept, Discard, Letter, SqliteStorage

from ._console import MISSED, OK, UsageError, load_tables, print_json, say, whole
from ._kept import add_file, add_yes, confirm, moment, opened

ALL = 100_000


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "dead-letters",
        help="messages that failed for good: list, show, replay, discard",
        description="Looks at the messages that failed for good. A bot that is using the file takes up what "
        "is replayed within seconds; a stopped one at its next start.",
    )
    parts = parser.add_subparsers(metavar="WHAT", required=True)
    for name, function, text in (
        ("list", _list, "all of them, oldest first"), ("show", _show, "one of them, whole"),
        ("replay", _replay, "hand them in again, as new messages without their deadlines"),
        ("discard", _discard, "forget them"),
    ):  # fmt: skip
        part = parts.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        add_file(part)
        if name == "show":
            part.add_argument("letter", type=whole(1, 1 << 60), metavar="N", help="its number")
        elif name != "list":
            part.add_argument("letters", nargs="*", type=whole(1, 1 << 60), metavar="N", help="their numbers")
            part.add_argument("--all", action="store_true", help="all of them")
        if name == "discard":
            add_yes(part)
        part.set_defaults(command=function)


def _data(letter: Letter) -> dict[str, Any]:
    return attrs.asdict(letter) | {"body": json.loads(letter.body)}


def _list(arguments: argparse.Namespace) -> int:
    with opened(arguments.storage) as storage:
        letters = storage.letters(ALL)
    if arguments.json:
        print_json({"dead_letters": [_data(letter) for letter in letters]})
        return OK
    rows = []
    for letter in letters:
        body = json.loads(letter.body)
        rows.append(
            (str(letter.id), moment(letter.at), str(body.get("conversation", "")), letter.route,
             str(letter.attempts), letter.error, str(body.get("text", "")))
        )  # fmt: skip
    load_tables().print_rows(
        "dead letters", ("number", "time (UTC)", "conversation", "route", "attempts", "error", "text"), rows,
        "" if rows else "there is none",
    )  # fmt: skip
    return OK


def _show(arguments: argparse.Namespace) -> int:
    with opened(arguments.storage) as storage:
        (letter,) = _chosen(storage, [arguments.letter])
    if arguments.json:
        print_json(_data(letter))
        return OK
    fields = _data(letter)
    body: dict[str, Any] = fields.pop("body")
    fields["at"] = moment(letter.at)
    rows = [(name, str(value)) for name, value in (fields | body).items()]
    load_tables().print_rows(f"dead letter {letter.id}", ("field", "value"), rows, "")
    return OK


def _chosen(storage: SqliteStorage, numbers: list[int]) -> list[Letter]:
    letters = {letter.id: letter for letter in storage.letters(ALL)}
    for number in numbers:
        if number not in letters:
            raise UsageError(f"there is no dead letter {number}; 'ccm dead-letters list' has their numbers")
    return [letters[number] for number in numbers]


def _wanted(arguments: argparse.Namespace, storage: SqliteStorage) -> list[Letter]:
    if arguments.all == bool(arguments.letters):
        raise UsageError("name the dead letters by their numbers, or say --all")
    return storage.letters(ALL) if arguments.all else _chosen(storage, arguments.letters)


def _replay(arguments: argparse.Namespace) -> int:
    with opened(arguments.storage) as storage:
        letters = _wanted(arguments, storage)
        accepts = []
        for letter in letters:
            fields = json.loads(letter.body)
            fields.pop("deadline", None)
            fields |= {"id": uuid7(), "generated": True}
            accepts.append(
                Accept(
                    conversation=fields["conversation"], tenant=fields.get("tenant", ""), user=fields["user"],
                    body=json.dumps(fields), at=time.time(), letter=letter.id,
                )
            )  # fmt: skip
        results = storage.commit(accepts)
    if arguments.json:
        print_json(
            {
                "replayed": {
                    str(letter.id): result.seq for letter, result in zip(letters, results, strict=True)
                }
            }
        )
    else:
        say(f"{len(letters)} messages are in the inbox again")
    return OK


def _discard(arguments: argparse.Namespace) -> int:
    with opened(arguments.storage) as storage:
        letters = _wanted(arguments, storage)
        if not confirm(f"forget {len(letters)} dead letters", arguments):
            return MISSED
        storage.commit([Discard(letter.id) for letter in letters])
    if arguments.json:
        print_json({"discarded": [letter.id for letter in letters]})
    else:
        say(f"{len(letters)} dead letters are forgotten")
    return OK
