"""Keys that were changed while a server runs: looked for once a second, taken over whole or not at all."""

from __future__ import annotations

import logging
from pathlib import Path

import trio

from .._errors import ConfigError
from ._front import Front
from ._keys import Keys, Stamp, stamp_of

LOG = logging.getLogger("ccm.http")
LOOK = 1.0
"""Seconds between two looks at the file."""


async def follow_keys(front: Front) -> None:
    """Let the front end have the keys that are in their file, until cancelled.

    A file that is gone, cannot be read, or is no file of keys leaves those that were read last; the log says
    why, once for each change. Does nothing for keys that come from no file.
    """
    if front.keys is None or front.keys.file is None:
        await trio.lowlevel.checkpoint()
        return
    file, seen = front.keys.file, front.keys.stamp
    while True:
        await trio.sleep(LOOK)
        # In a thread, because the file may be on a network; left behind there if that hangs.
        seen, found = await trio.to_thread.run_sync(_look, file, seen, abandon_on_cancel=True)
        if isinstance(found, Keys):
            gone = {key.name for key in front.keys if not found.still(key.caller)}
            front.replace_keys(found)
            words = f"; revoked or changed: {', '.join(map(repr, sorted(gone)))}" if gone else ""
            LOG.info("the keys were read again, they are %d%s", len(found), words)
        elif found is not None:
            LOG.error("the keys were not read again, the old ones stay: %s", found)


def _look(file: Path, seen: Stamp | None) -> tuple[Stamp | None, Keys | str | None]:
    """The stamp now, None if there is no file; and the keys, or why there are none, if it has changed."""
    stamp: Stamp | None = None
    try:
        stamp = stamp_of(file)
        if stamp == seen:
            return seen, None
        keys = Keys.load(file)
    except (OSError, ConfigError) as error:
        return stamp, None if stamp is None and seen is None else str(error)
    return keys.stamp, keys
