"""A server in a process of its own, so that its CPU and its memory are not the client's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from ._measure import Absent, Void
from .reference import ROOT


@contextmanager
def served(*arguments: str) -> Iterator[tuple[int, int]]:
    """Port and process id of `python -m arguments...`, which prints its port first; it ends with the block.

    Raises:
        Absent: the front end is not installed.
        Void: it did not start.
    """
    try:
        import anycorn  # noqa: F401
        import fastapi  # noqa: F401
    except ImportError as error:
        raise Absent("the front end is not installed; pip install 'ccm[http]'") from error
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline()
            if not port:
                raise Void(f"`python -m {' '.join(arguments)}` did not start")
            yield int(port), server.pid
        finally:
            server.kill()


def until_done(client: Callable[..., Awaitable[float]], *args: object) -> float:
    """Run the client; the first `Void` among its tasks' errors is what it raises."""
    try:
        return trio.run(client, *args)
    except BaseExceptionGroup as errors:
        void = errors.subgroup(Void)
        if void is None:
            raise
        first: BaseException = void
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise Void(str(first)) from errors
