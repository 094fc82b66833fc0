"""What is measured: one case per row of the table."""

from __future__ import annotations

import attrs

from . import aio, context, discord, fresh, http, pools, reference, storage, streams, workloads
from ._measure import Absent, Measure, Void, interleave
from ._table import Reach, Row

RATE = "msg/s"
MILLION = 1_000_000


@attrs.frozen(kw_only=True)
class Case:
    """A row to be: what to run, how much of it (`n`; `quick` in a trial run), and at most how often."""

    row: Row
    ours: Measure
    reference: Measure | None = None
    n: int = 30_000
    quick: int = 300
    most_rounds: int = 100
    more_is_better: bool = True


def _case(
    name: str, what: str, ours: Measure, against: str = "", other: Measure | None = None,
    reach: Reach | None = None, *, unit: str = RATE, **sizes: int,
) -> Case:  # fmt: skip
    row = Row(name=name, what=what, unit=unit, reference_name=against, reach=reach)
    return Case(row=row, ours=ours, reference=other, more_is_better=unit == RATE, **sizes)


def _intake() -> list[Case]:
    near, seeds = Reach(">=", 0.8), Reach(">=", 2.5)
    channel, style = reference.channel, reference.seed_style
    raw, seed = "Trio channel", "seed style"
    ready, waiting = workloads.submit_nowait, workloads.submit
    return [
        _case("submit_nowait", "no-op, submit_nowait", ready, raw, channel, near),
        _case("submit", "no-op, submit", waiting, raw, channel, near),
        _case("build", "the same, building the messages too", workloads.submit_and_build, raw, channel),
        _case("own_ids", "the same, ids given by the sender", workloads.submit_own_ids, raw, channel),
        _case(
            "ask64", "ask from 64 callers", workloads.ask64, "Trio ask64", reference.ask64, Reach(">=", 0.6)
        ),
        _case("aio", "ask from 64 asyncio callers", aio.asyncio_ask, "the same in Trio", aio.trio_ask),
        _case("seeds", "no-op, submit_nowait", ready, seed, style, seeds),
        _case("seeds_submit", "no-op, submit", waiting, seed, style, seeds),
    ]


def _rivals() -> list[Case]:
    ahead = Reach(">=", 1.0)
    ptb = fresh.rival("python-telegram-bot", "telegram")
    aiogram = fresh.rival("aiogram", "aiogram")
    ready, waiting, what = workloads.submit_nowait, workloads.submit, "no-op, submit_nowait"
    return [
        _case("telegram", what, ready, "python-telegram-bot", ptb, ahead, n=20_000),
        _case("telegram_submit", "no-op, submit", waiting, "python-telegram-bot", ptb, ahead, n=20_000),
        _case("aiogram", what, ready, "aiogram", aiogram, ahead, n=10_000, most_rounds=3),
    ]


def _sizes() -> list[Case]:
    few, many, spread = workloads.few_sessions, workloads.many_sessions, workloads.many_sessions_spread
    return [
        _case(
            "sessions", "100,000 sessions, 1,000 of them used", many, "1,000 sessions", few,
            Reach("<=", 1.2), unit="µs", most_rounds=5,
        ),
        _case(
            "sessions_all", "100,000 sessions, all used in turn", spread, "1,000 sessions", few,
            unit="µs", most_rounds=3,
        ),
        _case(
            "memory", "100,000 idle sessions", fresh.idle_sessions_mib,
            reach=Reach("<=", 64, "figure"), unit="MiB", n=100_000, most_rounds=2,
        ),
        _case(
            "handlers", "50 ms handlers, limit 50", workloads.napping, "bound", workloads.napping_bound,
            Reach(">=", 0.95), n=2_000, quick=50, most_rounds=3,
        ),
        _case(
            "import", "import ccm, above import trio", fresh.import_ms,
            reach=Reach("<=", 60, "figure"), unit="ms", n=fresh.IMPORTS, quick=1, most_rounds=1,
        ),
    ]  # fmt: skip


def _contexts() -> list[Case]:
    return [
        _case(
            "context", "a turn that wants three contexts of 20 ms, all there", context.warm,
            "all loaded", context.cold, Reach(">=", 3.0), n=50, quick=2, most_rounds=3,
        ),
        _case(
            "loader_calls", "loader calls, chat logs, three contexts a turn", context.loader_calls,
            "no cache", context.wanted, Reach("<=", 0.3), unit="calls", most_rounds=1,
        ),
        _case(
            "loader_calls_person", "of these, of the context that is one person's", context.person_calls,
            "no cache", context.wanted_of_persons, unit="calls", most_rounds=1,
        ),
        _case(
            "process", "a call of in_process, worker there", pools.warm_process, "trio-parallel", pools.bare,
            Reach("<=", 100, "figure"), unit="µs", n=200, quick=2, most_rounds=3,
        ),
    ]  # fmt: skip


def _http() -> list[Case]:
    return [
        _case(
            "http", "server's CPU for a chat over HTTP", http.chat, "empty FastAPI endpoint", http.empty,
            Reach("<=", 1.25), unit="µs", n=3_200, quick=32, most_rounds=3,
        ),
        _case(
            "websockets", "each of 1,000 idle WebSockets", streams.idle_websocket_kib, unit="KiB", n=1_000,
            quick=20, most_rounds=1,
        ),
        _case(
            "sse", "p99 of CRITICAL waits among 1,000 SSE chats", streams.critical_wait_ms,
            reach=Reach("<=", 100, "figure"), unit="ms", n=1_000, quick=20, most_rounds=1,
        ),
        _case(
            "sse_answer", "the same, until the client has the answer", streams.critical_answer_ms,
            unit="ms", n=1_000, quick=20, most_rounds=1,
        ),
    ]  # fmt: skip


def _discord() -> list[Case]:
    ahead, theirs = Reach(">=", 1.0), discord.discord_py
    return [
        _case(
            "discord", "gateway events to messages, those a chat bot wants", discord.bridged, "discord.py",
            theirs, ahead, n=20_000,
        ),
        _case(
            "discord_all", "the same, every event decoded", discord.all_events, "discord.py", theirs, ahead,
            n=20_000,
        ),
    ]  # fmt: skip


def _storage() -> list[Case]:
    page, found = Reach("<=", 5.0, "figure"), Reach("<=", 50.0, "figure")
    return [
        _case(
            "durable", "submit from 500 senders, SQLite, real fsync", storage.durable, "memory",
            storage.memory, Reach(">=", 0.4), n=30_000, quick=500,
        ),
        _case(
            "durable_lone", "submit from one sender, SQLite", storage.lone, "bare SQLite commit",
            storage.bare, Reach("<=", 1.5), unit="µs", n=300, quick=5,
        ),
        _case(
            "durable_hop", "submit from one sender, SQLite", storage.lone, "such a commit in a thread",
            storage.bare_in_thread, Reach("<=", 1.5), unit="µs", n=300, quick=5,
        ),
        _case(
            "file", "file size of a turn with 186 characters", storage.file_size, unit="bytes", n=20_000,
            quick=500, most_rounds=1,
        ),
        _case(
            "file_archived", "the same, archived and vacuumed", storage.file_size_archived, unit="bytes",
            n=20_000, quick=500, most_rounds=1,
        ),
        _case(
            "history", "a page of 50 in a million lines", storage.history, reach=page, unit="ms", n=MILLION,
            quick=1000, most_rounds=1,
        ),
        _case(
            "search", "a word that 20 of a million lines have", storage.search_rare, reach=found, unit="ms",
            n=MILLION, quick=1000, most_rounds=1,
        ),
        _case(
            "search_common", "two words that 10,000 of a million lines have", storage.search_common,
            reach=found, unit="ms", n=MILLION, quick=1000, most_rounds=1,
        ),
    ]  # fmt: skip


CASES = {
    case.row.name: case
    for case in (*_intake(), *_rivals(), *_sizes(), *_contexts(), *_storage(), *_http(), *_discord())
}


def measure(case: Case, *, rounds: int, quick: bool = False) -> Row:
    """The case's row. It is void, not fast, when a message was not answered."""
    try:
        series = interleave(
            case.ours, case.reference, n=case.quick if quick else case.n,
            rounds=min(rounds, case.most_rounds), more_is_better=case.more_is_better,
        )  # fmt: skip
    except Void as error:
        return attrs.evolve(case.row, verdict="void", note=str(error))
    except Absent as error:
        return attrs.evolve(case.row, verdict="not measured", note=str(error))
    return case.row.measured(series, judge=not quick)
