"""`adapt`: an analyzer made of an object that knows nothing of ccm."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Literal

from trio.lowlevel import checkpoint

if TYPE_CHECKING:
    from ._turn import Turn

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class _Missing(enum.Enum):
    MISSING = "nothing"


_MISSING: Final = _Missing.MISSING


def adapt(
    obj: Any, *, method: str | None = None, pool: Literal["thread", "process"] | None = "thread",
    default: Any = _MISSING,
) -> Callable[[Turn], Awaitable[Any]]:  # fmt: skip
    """Make an analyzer for `Turn.gather` of an object that analyses texts.

    What is called is the method of that name, or `obj` itself when `method` is None. It gets the turn's text;
    and, as a second argument, the key of the user who wrote it, if it takes a second positional
    parameter that has no default or whose name contains "user". So all of these fit: `f(text)`,
    `f(message, user_id)`, `f(message, user_id=None)`, `f(text, language="en")` (gets the text only),
    `f(*args)` (gets both).

    An async method is awaited in the event loop. A synchronous one runs where `pool` says; an awaitable that
    it returns is awaited. Errors are not replaced by the default: they, and cancellation, go on to `gather`,
    which keeps them to the analyzer's name.

    Args:
        obj: the analyzer; None when it is not there.
        method: the name of its method.
        pool: where a synchronous method runs: "thread" (`Turn.in_thread`), "process" (`Turn.in_process`; the
            object is pickled for every call and what it changes in itself is lost), or None (in the event
            loop: only for what takes less than a millisecond, for nothing else runs meanwhile).
        default: the result when `obj` is None or has no such method. A callable is called without arguments
            for every turn (so pass `dict` rather than a dict that turns would share).

    Raises:
        TypeError: analyzer and default are both missing, or the method cannot be called in this way.
        ValueError: there is no such pool.
    """
    if pool not in ("thread", "process", None):
        raise ValueError(f"pool must be 'thread', 'process' or None, got {pool!r}")
    fn = obj if method is None or obj is None else getattr(obj, method, None)
    if fn is None:
        return _constant(obj, method, default)
    if not callable(fn):
        raise TypeError(f"an analyzer must be callable, got {fn!r}; name the method of {obj!r} to call")
    arity = _arity(fn)
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__):
        if pool == "process":
            raise ValueError(f"pool must not be 'process' for the async {fn!r}; leave it out")
        pool = None
    return _analyzer(fn, arity, pool)


def _constant(obj: object, method: str | None, default: Any) -> Callable[[Turn], Awaitable[Any]]:
    if default is _MISSING:
        what = "the analyzer is None" if obj is None else f"{obj!r} has no method {method!r}"
        raise TypeError(f"{what} and there is no default; pass default=...")

    async def missing(turn: Turn) -> Any:
        await checkpoint()
        return default() if callable(default) else default

    return missing


def _analyzer(
    fn: Callable[..., Any], arity: int, pool: Literal["thread", "process"] | None
) -> Callable[[Turn], Awaitable[Any]]:
    async def analyse(turn: Turn) -> Any:
        args = (turn.text, turn.message.user)[:arity]
        if pool == "thread":
            result = await turn.in_thread(fn, *args)
        elif pool == "process":
            result = await turn.in_process(fn, *args)
        else:
            await checkpoint()
            result = fn(*args)
        return await result if inspect.isawaitable(result) else result

    return analyse


def _arity(fn: Callable[..., Any]) -> int:
    """1 if `fn` is to be called with the text, 2 if with text and user."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except ValueError:  # some functions written in C do not tell
        return 1
    places = [p for p in parameters if p.kind in _POSITIONAL]
    more = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    needed = [p for p in parameters if p.default is p.empty and p.kind in (*_POSITIONAL, p.KEYWORD_ONLY)]
    if any(p.kind is p.KEYWORD_ONLY for p in needed) or len(needed) > 2 or not (places or more):
        raise TypeError(f"an analyzer must be callable with a text, or a text and a user, got {fn!r}")
    if len(places) < 2:
        return 2 if more else 1
    return 2 if len(needed) == 2 or "user" in places[1].name.lower() else 1
