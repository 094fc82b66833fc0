"""GET /metrics: read back by Prometheus' own parser, complete, and counters that never fall."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.registry import CollectorRegistry

import ccm
from ccm import Config, Message, ProviderLimit, RetryPolicy, Statistics, Turn
from ccm.http import Keys, Settings
from ccm.http._metrics import ManagerCollector, registry_of
from ccm.testing import simulate

from .live import Live, in_thread

ROOT = Path(__file__).parent.parent.parent
ODD = 'route "1"\n\\'


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def scrape(manager: ccm.ConversationManager) -> str:
    return generate_latest(registry_of(manager)).decode()


async def busy_manager(check: Any, **settings: Any) -> None:
    """A manager with every part in use, on virtual time; `check` gets it when all is done."""
    router = ccm.Router()

    @router.route("chat")
    async def reply(turn: Turn) -> str:
        async with turn.limit("llm"):
            await trio.sleep(0.5)
        if "bad" in turn.text:
            raise ValueError("no")
        await turn.context("profile", load)
        return str(await turn.call("double", 21))

    @router.route(ODD, answers=False, ordered=False)
    async def side(turn: Turn) -> None:
        await trio.sleep(0.1)

    async def load(turn: Turn) -> str:
        return "profile"

    async def double(data: int) -> int:
        await trio.sleep(0.25)
        return data * 2

    config = Config(
        rate_limit=ccm.RateLimit(3, per=10), retry=RetryPolicy(attempts=2, base=0),
        provider_limits={"llm": ProviderLimit(2)},
    )  # fmt: skip
    async with ccm.open_manager(router, config=config) as manager:
        manager.service("double", double)
        for text in ("one", "bad", "two"):
            await manager.submit(Message("c", "ada", text))
        with pytest.raises(ccm.RateLimited):
            await manager.submit(Message("c", "ada", "four"))
        await manager.wait_idle()
        check(manager)


def test_what_it_says_is_what_the_statistics_say() -> None:
    def check(manager: ccm.ConversationManager) -> None:
        found = values(scrape(manager))
        now = manager.statistics()

        def value(name: str, **labels: str) -> float:
            return found[name, tuple(sorted(labels.items()))]

        assert value("ccm_messages_received_total") == 4
        assert value("ccm_messages_total", outcome="replied") == 2
        assert value("ccm_messages_total", outcome="failed") == 1
        assert value("ccm_rejected_total", reason="rate_limited") == 1
        assert value("ccm_rejected_total", reason="overloaded") == 0, "there before the first, for rate()"
        assert value("ccm_route_turns_total", route=ODD, outcome="replied") == 3
        assert value("ccm_route_failed_attempts_total", route="chat") == 2
        assert value("ccm_dead_letters") == 1
        assert (value("ccm_slots"), value("ccm_slots_in_use"), value("ccm_running_turns")) == (50, 0, 0)
        assert value("ccm_sessions", state="idle") == 1
        assert value("ccm_queue_messages", **{"class": "NORMAL"}) == 0
        assert value("ccm_cache_misses_total") == 1
        assert value("ccm_cache_hits_total") == 1
        assert value("ccm_service_done_total", service="double") == 2
        assert value("ccm_provider_granted_total", provider="llm") == 4
        wait = now.wait[ccm.NORMAL]
        assert value("ccm_wait_seconds_count", **{"class": "NORMAL"}) == wait.count == 6
        assert value("ccm_wait_seconds_sum", **{"class": "NORMAL"}) == wait.mean * wait.count
        assert value("ccm_wait_seconds", **{"class": "NORMAL"}, quantile="0.99") == wait.p99
        assert ("ccm_wait_seconds", (("class", "LOW"), ("quantile", "0.99"))) not in found, "nothing was LOW"

    simulate(busy_manager, check)


def test_names_units_and_both_formats() -> None:
    def check(manager: ccm.ConversationManager) -> None:
        registry = registry_of(manager)
        families = list(parse(scrape(manager)))
        for family in families:
            assert re.fullmatch(r"(ccm|process|python)(_[a-z0-9]+)+", family.name), family.name
            assert family.documentation.endswith(".") or not family.name.startswith("ccm"), family.name
            assert not re.search(r"milli|minutes|_ms|_kb|_mb|percent", family.name)
            assert family.type in ("counter", "gauge", "summary"), family
        assert {"ccm_wait_seconds", "process_cpu_seconds", "process_resident_memory_bytes"} <= {
            family.name for family in families
        }
        names = [family.name for family in families]
        assert len(names) == len(set(names))
        openmetrics = list(parse_openmetrics(generate_openmetrics(registry).decode()))  # type: ignore[no-untyped-call]
        assert {f.name for f in openmetrics} >= {f.name for f in families if f.name != "ccm_info"}

    simulate(busy_manager, check)


def counters(families: Iterator[Metric]) -> dict[Any, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if family.type == "counter" or sample.name.endswith(("_count", "_sum"))
    }


@given(st.lists(st.sampled_from(["one", "bad", "wait", "stop"]), max_size=12))
def test_counters_never_fall(steps: list[str]) -> None:
    async def reply(turn: Turn) -> str:
        await trio.sleep(0.37)
        if turn.text == "bad":
            raise ValueError("no")
        return "fine"

    async def program() -> None:
        config = Config(rate_limit=None, retry=RetryPolicy(attempts=2, base=0.1), limit=2, queue_limit=3)
        async with ccm.open_manager(reply, config=config) as manager:
            collector = ManagerCollector(manager)
            before = counters(collector.collect())
            for number, step in enumerate(steps):
                if step == "wait":
                    await trio.sleep(0.2)
                elif step == "stop":
                    await manager.stop("c0")
                else:
                    with contextlib.suppress(ccm.Rejected):
                        await manager.submit(Message(f"c{number % 3}", "ada", step))
                after = counters(collector.collect())
                assert before.keys() <= after.keys()
                assert [key for key in before if after[key] < before[key]] == []
                before = after

    simulate(program)


def test_a_sum_made_of_an_average_does_not_fall_either() -> None:
    """The average times the count may be a hair less than it was before: a reset, to Prometheus."""

    def check(manager: ccm.ConversationManager) -> None:
        summary = ccm.LatencySummary(count=3, mean=0.1, p50=0.1, p90=0.1, p99=0.1, max=0.1)

        class Fake:
            def statistics(self) -> Statistics:
                return attrs.evolve(manager.statistics(), wait={ccm.HIGH: summary})

        collector = ManagerCollector(Fake())  # type: ignore[arg-type]
        registry = CollectorRegistry()
        registry.register(collector)
        first = registry.get_sample_value("ccm_wait_seconds_sum", {"class": "HIGH"})
        summary = attrs.evolve(summary, mean=0.1 - 1e-12)
        assert registry.get_sample_value("ccm_wait_seconds_sum", {"class": "HIGH"}) == first

    simulate(busy_manager, check)


def test_the_endpoint(live: Live) -> None:
    answer = live.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert ("ccm_slots", ()) in values(answer.body.decode())
    modern = live.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert modern.headers["Content-Type"].startswith("application/openmetrics-text")
    assert modern.body.endswith(b"# EOF\n")


def test_a_storage_has_figures_and_strangers_get_none(tmp_path: Path) -> None:
    secret, key = Keys.make("prometheus", ["read"])
    chatty, other = Keys.make("chatty", ["chat"])
    settings = Settings(keys=Keys([key, other]), rate=None)
    with in_thread(settings=settings, storage=tmp_path / "ccm.db") as server:
        found = values(server.get("/metrics", key=secret).body.decode())
        assert found["ccm_storage_up", ()] == 1
        assert found["ccm_storage_lag_seconds", ()] == 0
        assert ("ccm_storage_commits_total", ()) in found
        assert server.get("/metrics").status == 401
        assert server.get("/metrics", key=chatty).status == 403


def test_alert_rules_use_metrics_that_exist() -> None:
    rules = (ROOT / "examples" / "deploy" / "alerts.yml").read_text(encoding="utf-8")
    expressions = "\n".join(re.findall(r"^\s+expr: (.*)$", rules, re.MULTILINE))

    def check(manager: ccm.ConversationManager) -> None:
        known = {name for name, _ in values(scrape(manager))} | {"ccm_storage_up", "ccm_storage_lag_seconds"}
        used = set(re.findall(r"\bccm_\w+", expressions))
        assert used
        assert used <= known

    simulate(busy_manager, check)
