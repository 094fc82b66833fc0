"""The command `ccm`: a server and what looks at it, demonstrations, and what looks after a storage."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from . import (
    _config,
    _conversations,
    _demo,
    _keys,
    _letters,
    _load,
    _replay,
    _serve,
    _simulate,
    _storage,
    _top,
)
from ._console import INTERRUPTED, MISSED, USAGE, UsageError, say

__all__ = ["main"]

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: arguments without the program's name; None takes those of the process.

    Returns:
        0: all is well; 1: a law or a target was missed; 2: it was not used as it must be (stderr says
        what to do); 130: interrupted.
    """
    _never_fail_to_print()
    try:
        arguments = parser().parse_args(argv)
        command: Command = arguments.command
        return command(arguments)
    except SystemExit as stop:  # argparse has said everything already
        return stop.code if isinstance(stop.code, int) else USAGE
    except UsageError as error:
        say(f"ccm: error: {error}")
        return USAGE
    except KeyboardInterrupt:
        say("ccm: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has left; the interpreter must not stumble over that when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return MISSED


def parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    top = argparse.ArgumentParser(
        prog="ccm",
        description="Decides which chat message is answered next: serve a bot, or see it work on chats.",
        epilog="Exit codes: 0 all is well, 1 a law or a target was missed, 2 wrong usage.",
    )
    top.add_argument("--version", action="version", version=f"ccm {version('ccm')}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (
        _serve, _keys, _top, _load, _demo, _simulate, _replay, _conversations, _letters, _storage, _config
    ):  # fmt: skip
        module.add_to(commands)
    return top


def _never_fail_to_print() -> None:
    # Chats and file names may hold characters that the terminal's encoding does not have.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
