"""`gather`: analyzers side by side, each failure kept to its own name."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, final

import trio

from ._core.routes import check_handler
from ._tools import traced

Analyzer = Callable[[Any], Awaitable[Any]]


@final
class Gathered(Mapping[str, Any]):
    """What `Turn.gather` found: a mapping from the names of the analyzers that were ready to their results.

    `gathered[name]` raises the error of an analyzer that failed, `trio.TooSlowError` for one that was not
    ready in time, and `KeyError` for a name that was not asked for. `in`, `len` and iteration see only the
    names that have a result, in the order in which the analyzers were given.
    """

    __slots__ = ("_errors", "_traces", "_values")

    def __init__(self, values: Mapping[str, Any], errors: Mapping[str, Exception]) -> None:
        self._values = values
        self._errors = errors
        # Raising an error makes its traceback longer: each time it starts from what the analyzer left.
        self._traces = {name: error.__traceback__ for name, error in errors.items()}

    @property
    def errors(self) -> Mapping[str, Exception]:
        """The errors of the analyzers that have no result; a read-only mapping by name."""
        return MappingProxyType(dict(self._errors))

    def get(self, name: str, default: Any = None) -> Any:
        """The result of `name`, or `default` when there is none. Never raises."""
        return self._values.get(name, default)

    def __getitem__(self, name: str) -> Any:
        error = self._errors.get(name)
        if error is not None:
            raise error.with_traceback(self._traces[name])
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Gathered {dict(self._values)!r}, errors {dict(self._errors)!r}>"


@final
class _Gathering:
    """One call of `gather`: results and errors as they come in."""

    __slots__ = ("_errors", "_limit", "_turn", "_values", "_within")

    def __init__(self, turn: object, within: float | None) -> None:
        self._turn = turn
        self._within = within
        self._limit = trio.CancelScope()
        self._values: dict[str, Any] = {}
        self._errors: dict[str, Exception] = {}

    async def run(self, analyzers: Mapping[str, Analyzer]) -> Gathered:
        """Run them all; those that the limit cancels are errors of their own."""
        if self._within is not None:
            self._limit.deadline = trio.current_time() + self._within
        with self._limit:
            async with trio.open_nursery() as nursery:
                for name, analyzer in analyzers.items():
                    nursery.start_soon(self._branch, name, analyzer, name=f"ccm analyzer {name!r}")
        for name in analyzers:
            if name not in self._values and name not in self._errors:
                self._errors[name] = self._too_slow(name)
        return Gathered(
            {name: self._values[name] for name in analyzers if name in self._values},
            {name: self._errors[name] for name in analyzers if name in self._errors},
        )

    async def _branch(self, name: str, analyzer: Analyzer) -> None:  # noqa: ASYNC910 - the analyzer's affair
        """Keep what the analyzer returns or raises; only cancellation and bugs of the program go on."""
        try:
            self._values[name] = await analyzer(self._turn)
        except Exception as error:
            self._fail(name, error)
        except (trio.Cancelled, BaseExceptionGroup) as error:
            cancelled, failure = _split(error)
            if failure is not None and not isinstance(failure, Exception):
                raise
            if trio.current_effective_deadline() > -math.inf:
                stray = RuntimeError(f"analyzer {name!r} raised trio.Cancelled although nobody cancelled it")
                stray.__cause__ = error
                self._fail(name, stray)
                return  # noqa: ASYNC104, ASYNC910 - nobody cancelled it
            if failure is not None:
                self._fail(name, failure)
            raise cancelled from None  # noqa: ASYNC104 - it is what was caught

    def _fail(self, name: str, error: Exception) -> None:
        # What an analyzer raises because it is cancelled is not what went wrong with it.
        self._errors[name] = self._too_slow(name, error) if self._limit.cancel_called else error

    def _too_slow(self, name: str, cause: Exception | None = None) -> trio.TooSlowError:
        slow = trio.TooSlowError(f"analyzer {name!r} was not ready within {self._within:g} s")
        slow.__cause__ = cause
        return slow


def _split(error: BaseException) -> tuple[BaseException, BaseException | None]:
    """The part of an error that is cancellation (all of it, if it has no parts), and the rest."""
    if isinstance(error, BaseExceptionGroup):
        cancelled, rest = error.split(trio.Cancelled)
        return cancelled or error, rest
    return error, None


def _check(within: object, analyzers: Mapping[str, Analyzer]) -> None:
    if within is not None:
        if not isinstance(within, (int, float)) or isinstance(within, bool):
            raise TypeError(f"within must be seconds or None, got {within!r}")
        if not within >= 0:
            raise ValueError(f"within must be >= 0 seconds or None, got {within!r}")
    for name, analyzer in analyzers.items():
        check_handler(f"analyzer {name!r}", analyzer)


async def gather(turn: object, within: float | None, analyzers: Mapping[str, Analyzer]) -> Gathered:
    """`Turn.gather`."""
    _check(within, analyzers)
    if not analyzers:
        await trio.lowlevel.checkpoint()
        return Gathered({}, {})
    if (tracer := getattr(turn, "_tracer", None)) is not None:
        analyzers = {name: traced(tracer, "analyzer", name, fn) for name, fn in analyzers.items()}
    only: BaseException
    try:
        return await _Gathering(turn, within).run(analyzers)
    except BaseExceptionGroup as group:
        # The nursery wraps even a single error; the handler should see the analyzer's own.
        if len(group.exceptions) > 1:
            raise
        only = group.exceptions[0]
    raise only
