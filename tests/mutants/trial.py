"""Runs the tests on a copy of the sources with one bug in it.

Every trial is a fork of this process, which has loaded what the tests need but nothing of `ccm`, and finds
what does not change compiled: to start pytest and Hypothesis anew for each took longer than its tests.
"""

from __future__ import annotations

import compileall
import gc
import importlib
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from .mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
PYTEST = (
    "-x",
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:anyio",
    "-p",
    "tests.mutants.plugin",
    "--hypothesis-seed=0",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",  # of what is loaded before
)
SHARED = ("hypothesis.stateful", "pytest_trio.plugin", "trio.testing", "multiprocessing", "subprocess")


class Sources:
    """The sources as they are, compiled, in a folder that has room for the trials of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sound = folder / "src"
        shutil.copytree(ROOT / "src", self._sound)
        # Bytecode goes into the folder, too: nobody's working tree gets any, and it is gone afterwards.
        sys.dont_write_bytecode = False
        sys.pycache_prefix = str(folder / "bytecode")
        compileall.compile_dir(self._sound, quiet=1)
        for name in SHARED:
            importlib.import_module(name)
        assert "ccm" not in sys.modules  # its sources differ from trial to trial
        gc.collect()
        gc.freeze()  # or the first collection of each fork copies all of its memory

    def plant(self, mutant: Mutant | None) -> Path:
        """Copy the sources, with the bug in them; returns where they are, in a folder of their own.

        Raises:
            LookupError: the text to replace is not there exactly once.
        """
        text = ""
        if mutant is not None:
            path = self._sound / "ccm" / mutant.file
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            if text.count(mutant.old) != 1:
                raise LookupError(f"its text occurs {text.count(mutant.old)} times in {mutant.file}")
        source = Path(tempfile.mkdtemp(dir=self.folder), "src")
        shutil.copytree(self._sound, source)
        shutil.copytree(_bytecode_of(self._sound), _bytecode_of(source))
        if mutant is not None:
            path = source / "ccm" / mutant.file
            Path(importlib.util.cache_from_source(str(path))).unlink()
            path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        return source


def _bytecode_of(folder: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(folder / "any.py"))).parent


@dataclass(frozen=True)
class Ended:
    """What became of a trial: the exit status of pytest, None when it did not end in time, and its output."""

    status: int | None
    output: str
    seconds: float


class Trial:
    """One run of tests in a process of its own.

    Raises:
        LookupError: the mutant does not apply; nothing has been started.
    """

    def __init__(
        self, sources: Sources, mutant: Mutant | None, tests: tuple[str, ...], timeout: float
    ) -> None:
        self.mutant = mutant
        source = sources.plant(mutant)
        self._folder = source.parent
        self._output = self._folder / "output"
        self._output.touch()
        self._begun = time.monotonic()
        self._deadline = self._begun + timeout
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if not self._pid:
            _run(source, self._output, tests)
        with suppress(OSError):  # it has done so itself, or is over
            os.setpgid(self._pid, self._pid)

    def poll(self) -> Ended | None:
        """How it ended, once; None while it runs."""
        late = time.monotonic() > self._deadline
        if not late and os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        seconds = time.monotonic() - self._begun
        # With what the tests have started; before its number is given back, or it might be another's.
        with suppress(PermissionError):  # some systems refuse it when all of them are over
            os.killpg(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        output = self._output.read_text(encoding="utf-8", errors="replace")
        shutil.rmtree(self._folder, ignore_errors=True)
        return Ended(None if late else os.waitstatus_to_exitcode(status), output, seconds)

    def give_up(self) -> None:
        """End it now, whatever it is doing."""
        self._deadline = 0.0
        self.poll()


def _run(source: Path, output: Path, tests: tuple[str, ...]) -> NoReturn:
    """In the fork: run the tests and end with pytest's exit status."""
    code = 70
    try:
        os.setpgid(0, 0)
        for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
            os.dup2(os.open(output if number else os.devnull, flags | os.O_APPEND), number)
        os.chdir(ROOT)
        sys.path[:0] = [str(source), str(ROOT)]
        os.environ |= {
            "PYTHONPATH": str(source),
            "CCM_MUTANT_SOURCE": str(source),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(source.parent / "hypothesis"),
        }
        code = pytest.main([*PYTEST, *tests])
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
