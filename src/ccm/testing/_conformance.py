"""`check_storage`: the suite that every storage must pass."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from ccm.storage import Accepted, Storage
from ccm.testing import _promises_history
from ccm.testing._promises import PROMISES, same
from ccm.testing._storage_kit import accept, everything, message, talk

# Importing it adds its promises.
_SUITES: tuple[ModuleType, ...] = (_promises_history,)


def check_storage(factory: Callable[[], Storage]) -> None:
    """Check that a storage keeps every promise of `ccm.storage.Storage`.

    Each promise is tried on a storage of its own. If what it keeps is durable, the same object is closed and
    opened again, and everything must be there.

    Args:
        factory: returns a new, closed, empty storage; is called about 25 times. What a storage leaves behind
            (files, tables) is for the caller to remove.

    Raises:
        AssertionError: a promise is broken; the text names it, and what was expected.

    Takes about a second for a storage on a disk. A test of your own storage is one line::

        def test_it(tmp_path):
            names = itertools.count()
            check_storage(lambda: MyStorage(tmp_path / f"{next(names)}.db"))
    """
    for text, check in (*PROMISES, ("what is committed is there after closing and opening again", _reopened)):
        storage = factory()
        try:
            storage.open()
            check(storage)
        except Exception as error:  # whatever it is, it is no kept promise
            raise AssertionError(f"{storage!r} breaks a promise: {text} ({_told(error)})") from error
        finally:
            storage.close()


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, AssertionError) else f"it raised {error!r}"


def _reopened(storage: Storage) -> None:
    if not storage.durable:
        return
    talk(storage, deliver=True)
    talk(storage, "bob", letter=1)
    seq = accept(storage, message_id="x")
    before = everything(storage)
    for _ in range(2):
        storage.close()
        storage.open()
        same("everything", everything(storage), before)
    assert not isinstance(storage.accept([message(message_id="x")])[0], Accepted), "an id was forgotten"
    assert (number := accept(storage)) > seq, f"{number} was given after {seq}"
