"""Plants known bugs, one at a time, and expects the tests to find each: `python -m tests.mutants`.

Each mutant is applied to a copy of `src`, so the working tree is never touched. It is killed when one of
its tests fails, or when they do not end; a mutant that survives shows a law that no test guards.

Exit status: 0 when all were killed, 1 when one survived or no longer applies, 2 when the tests fail
without any mutant, which makes everything else meaningless.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from .catalog import MUTANTS
from .mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
PYTEST = (
    "-m",
    "pytest",
    "-x",
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "tests.mutants.plugin",
    "--hypothesis-seed=0",
)
FAILED = re.compile(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", re.MULTILINE)
TESTS_FAILED = 1


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant, or of the tests without any."""

    name: str
    law: str
    status: str
    by: str
    seconds: float


@contextmanager
def planted(mutant: Mutant | None) -> Iterator[Path]:
    """A copy of the sources with the bug in it; removed afterwards.

    Raises:
        LookupError: the text to replace is not there exactly once.
    """
    with tempfile.TemporaryDirectory(prefix="ccm-mutant-") as folder:
        source = Path(folder, "src")
        shutil.copytree(ROOT / "src", source)
        if mutant is not None:
            path = source / "ccm" / mutant.file
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            if text.count(mutant.old) != 1:
                raise LookupError(f"its text occurs {text.count(mutant.old)} times in {mutant.file}")
            path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        yield source


def run_pytest(source: Path, tests: tuple[str, ...], timeout: float) -> tuple[int | None, str]:
    """The exit status and output of the tests on `source`; None when they did not end in time."""
    env = os.environ | {
        "PYTHONPATH": str(source),
        "CCM_MUTANT_SOURCE": str(source),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(source.parent / "hypothesis"),
    }
    process = subprocess.Popen(
        [sys.executable, *PYTEST, *tests],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that what the tests started ends with them
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return None, output
    return process.returncode, output


def judge(mutant: Mutant, timeout: float) -> Verdict:
    begun = time.monotonic()

    def verdict(status: str, by: str) -> Verdict:
        return Verdict(mutant.name, mutant.law, status, by, round(time.monotonic() - begun, 1))

    try:
        with planted(mutant) as source:
            code, output = run_pytest(source, mutant.tests, timeout)
    except LookupError as error:
        return verdict("broken", f"{error}; bring the catalog up to date")
    if code is None:
        return verdict("killed", f"no end within {timeout:g} s")
    if code == TESTS_FAILED:
        found = FAILED.search(output)
        return verdict("killed", found[1] if found else "?")
    if code == 0:
        return verdict("survived", "no test noticed")
    return verdict("broken", f"pytest ended with {code}: {output.strip()[-200:]!r}")


def baseline(mutants: list[Mutant], timeout: float) -> Verdict:
    """The same tests on the same copy without a bug: they must pass, or a failure proves nothing."""
    begun = time.monotonic()
    tests = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    with planted(None) as source:
        code, output = run_pytest(source, tests, timeout)
    found = FAILED.search(output)
    by = "" if code == 0 else found[1] if found else output.strip()[-300:]
    return Verdict("(none)", "", "passed" if code == 0 else "failed", by, round(time.monotonic() - begun, 1))


def show(verdict: Verdict, done: int, total: int) -> None:
    mark = {"killed": "killed  ", "passed": "passed  "}.get(verdict.status, verdict.status.upper().ljust(8))
    line = (
        f"[{done:2}/{total}] {mark} {verdict.name:32} {verdict.law:12} {verdict.seconds:5.1f} s  {verdict.by}"
    )
    print(line, file=sys.stderr, flush=True)


def run(mutants: list[Mutant], jobs: int, timeout: float) -> list[Verdict]:
    """Judge them all; the tests without a mutant come first in the result."""
    verdicts: dict[str, Verdict] = {}
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(baseline, mutants, 20 * timeout)]
        futures += [pool.submit(judge, mutant, timeout) for mutant in mutants]
        for future in as_completed(futures):
            verdict = future.result()
            verdicts[verdict.name] = verdict
            show(verdict, len(verdicts), len(futures))
    return [verdicts[name] for name in ("(none)", *(mutant.name for mutant in mutants))]


def chosen(options: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Mutant]:
    known = {mutant.name: mutant for mutant in MUTANTS}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no mutant is called {unknown[0]!r}; see --list")
    if options.names:
        return [known[name] for name in options.names]
    return [mutant for mutant in MUTANTS if options.all or not mutant.slow]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="the mutants to plant; without: all that are quick")
    parser.add_argument("--all", action="store_true", help="the slow ones too")
    parser.add_argument("--list", action="store_true", help="show the catalog and stop")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default: 2)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds after which tests count as hung")
    options = parser.parse_args()
    if options.list:
        for mutant in MUTANTS:
            print(
                f"{mutant.name:32} {mutant.law:12} {mutant.file:24} {'slow' if mutant.slow else ''}".rstrip()
            )
        return 0
    begun = time.monotonic()
    without, *verdicts = run(chosen(options, parser), options.jobs, options.timeout)
    if options.json:
        print(json.dumps([asdict(verdict) for verdict in (without, *verdicts)], indent=2))
    killed = sum(verdict.status == "killed" for verdict in verdicts)
    print(f"{killed} of {len(verdicts)} killed in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    for verdict in verdicts:
        if verdict.status != "killed":
            print(f"{verdict.status}: {verdict.name} ({verdict.law}): {verdict.by}", file=sys.stderr)
    if without.status != "passed":
        print(f"the tests fail without any mutant: {without.by}", file=sys.stderr)
        return 2
    return 0 if killed == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
