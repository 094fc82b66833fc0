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
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .catalog import MUTANTS
from .mutant import Mutant
from .trial import Ended, Sources, Trial

FAILED = re.compile(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", re.MULTILINE)
TESTS_FAILED = 1
GLANCE = 0.02
"""Seconds between two looks at the trials that run."""


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant, or of the tests without any."""

    name: str
    law: str
    status: str
    by: str
    seconds: float


def judge(mutant: Mutant | None, ended: Ended, timeout: float) -> Verdict:
    """What the end of a trial says of its mutant; without one the tests must pass, or nothing is proved."""
    found = FAILED.search(ended.output)
    by = found[1] if found else f"pytest ended with {ended.status}: {ended.output.strip()[-300:]!r}"
    if mutant is None:
        passed = ended.status == 0
        return Verdict("(none)", "", "passed" if passed else "failed", "" if passed else by, ended.seconds)
    status = "broken"
    if ended.status is None:
        status, by = "killed", f"no end within {timeout:g} s"
    elif ended.status == TESTS_FAILED:
        status = "killed"
    elif ended.status == 0:
        status, by = "survived", "no test noticed"
    return Verdict(mutant.name, mutant.law, status, by, ended.seconds)


def show(verdict: Verdict, done: int, total: int) -> None:
    mark = {"killed": "killed  ", "passed": "passed  "}.get(verdict.status, verdict.status.upper().ljust(8))
    line = (
        f"[{done:2}/{total}] {mark} {verdict.name:32} {verdict.law:12} {verdict.seconds:5.1f} s  {verdict.by}"
    )
    print(line, file=sys.stderr, flush=True)


def trials(sources: Sources, mutants: list[Mutant], timeout: float) -> Iterator[Trial | Verdict]:
    """One after the other: first the same tests without a bug."""
    tests = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    yield Trial(sources, None, tests, 20 * timeout)
    for mutant in mutants:
        try:
            yield Trial(sources, mutant, mutant.tests, timeout)
        except LookupError as error:
            yield Verdict(mutant.name, mutant.law, "broken", f"{error}; bring the catalog up to date", 0.0)


def run(sources: Sources, mutants: list[Mutant], jobs: int, timeout: float) -> list[Verdict]:
    """Judge them all, `jobs` at a time; the tests without a mutant come first in the result."""
    verdicts: dict[str, Verdict] = {}
    total = len(mutants) + 1
    waiting = trials(sources, mutants, timeout)
    running: list[Trial] = []

    def note(verdict: Verdict) -> None:
        verdicts[verdict.name] = verdict
        show(verdict, len(verdicts), total)

    try:
        while len(verdicts) < total:
            while len(running) < jobs and (step := next(waiting, None)) is not None:
                if isinstance(step, Trial):
                    running.append(step)
                else:
                    note(step)
            for trial in list(running):
                if (ended := trial.poll()) is not None:
                    running.remove(trial)
                    note(judge(trial.mutant, ended, timeout))
            time.sleep(GLANCE)
    finally:
        for trial in running:
            trial.give_up()
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
    jobs = os.cpu_count() or 1
    parser.add_argument("--jobs", type=int, default=jobs, help="mutants at a time (default: one per CPU)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds after which tests count as hung")
    options = parser.parse_args()
    if options.list:
        for mutant in MUTANTS:
            print(
                f"{mutant.name:32} {mutant.law:12} {mutant.file:24} {'slow' if mutant.slow else ''}".rstrip()
            )
        return 0
    begun = time.monotonic()
    mutants = chosen(options, parser)
    with tempfile.TemporaryDirectory(prefix="ccm-mutants-") as folder:
        without, *verdicts = run(Sources(Path(folder)), mutants, options.jobs, options.timeout)
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
