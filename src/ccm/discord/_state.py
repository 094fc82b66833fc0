"""What must outlive the process: sessions to go on with, and how many were begun."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import attrs
import trio

from ._actions import SavedSession
from ._errors import DiscordError

__all__ = ["State", "open_state"]


@final
class State:
    """The state of one bot, in memory and, if there is a path, in a file.

    Args:
        path: the file; None keeps nothing.

    Attributes:
        begun: when sessions were begun, in seconds since 1970.
        sessions: `"shard/shards"` -> the session to go on with.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._writing = trio.Lock()
        self.begun: tuple[float, ...] = ()
        self.sessions: dict[str, SavedSession] = {}

    @property
    def kept(self) -> bool:
        """Whether it outlives the process."""
        return self._path is not None

    def read(self, content: bytes) -> None:
        """Take over what a file holds.

        Raises:
            DiscordError: it is not such a file.
        """
        try:
            found = json.loads(content)
            begun = tuple(float(time) for time in found["begun"])
            sessions = {name: _session(saved) for name, saved in found["sessions"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DiscordError(
                f"the file {str(self._path)!r} is not one of ccm.discord ({error!r}); "
                "remove it, or name another"
            ) from None
        self.begun, self.sessions = begun, sessions

    async def save(self) -> None:
        """Write it, whole or not at all; returns when it is on the disk. When cancelled it is written.

        Raises:
            OSError: it cannot be written; the file is as before.
        """
        async with self._writing:
            if self._path is None:
                return
            content = {
                "begun": list(self.begun),
                "sessions": {name: attrs.asdict(saved) for name, saved in self.sessions.items()},
            }
            await trio.to_thread.run_sync(_write, self._path, json.dumps(content).encode())


def _session(saved: Mapping[str, Any]) -> SavedSession:
    session_id, seq, url = saved["session_id"], saved["seq"], saved["resume_url"]
    if not isinstance(session_id, str) or seq.__class__ is not int or seq < 0 or not isinstance(url, str):
        raise ValueError(f"a session must have session_id, seq and resume_url, got {sorted(saved)!r}")
    return SavedSession(session_id, seq, url)


def _write(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # readable by its owner alone
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


async def open_state(path: Path | None) -> State:
    """The state as it was left; an empty one when there is no file.

    Raises:
        DiscordError: the file is not one of ours.
        OSError: it cannot be read.
    """
    state = State(path)
    if path is not None:
        with suppress(FileNotFoundError):
            state.read(await trio.to_thread.run_sync(path.read_bytes))
    await trio.lowlevel.checkpoint_if_cancelled()
    return state
