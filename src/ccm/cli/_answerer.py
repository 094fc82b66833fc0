"""Who answers in `ccm serve`: what MODULE:NAME names, a model, or the built-in responder."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs

from ccm import Router
from ccm._core.routes import check_handler

from ._console import UsageError

BUILT_IN = "the built-in offline responder (a small program, no model)"


@attrs.frozen
class Answerer:
    """Who answers; `name` is for people, `source` what `open_answerer` makes a handler of."""

    name: str
    source: Any


def load_object(spec: str, option: str) -> Any:
    """What `module:name` names; modules of the current folder are found too.

    Raises:
        UsageError: there is no such thing.
    """
    module_name, _, path = spec.partition(":")
    if not (module_name and path):
        raise UsageError(f"{option} must be MODULE:FUNCTION, got {spec!r}; for example mybot:reply")
    found: Any = _import(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise UsageError(f"{module_name!r} has no {path!r}; name something that it defines")
        found = getattr(found, name)
    return found


def _import(name: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"importing {name!r} failed: {error}; install what it needs") from None
        raise UsageError(
            f"no module named {error.name!r} in {os.getcwd()!r} or among the installed ones; "
            "change to its folder or install it"
        ) from None
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        raise UsageError(f"importing {name!r} failed: {problem}; 'python -m {name}' shows where") from None


def named(spec: str) -> Answerer:
    """The answerer that `module:name` names.

    It may be a handler, a `Router`, an async context manager that yields one of these, or a function without
    arguments that makes such a context manager: for clients that must be opened and closed.

    Raises:
        UsageError: it is none of these.
    """
    found = load_object(spec, "handler")
    if not isinstance(found, Router) and not _opens(found):
        try:
            check_handler("handler", found)
        except TypeError:
            if not callable(found) or _needs_arguments(found):
                raise UsageError(
                    f"{spec!r} is {found!r}; it must be an async function that takes a turn, a ccm.Router, "
                    "or a function without arguments that returns an async context manager which yields one"
                ) from None
    return Answerer(spec, found)


def _needs_arguments(found: Any) -> bool:
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return True
    return False


@asynccontextmanager
async def open_answerer(answerer: Answerer) -> AsyncIterator[Any]:
    """The handler or router, opened if it must be; closed when the block is left.

    Raises:
        UsageError: what was opened is neither.
    """
    source = answerer.source
    plain = isinstance(source, Router) or _is_handler(source)
    if not plain and not _opens(source):
        source = source()
        plain = isinstance(source, Router) or _is_handler(source)
    if not _opens(source):
        if not plain:
            raise UsageError(f"{answerer.name!r} returned {source!r}, which is no async context manager")
        yield source
        return
    async with source as opened:
        handler = source if opened is None and plain else opened
        if not (isinstance(handler, Router) or _is_handler(handler)):
            raise UsageError(f"{answerer.name!r} yielded {handler!r}, which is neither handler nor router")
        yield handler


def _opens(found: Any) -> bool:
    return hasattr(found, "__aenter__") and not inspect.isclass(found)


def _is_handler(found: Any) -> bool:
    try:
        check_handler("handler", found)
    except TypeError:
        return False
    return True
