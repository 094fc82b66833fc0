"""Turns that do not end: what is told of them, and what their author can do."""

from __future__ import annotations

import logging
from pathlib import PurePath
from typing import TYPE_CHECKING

from . import _events as events

if TYPE_CHECKING:
    import trio

    from ._dispatcher import Dispatcher
    from ._record import TurnRecord

log = logging.getLogger("ccm")

_SHOWN = 4


def report(record: TurnRecord, told: float, dispatcher: Dispatcher, now: float) -> None:
    """Count, log and publish that a turn was told to end `told` seconds ago and still runs. O(depth)."""
    task = None if record.worker is None else record.worker.task
    stuck = events.Stuck(
        now, record.turn_id, record.key, record.route.name, now - record.begun,
        by=record.cancel_by or "", where="" if task is None else where(task),
    )  # fmt: skip
    dispatcher.books.stuck += 1
    log.warning(
        "turn %d of route %r does not end: told to (%s) %.3g s ago, it waits in %s. %s",
        record.turn_id, record.route.name, record.cancel_by, told, stuck.where or "tasks of its own",
        stuck.advice,
    )  # fmt: skip
    dispatcher.bus.publish(stuck)


def where(task: trio.lowlevel.Task) -> str:
    """Where a task waits, as `function (file:line) > ...`, Trio's and ccm's own frames left out. O(depth)."""
    frames = [
        f"{frame.f_code.co_qualname} ({PurePath(frame.f_code.co_filename).name}:{line})"
        for frame, line in task.iter_await_frames()
        if not frame.f_globals.get("__name__", "").startswith(("trio.", "ccm._"))
    ]
    return " > ".join(frames[-_SHOWN:])
