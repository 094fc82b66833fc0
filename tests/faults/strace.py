"""Lets each k-th write and each k-th fsync of a SQLite storage fail: `python -m tests.faults.strace`.

The system call itself fails (strace injects EIO, ENOSPC, or SIGKILL instead of it), so everything above it is
the real thing. A child commits and says what it was told; afterwards the file must hold all of that.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccm import StorageError
from ccm.storage import Accept, Accepted, Said, Settle, SqliteStorage

CALLS = ("fdatasync", "pwrite64")
FAULTS = ("signal=SIGKILL", "error=EIO", "error=ENOSPC")
COMMITS = 12


def child(path: str) -> None:
    """Commit; a line for everything that was promised, and for every error."""
    storage, draw, waiting = SqliteStorage(path), random.Random(0), list[int]()
    try:
        storage.open()
    except StorageError as error:
        print("closed", error, flush=True)
        return
    print("open", flush=True)
    for number in range(COMMITS):
        ended = draw.sample(waiting, min(len(waiting), 2))
        operations: list[Any] = [_message(number) for _ in range(3)] + [_end(seq) for seq in ended]
        try:
            results = storage.commit(operations)
        except StorageError as error:
            print("error", int(error.unknown), error, flush=True)
            continue
        for result in results:
            if isinstance(result, Accepted):
                print("accepted", result.seq, flush=True)
                waiting.append(result.seq)
        for seq in ended:
            print("settled", seq, flush=True)
            waiting.remove(seq)
    storage.close()
    print("done", flush=True)


def _message(number: int) -> Accept:
    return Accept(
        conversation=f"c{number % 3}", tenant="", user="u", body='{"text": "' + "x" * 300 + '"}', at=1.0
    )


def _end(seq: int) -> Settle:
    said = (Said(role="user", user="u", text="hello " * 20), Said(role="assistant", text="hi"))
    return Settle(
        seq=seq, conversation=f"c{seq % 3}", tenant="", user="u", route="r", outcome="replied", accepted=1.0,
        ended=2.0, said=said,
    )  # fmt: skip


@dataclass
class Result:
    """What the faults did."""

    faults: int = 0
    errors: int = 0
    unknown: int = 0
    refused: int = 0
    killed: int = 0
    there_after_all: int = 0
    found: list[str] = field(default_factory=list)


def one(folder: Path, call: str, fault: str, k: int, result: Result) -> bool:
    """Let the k-th `call` of a run fail; False: it has fewer."""
    for old in folder.iterdir():
        old.unlink()
    path = folder / "bot.db"
    run = subprocess.run(
        ["strace", "-f", "-qq", "-o", str(folder / "trace"), "-e", f"trace={call}", "-e",
         f"inject={call}:{fault}:when={k}", sys.executable, "-m", "tests.faults.strace", "--child",
         str(path)],
        capture_output=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    if "INJECTED" not in (folder / "trace").read_text() and run.returncode >= 0 and "SIGKILL" not in fault:
        return False
    lines = [line.split() for line in run.stdout.splitlines()]
    said = {word: {int(line[1]) for line in lines if line[0] == word} for word in ("accepted", "settled")}
    done = any(line[0] == "done" for line in lines)
    if "SIGKILL" in fault and done:
        return False
    result.faults += 1
    result.killed += "SIGKILL" in fault
    result.errors += sum(line[0] == "error" for line in lines)
    result.unknown += sum(line[:2] == ["error", "1"] for line in lines)
    result.refused += any(line[0] == "closed" for line in lines)
    where = f"{call} {k}, {fault}"
    if not done and "SIGKILL" not in fault and not any(line[0] == "closed" for line in lines):
        result.found.append(f"{where}: the program ended: {run.stderr[-300:]}")
    if path.exists() and path.stat().st_size and any(line[0] == "open" for line in lines):
        connection = sqlite3.connect(path)
        inbox = {seq for (seq,) in connection.execute("SELECT seq FROM inbox")}
        turns = {seq for (seq,) in connection.execute("SELECT seq FROM turns")}
        sound = connection.execute("PRAGMA integrity_check").fetchall()
        connection.close()
        if lost := said["accepted"] - inbox - turns:
            result.found.append(f"{where}: accepted and lost: {sorted(lost)}")
        if open_ := said["settled"] - turns:
            result.found.append(f"{where}: settled and not there: {sorted(open_)}")
        if sound != [("ok",)]:
            result.found.append(f"{where}: corrupt: {sound[:3]}")
        result.there_after_all += bool(inbox | turns) and bool((inbox | turns) - said["accepted"])
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--most", type=int, default=1000, help="of each kind of fault, at most so many")
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return 0
    if shutil.which("strace") is None:
        print("this needs strace; install it (apt-get install strace)", file=sys.stderr)
        return 2
    result, began = Result(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for call in CALLS:
            for fault in FAULTS:
                k = 1
                while k <= arguments.most and one(Path(folder), call, fault, k, result):
                    k += 1
                print(f"{call} {fault}: {k - 1}", file=sys.stderr)
    print(
        f"{result.faults} faults in {time.monotonic() - began:.0f} s: {result.killed} kills, {result.errors}"
        f" refused commits ({result.unknown} of them unknown), {result.refused} files not opened;"
        f" {result.there_after_all} times something was there that had not been promised"
    )
    for what in result.found[:20]:
        print("FOUND:", what)
    print("nothing promised was lost" if not result.found else f"{len(result.found)} found")
    return bool(result.found)


if __name__ == "__main__":
    raise SystemExit(main())
