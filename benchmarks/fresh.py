"""What only a fresh interpreter can tell: memory, time to import, and rivals' speed without our heap."""

from __future__ import annotations

import gc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import trio

import ccm

from ._measure import Absent, Void
from .reference import ROOT
from .workloads import CLASSES, MANY_SESSIONS, check, nothing

_IMPORT = """
import trio
from time import perf_counter
start = perf_counter()
import ccm
print((perf_counter() - start) * 1000)
"""
IMPORTS = 9


def child(*arguments: str) -> float:
    """The number that a new interpreter prints."""
    # With compiled modules, as after an installation, also where nothing is to be left behind.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
        env=env,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Void(f"`python {' '.join(arguments)[:60]}` ended with code {done.returncode}: {last}")
    return float(done.stdout)


def import_ms(n: int) -> float:
    """Milliseconds that `import ccm` takes after `import trio`: the median of several interpreters."""
    child("-c", _IMPORT)  # not counted: it may have to compile
    return median(child("-c", _IMPORT) for _ in range(min(n, IMPORTS)))


def idle_sessions_mib(n: int) -> float:
    """MiB that `n` idle sessions add to a process that has just opened its manager."""
    resident()  # the new process could not say that it is absent
    return child("-m", "benchmarks.fresh", str(n))


def rival(name: str, module: str) -> Callable[[int], float]:
    """Messages per second of a program of `benchmarks.rivals`."""

    def measure(n: int) -> float:
        if importlib.util.find_spec(module) is None:
            raise Absent(f"{name} is not installed; pip install '.[bench]'")
        return child("-m", "benchmarks.rivals", module, str(n))

    return measure


def resident(pid: int | str = "self") -> int:
    """Bytes of a process that are in memory.

    Raises:
        Absent: the system does not say.
    """
    import resource

    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except FileNotFoundError:
        raise Absent("resident memory is read from /proc, which this system does not have") from None
    return int(fields[1]) * resource.getpagesize()


async def _grow(sessions: int) -> float:
    """One message of its own user in each conversation; nothing but the sessions is left of them."""
    config = ccm.Config(max_sessions=MANY_SESSIONS)
    async with ccm.open_manager(nothing, config=config) as manager:
        gc.collect()
        start = resident()
        for i in range(sessions):
            message = ccm.Message(f"conversation-{i}", f"user-{i}", "hello", priority=CLASSES[i & 3])
            if manager.submit_nowait(message).position >= 100:
                await trio.lowlevel.checkpoint()
        await manager.wait_idle()
        gc.collect()
        grown = resident() - start
        statistics = manager.statistics()
    check(statistics, sessions)
    if statistics.sessions.idle != sessions:
        raise Void(f"{statistics.sessions.idle} idle sessions instead of {sessions}")
    return grown / 2**20


if __name__ == "__main__":
    print(trio.run(_grow, int(sys.argv[1])))
