"""How the commands talk: usage errors, JSON, and the optional package that draws tables."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from ccm import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

T = TypeVar("T")

OK, MISSED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes; 130 is what shells use for Ctrl-C."""


class UsageError(Exception):
    """The command cannot be carried out as given; the text says why and what to do next."""


def say(text: str) -> None:
    """A line for people, on stderr: stdout belongs to the result."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """The result for machines: the only thing on stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))


def load_tables() -> ModuleType:
    """The module that draws tables.

    Raises:
        UsageError: rich is not installed.
    """
    return _drawing("_tables")


def load_pictures() -> ModuleType:
    """The module that draws what a server does.

    Raises:
        UsageError: rich is not installed.
    """
    return _drawing("_pictures")


def _drawing(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"ccm.cli.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        raise UsageError(
            "tables need the package 'rich', which is not installed; "
            "run: pip install 'ccm[cli]' (or add --json)"
        ) from None


def whole(low: int, high: int = 1_000_000) -> Callable[[str], int]:
    """An argument type: a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, got {text!r}")
        return value

    return parse


def factor(text: str) -> float:
    """An argument type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def factor_or_max(text: str) -> float | None:
    """An argument type: a number above 0; None for 0 and "max"."""
    try:
        return None if text == "max" or float(text) == 0 else factor(text)
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            f"must be a number above 0, or 'max' for as fast as possible, got {text!r}"
        ) from None


def run_trio(program: Callable[[], Awaitable[T]]) -> T:
    """`trio.run`, with a single error out of its nursery groups.

    Raises:
        UsageError: a setting was refused, or a handler wants the process to end.
    """
    try:
        return trio.run(program)
    except ConfigError as refused:
        error: BaseException = refused
    except BaseExceptionGroup as group:
        error = _innermost(group)
    if isinstance(error, ConfigError):
        raise UsageError(str(error)) from None
    if isinstance(error, SystemExit):
        raise UsageError(f"the handler raised {error!r}, which ends the manager; let it raise an Exception")
    raise error


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
