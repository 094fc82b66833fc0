"""Reads scenarios: from files, from the package, from plain data."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from ccm import Config, ConfigError, Priority
from ccm._config_load import from_table
from ccm.testing import Failures, Latency

from .._console import UsageError
from ._scenario import (
    AT_LEAST,
    DAY,
    DURATION,
    FIGURES,
    LATENCY,
    MIX,
    MOST,
    PER_HOUR,
    Answers,
    Group,
    Outage,
    Provider,
    Replay,
    Scenario,
    Target,
)
from ._toml import CLASSES, Table

_FOLDER = resources.files(__package__) / "scenarios"

# -- files -------------------------------------------------------------------------------------------------


def shipped() -> list[str]:
    """The names of the scenarios that come with the package."""
    names = (file.name for file in _FOLDER.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def text_of(name: str) -> str:
    """The text of a shipped scenario.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in shipped():
        raise UsageError(f"no scenario {name!r}; there are: {', '.join(shipped())}; or name a .toml file")
    return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")


def load(name: str) -> dict[str, Any]:
    """A file, if the name ends in .toml, or a shipped scenario, as plain data.

    Raises:
        UsageError: it cannot be read.
    """
    text = text_of(name) if not name.endswith(".toml") else _text(name)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name!r} is not valid TOML: {error}") from None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path!r}: {error.strerror}; name a scenario file") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path!r} is not UTF-8: {error}") from None


# -- plain data --------------------------------------------------------------------------------------------


def read(source: Mapping[str, Any], origin: str) -> Scenario:
    """The scenario in plain data; `origin` names it in errors.

    Raises:
        UsageError: an unknown key or a value that is not allowed; names file, key, value and what is.
    """
    top = Table(origin, "", source)
    people = bool(top.values.get("traffic"))
    if people == ("replay" in top):
        raise UsageError(
            f"{origin}: it must have either [[traffic]] or [replay], has {'both' if people else 'none'}"
        )
    # A replay lasts until the last message of the logs.
    duration = top.number("duration", DURATION if people else math.inf, above=True)
    groups = tuple(_group(table, duration) for table in top.tables("traffic"))
    replay = None if people else _replay(top.table("replay"))
    config = _config(top)
    scenario = Scenario(
        title=top.text("title", ""),
        duration=duration,
        seed=top.whole("seed", 1, -(2**63), 2**63),
        step=top.number("step", 0.0, above=True),
        config=config,
        groups=groups,
        replay=replay,
        answers=_answers(top, config),
        targets=tuple(_targets(top.table("targets"))),
        source=source,
    )
    top.done()
    return scenario


def _config(top: Table) -> Config:
    try:
        return from_table(Config, top.table("config").values, f"[config] of {top.origin}")
    except ConfigError as error:
        raise UsageError(str(error)) from None


def _group(table: Table, duration: float) -> Group:
    users = table.whole("users", 1000, 1, MOST)
    start = table.number("start", 0.0)
    end = table.number("end", duration)
    if not start < end:
        table.refuse("end", end, f"later than the start, {start:g}")
    tenants = _tenants(table)
    conversations = table.whole("conversations", max(users, len(tenants)), 1, MOST)
    for key, count in (("users", users), ("conversations", conversations)):
        if count < len(tenants):
            table.refuse(key, count, f"at least one for each of the {len(tenants)} tenants")
    group = Group(
        users=users,
        conversations=conversations,
        tenants=tenants,
        mix=table.mix("mix", MIX),
        arrivals=table.choice("arrivals", ("poisson", "constant"), "poisson"),  # type: ignore[arg-type]
        points=_points(table, _rate(table, users), start, end),
    )
    table.done()
    return group


def _rate(table: Table, users: int) -> float:
    """Messages per second, said directly or per person and hour."""
    if "rate" in table and "per_hour" in table:
        table.refuse("per_hour", table.values["per_hour"], "left out where there is a rate")
    per_hour: float = table.number("per_hour", PER_HOUR, above=True)
    rate: float = table.number("rate", users * per_hour / 3600, above=True)
    return rate


def _points(table: Table, rate: float, start: float, end: float) -> tuple[tuple[float, float], ...]:
    ramp = table.number("ramp", 0.0)
    shape = table.get("shape", None)
    if ramp and shape is not None:
        table.refuse("shape", shape, "left out where there is a ramp")
    if ramp:
        if start + ramp >= end:
            table.refuse("ramp", ramp, f"shorter than the {end - start:g} s in which they send")
        return (start, 0.0), (start + ramp, rate), (end, rate)
    if shape is None:
        return (start, rate), (end, rate)
    levels = DAY if shape == "day" else shape
    ok = isinstance(levels, (list, tuple)) and len(levels) >= 2 and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v < math.inf for v in levels
    )  # fmt: skip
    if not ok or not sum(levels) > 0:
        table.refuse(
            "shape", shape, "'day', or two or more numbers >= 0 that multiply the rate, one of them > 0"
        )
    gap = (end - start) / (len(levels) - 1)
    return tuple((start + number * gap, rate * level) for number, level in enumerate(levels))


def _tenants(table: Table) -> Mapping[str, float]:
    if "tenant" in table and "tenants" in table:
        table.refuse("tenants", table.values["tenants"], "left out where there is one tenant")
    one = table.text("tenant", "")
    value = table.get("tenants", 1)
    skew = table.number("skew", 0.0)
    if isinstance(value, Mapping):
        return table.shares("tenants", value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100_000:
        table.refuse("tenants", value, "a whole number from 1 to 100000, or a table of shares")
    if value == 1:
        return {one: 1.0}
    return {f"tenant-{number}": number**-skew for number in range(1, value + 1)}


def _replay(table: Table) -> Replay:
    logs = table.get("logs", [])
    if not isinstance(logs, list) or not logs or not all(isinstance(log, str) for log in logs):
        table.refuse("logs", logs, "an array of file names")
    replay = Replay(
        logs=tuple(logs),
        scale=table.whole("scale", 1, 1, 1_000_000),
        by=table.choice("by", ("file", "user"), "file"),  # type: ignore[arg-type]
        shift=table.number("shift", 3600.0),
        speed=table.number("speed", 1.0, above=True),
    )
    table.done()
    return replay


def _answers(top: Table, config: Config) -> Answers:
    handler = top.table("handler")
    limit = handler.get("limit", None)
    if limit is not None and limit not in config.provider_limits:
        known = ", ".join(map(repr, config.provider_limits)) or "of which there is none"
        handler.refuse("limit", limit, f"a name in config.provider_limits, {known}")
    latency = _latencies(handler)
    try:
        failures = Failures(
            errors=handler.number("errors", 0.0, high=1.0),
            busy=handler.number("busy", 0.0, high=1.0),
            hangs=handler.number("hangs", 0.0, high=1.0),
            retry_after=handler.number("retry_after", 1.0),
        )
    except ValueError as error:
        raise UsageError(f"{top.origin}: handler: {error}") from None
    fallback = handler.latency("fallback", 0.0) if "fallback" in handler else None
    handler.done()
    return Answers(
        limit=limit, latency=latency, failures=failures, fallback=fallback, provider=_provider(top),
        outages=tuple(_outage(table) for table in top.tables("outage")),
    )  # fmt: skip


def _latencies(handler: Table) -> Mapping[Priority, Latency]:
    """One for all classes, or a table of them by class."""
    if not isinstance(handler.values.get("latency"), Mapping):
        return dict.fromkeys(Priority, handler.latency("latency", LATENCY))
    table = handler.table("latency")
    other = table.latency("other", LATENCY)
    found = {
        priority: table.latency(name, LATENCY) if name in table else other
        for name, priority in CLASSES.items()
    }
    for name in CLASSES:
        table.get(name, None)
    table.done()
    return found


def _provider(top: Table) -> Provider | None:
    if "provider" not in top:
        return None
    table = top.table("provider")
    rate = table.number("rate", None, above=True)
    provider = Provider(
        concurrency=table.whole("concurrency", None, 1, MOST),
        rate=rate,
        burst=table.whole("burst", max(1, math.ceil(rate or 0)), 1, MOST),
        retry_after=table.number("retry_after", None),
    )
    table.done()
    if provider.concurrency is None and rate is None:
        raise UsageError(f"{top.origin}: [provider] must have concurrency, rate or both, has neither")
    return provider


def _outage(table: Table) -> Outage:
    start = table.number("from", 0.0)
    end = table.number("to", math.inf)
    if not start < end:
        table.refuse("to", end, f"later than from, {start:g}")
    outage = Outage(
        start=start,
        end=end,
        what=table.choice("what", ("busy", "slow", "errors", "hang"), "busy"),  # type: ignore[arg-type]
        share=table.number("share", 1.0, high=1.0, above=True),
        factor=table.number("factor", 10.0, above=True),
        retry_after=table.number("retry_after", 1.0),
    )
    table.done()
    return outage


def _targets(table: Table) -> Iterator[Target]:
    yield from _bounds(table, "all", "", ("loss", *AT_LEAST))
    for name, priority in CLASSES.items():
        inner = table.table(name)
        yield from _bounds(inner, "class", priority.name, ("loss", *FIGURES))
        inner.done()
    tenants = table.table("tenants")
    for pattern in tenants.values:
        inner = tenants.table(pattern)
        yield from _bounds(inner, "tenants", pattern, ("loss", *FIGURES))
        inner.done()
    table.done()


def _bounds(
    table: Table, scope: Literal["all", "class", "tenants"], name: str, figures: tuple[str, ...]
) -> Iterator[Target]:
    for figure in figures:
        high = 1.0 if figure in ("loss", "goodput") else math.inf
        bound = table.number(figure, None, high=high)
        if bound is not None:
            yield Target(scope, name, figure, bound)
