"""`ccm replay`: real chat logs through a manager, and a check that nothing was lost or reordered."""

from __future__ import annotations

import argparse
import contextlib
from functools import partial
from typing import Any, Literal

import attrs

import ccm
from ccm._core.routes import check_handler
from ccm.testing import Arrival, FakeModel, MalformedLine, irc_traffic, lognormal

from ._answerer import load_object
from ._console import MISSED, OK, UsageError, factor_or_max, load_tables, print_json, run_trio, say, whole
from ._crash import crash_replay
from ._report import Report, build_report
from ._run import Show, run
from ._storing import add_storage, check_storage, run_prefix
from ._witness import Handler, Witness

SHOWN = 20
"""Malformed lines listed one by one; the rest is counted."""
QUEUE = 1000
"""Turns that may wait before the sender has to."""


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "replay",
        help="send chat logs through a manager and check every outcome and the order",
        description="Sends chat logs ('[HH:MM] <nick> text') through a manager and checks that every message "
        "got one outcome and that each conversation was answered in order.",
    )
    parser.add_argument("logs", nargs="+", metavar="LOG", help="files; all start at the same time")
    parser.add_argument(
        "--speed", type=factor_or_max, default=60.0, metavar="X",
        help="times as fast as it was said, 'max' is without pauses (default 60: a minute in a second)",
    )  # fmt: skip
    parser.add_argument(
        "--by", choices=("file", "user"), default="file",
        help="what is a conversation: a whole file, or each person of a file (default file)",
    )  # fmt: skip
    parser.add_argument(
        "--handler", metavar="MODULE:FUNCTION",
        help="async function that takes a turn and returns the answer; also found in this folder "
        "(default: a stand-in that takes about a second of the log's time)",
    )  # fmt: skip
    parser.add_argument("--limit", type=whole(1, 100_000), default=50, metavar="N", help="slots (default 50)")
    add_storage(parser)
    parser.add_argument(
        "--crash", action="store_true",
        help="kill the process with SIGKILL at random moments and start it again on the same --storage file, "
        "until everything is answered; then prove that nothing was lost, doubled or reordered",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="with --crash: draws the moments (default 1)"
    )
    parser.add_argument("--strict", action="store_true", help="stop at a malformed line, with exit code 2")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, nothing else")
    parser.set_defaults(command=replay)


@attrs.frozen(kw_only=True)
class Replay:
    """What to replay and how; `speed` None is as fast as the manager takes it."""

    logs: tuple[str, ...]
    by: Literal["file", "user"] = "file"
    speed: float | None = 60.0
    limit: int = 50
    storage: str | None = None

    @property
    def config(self) -> ccm.Config:
        """Nothing that was really said is refused: a sender waits instead. Retries keep the log's time."""
        scale = self.speed or 1.0
        return ccm.Config(
            limit=self.limit, queue_limit=QUEUE, conversation_limit=QUEUE, overflow=ccm.Overflow.WAIT,
            max_sessions=2 * QUEUE + self.limit, rate_limit=None, max_text=1 << 30,
            retry=ccm.RetryPolicy(attempts=3, base=0.1 / scale, cap=10.0 / scale), drain=1.0,
        )  # fmt: skip

    @property
    def stand_in(self) -> FakeModel:
        """Answers after about a second of the log's time; without pauses, after a few milliseconds."""
        return FakeModel(latency=lognormal(0.002 if self.speed is None else 1.0 / self.speed, 0.5))

    def read(self) -> tuple[list[Arrival], list[MalformedLine]]:
        """The messages of all logs in order, and the lines that are none.

        Raises:
            UsageError: a log cannot be read.
        """
        malformed: list[MalformedLine] = []
        try:
            arrivals = irc_traffic(self.logs, speed=self.speed or 1.0, by=self.by, malformed=malformed.append)
            return list(arrivals), malformed
        except OSError as error:
            raise UsageError(f"cannot read {error.filename!r}: {error.strerror}; name chat logs") from None
        except ValueError as error:
            raise UsageError(str(error)) from None


def load_handler(spec: str) -> Handler:
    """The async function that `module:function` names; modules of the current folder are found too.

    Raises:
        UsageError: there is no such function, or it is not async.
    """
    found = load_object(spec, "--handler")
    try:
        check_handler("--handler", found)
    except TypeError as error:
        raise UsageError(str(error)) from None
    return found  # type: ignore[no-any-return]


async def play(
    job: Replay, arrivals: list[Arrival], handler: Handler, show: Show | None = None, *,
    ordered: bool = True, notes: tuple[str, ...] = (), settings: dict[str, Any] | None = None,
) -> Report:  # fmt: skip
    """Run the replay and judge it. `ordered=False` gives up the order, and the check says so."""
    witness = Witness(limit=job.limit)
    router = ccm.Router()
    add = router.route("chat", priority=ccm.by_content(), ordered=ordered)
    add(witness.watch(handler, ordered=True))
    prefix = run_prefix(job.storage)
    if prefix:
        arrivals = [attrs.evolve(a, message=a.message.replace(id=prefix + a.message.id)) for a in arrivals]
    finished = await run(
        router, job.config, arrivals, witness, paced=job.speed is not None, show=show, storage=job.storage
    )
    return build_report(
        "replay", witness, finished, targets={}, answer_all=False, notes=notes,
        settings=attrs.asdict(job) | (settings or {}),
    )  # fmt: skip


def replay(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.crash and arguments.storage is None:
        raise UsageError("--crash needs a file that survives: add --storage FILE")
    job = Replay(
        logs=tuple(arguments.logs), by=arguments.by, speed=arguments.speed, limit=arguments.limit,
        storage=check_storage(arguments.storage),
    )  # fmt: skip
    tables = None if arguments.json else load_tables()
    handler = load_handler(arguments.handler) if arguments.handler else job.stand_in
    arrivals, malformed = job.read()
    if malformed:
        tell(malformed)
        if arguments.strict:
            raise UsageError(
                f"{_count(malformed)}; mend the logs, or leave out --strict to go on without them"
            )
    if not arrivals:
        say("ccm: no message in these logs; a line looks like this: [12:34] <nick> text")
    if arguments.crash:
        return crash_replay(job, [arrival.message for arrival in arrivals], arguments.seed, tables)
    with tables.progress(len(arrivals)) if tables else contextlib.nullcontext() as show:
        report = run_trio(
            partial(play, job, arrivals, handler, show, notes=_notes(malformed),
                    settings={"handler": arguments.handler, "malformed": len(malformed)})
        )  # fmt: skip
    if tables:
        tables.print_report(report)
    else:
        print_json(report.as_json() | {"malformed": [attrs.asdict(line) for line in malformed]})
    return OK if report.ok else MISSED


def _count(malformed: list[MalformedLine]) -> str:
    return f"{len(malformed)} malformed line{'s' * (len(malformed) > 1)}"


def _notes(malformed: list[MalformedLine]) -> tuple[str, ...]:
    return (f"{_count(malformed)} left out, see above",) if malformed else ()


def tell(malformed: list[MalformedLine]) -> None:
    """Malformed lines for people, on stderr: the first ones, and how many there are more."""
    for line in malformed[:SHOWN]:
        text = line.text if len(line.text) <= 80 else line.text[:77] + "..."
        say(f"{line.file}:{line.line}: {line.reason}: {text!r}")
    if len(malformed) > SHOWN:
        say(f"... and {len(malformed) - SHOWN} more malformed lines")
