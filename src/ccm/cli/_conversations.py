"""`ccm conversations`: what a storage keeps of conversations, for people and for scripts."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from ccm.storage import Archive, Forget, SqliteStorage

from ._console import MISSED, OK, UsageError, load_tables, print_json, say, whole
from ._kept import add_file, add_yes, confirm, moment, opened

DAY = 86400.0
PIECE = 100


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "conversations",
        help="list, show, search, export, archive and forget what a storage keeps",
        description="Looks at the conversations that a storage keeps, and changes them. A bot may be using "
        "the file meanwhile.",
    )
    parts = parser.add_subparsers(metavar="WHAT", required=True)
    for name, function, text in (
        ("list", _list, "conversations, the last changed first"), ("show", _show, "one, with what was said"),
        ("search", _search, "utterances that have all these words"),
        ("export", _export, "everything as JSON, one object a line"),
        ("archive", _archive, "close old ones and move them out of the way"),
        ("forget", _forget, "erase everything a user said"), ("stats", _stats, "figures of the last days"),
    ):  # fmt: skip
        part = parts.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        add_file(part)
        _ARGUMENTS[name](part)
        part.set_defaults(command=function)


def _list_arguments(part: argparse.ArgumentParser) -> None:
    for name in ("user", "tenant", "stage"):
        part.add_argument(f"--{name}", metavar="NAME", help=f"only those of this {name}")
    part.add_argument("--status", choices=("open", "archived"), help="only these")
    part.add_argument("--limit", type=whole(1), default=50, metavar="N", help="at most so many (default 50)")


def _show_arguments(part: argparse.ArgumentParser) -> None:
    part.add_argument("conversation", metavar="CONVERSATION", help="its key")
    part.add_argument("--limit", type=whole(1), default=50, metavar="N", help="last lines (default 50)")


def _search_arguments(part: argparse.ArgumentParser) -> None:
    part.add_argument("words", nargs="+", metavar="WORD", help="the last one may be the beginning of a word")
    part.add_argument("--conversation", metavar="KEY", help="only in this one")
    part.add_argument("--user", metavar="NAME", help="only what this user said")
    part.add_argument("--limit", type=whole(1), default=20, metavar="N", help="at most so many (default 20)")


def _export_arguments(part: argparse.ArgumentParser) -> None:
    part.add_argument("conversation", nargs="?", metavar="CONVERSATION", help="only this one (default: all)")
    part.add_argument("--out", metavar="FILE", help="write to this file instead of the standard output")


def _archive_arguments(part: argparse.ArgumentParser) -> None:
    which = part.add_mutually_exclusive_group(required=True)
    which.add_argument("--conversation", metavar="KEY", help="this one")
    which.add_argument(
        "--older-than", type=whole(0, 100_000), metavar="DAYS", help="all that have been idle for so long"
    )
    add_yes(part)


def _forget_arguments(part: argparse.ArgumentParser) -> None:
    part.add_argument("user", metavar="USER", help="whose messages, and the replies to them, are erased")
    add_yes(part)


def _stats_arguments(part: argparse.ArgumentParser) -> None:
    part.add_argument("--days", type=whole(1, 100_000), default=30, metavar="N", help="(default 30)")


_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "list": _list_arguments, "show": _show_arguments, "search": _search_arguments,
    "export": _export_arguments, "archive": _archive_arguments, "forget": _forget_arguments,
    "stats": _stats_arguments,
}  # fmt: skip


def _list(arguments: argparse.Namespace) -> int:
    with opened(arguments.storage) as storage:
        page = storage.conversations(
            user=arguments.user, tenant=arguments.tenant, status=arguments.status, stage=arguments.stage,
            limit=arguments.limit,
        )  # fmt: skip
    if arguments.json:
        print_json({"conversations": [attrs.asdict(item) for item in page.items], "more": bool(page.cursor)})
        return OK
    rows = [
        (c.key, c.tenant, c.status, c.stage, c.agent, "yes" if c.paused else "", str(c.messages),
         str(c.replies), str(c.failures), moment(c.updated))
        for c in page.items
    ]  # fmt: skip
    load_tables().print_rows(
        "conversations",
        ("conversation", "tenant", "status", "stage", "agent", "paused", "messages", "replies", "failures",
         "last change (UTC)"),
        rows, "more with --limit" if page.cursor else "",
    )  # fmt: skip
    return OK


def _show(arguments: argparse.Namespace) -> int:
    with opened(arguments.storage) as storage:
        conversation = storage.conversation(arguments.conversation)
        if conversation is None:
            raise UsageError(
                f"there is no conversation {arguments.conversation!r}; 'ccm conversations list' has the keys"
            )
        page = storage.history(arguments.conversation, limit=arguments.limit)
    if arguments.json:
        print_json(attrs.asdict(conversation) | {"history": [attrs.asdict(entry) for entry in page.items]})
        return OK
    rows = [
        (moment(entry.at), entry.user or entry.role, entry.kind, _said(entry.text, entry.partial))
        for entry in page.items
    ]
    title = f"{conversation.key}: {conversation.messages} messages, {conversation.status}"
    load_tables().print_rows(title, ("time (UTC)", "who", "event", "said"), rows, "" if rows else "no lines")
    return OK


def _said(text: str, partial: bool) -> str:
    return f"{text} (interrupted)" if partial else text


def _search(arguments: argparse.Namespace) -> int:
    text = " ".join(arguments.words)
    with opened(arguments.storage) as storage:
        try:
            hits = storage.search(
                text, conversation=arguments.conversation, user=arguments.user, limit=arguments.limit
            )
        except ValueError as error:
            raise UsageError(str(error)) from None
    if arguments.json:
        print_json(
            {"hits": [attrs.asdict(hit.entry) | {"snippet": hit.snippet, "rank": hit.rank} for hit in hits]}
        )
        return OK
    rows = [(moment(h.entry.at), h.entry.conversation, h.entry.user or h.entry.role, h.snippet) for h in hits]
    load_tables().print_rows(
        f"search: {text}",
        ("time (UTC)", "conversation", "who", "said"),
        rows,
        "" if rows else "nothing found",
    )
    return OK


def _export(arguments: argparse.Namespace) -> int:
    if arguments.json and arguments.out:
        raise UsageError("--json prints, --out writes a file; leave one of them out")
    with opened(arguments.storage) as storage, contextlib.ExitStack() as exits:
        if arguments.conversation and storage.conversation(arguments.conversation) is None:
            raise UsageError(f"there is no conversation {arguments.conversation!r}")
        out = sys.stdout
        show: Callable[[int, int], object] = _nothing
        if arguments.out:
            try:
                out = exits.enter_context(open(arguments.out, "w", encoding="utf-8"))
            except OSError as error:
                raise UsageError(f"cannot write {arguments.out!r}: {error.strerror}") from None
            total = 1 if arguments.conversation else storage.health().conversations
            show = exits.enter_context(load_tables().bar("export", total, "lines"))
        conversations = lines = 0
        for item in storage.export(arguments.conversation):
            out.write(json.dumps(item) + "\n")
            conversations += item["type"] == "conversation"
            lines += item["type"] != "conversation"
            if not lines % PIECE:
                show(conversations, lines)
    if arguments.out:
        say(f"{conversations} conversations, {lines} lines written to {arguments.out}")
    return OK


def _nothing(done: int, count: int) -> None:
    """Nobody watches."""


def _archive(arguments: argparse.Namespace) -> int:
    now = time.time()
    with opened(arguments.storage) as storage:
        if arguments.conversation:
            what = f"archive the conversation {arguments.conversation!r}"
        else:
            what = f"archive all conversations that have been idle for {arguments.older_than} days"
        if not confirm(what, arguments):
            return MISSED
        before = now - DAY * (arguments.older_than or 0)
        count = sum(_archived(storage, Archive(arguments.conversation, before, now, PIECE), arguments.json))
    _tell(arguments, "archived", count, "conversations are archived")
    return OK


def _archived(storage: SqliteStorage, operation: Archive, quiet: bool) -> Iterator[int]:
    """Piece by piece, so that a bot that uses the file is never kept waiting for long."""
    done = 0
    while True:
        (count,) = storage.commit([operation])
        yield count
        done += count
        if count < operation.limit or operation.conversation is not None:
            return
        if not quiet:
            say(f"{done} archived")


def _forget(arguments: argparse.Namespace) -> int:
    with opened(arguments.storage) as storage:
        what = f"erase everything that {arguments.user!r} said, and the replies"
        if not confirm(what, arguments):
            return MISSED
        (count,) = storage.commit([Forget(arguments.user)])
    _tell(arguments, "erased", count, "utterances are erased")
    return OK


def _tell(arguments: argparse.Namespace, key: str, count: int, text: str) -> None:
    if arguments.json:
        print_json({key: count})
    else:
        say(f"{count} {text}")


def _stats(arguments: argparse.Namespace) -> int:
    now = time.time()
    with opened(arguments.storage) as storage:
        figures = storage.analytics(now - DAY * arguments.days, now + 1)
        health = storage.health()
    if arguments.json:
        print_json({"days": arguments.days} | attrs.asdict(figures) | {"storage": attrs.asdict(health)})
        return OK
    rows = [("turns", str(figures.turns)), ("conversations", str(figures.conversations)),
            ("users", str(figures.users))]  # fmt: skip
    for name in ("outcomes", "routes", "stages", "agents", "days"):
        for key, count in getattr(figures, name).items():
            rows.append((f"{name.removesuffix('s')} {key or '(none)'}", str(count)))
    for name, count in figures.waited.items():
        rows.append((f"mean wait, {name}", f"{count:.3f} s"))
    rows += [("waiting for an answer now", str(health.inbox)), ("replies to deliver now", str(health.outbox)),
             ("dead letters", str(health.letters)), ("file", f"{health.bytes / 1e6:.1f} MB")]  # fmt: skip
    load_tables().print_rows(f"the last {arguments.days} days", ("what", "figure"), rows, "")
    return OK
