"""Settings: `Config` and the small policies it is made of. Every value is checked when it is set."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Self

import attrs

from ._errors import ConfigError
from ._message import OnBusy, Priority, check_priority

INF = math.inf


class Overflow(enum.StrEnum):
    """What happens to a message that arrives when the queue is at its bound."""

    REJECT_NEW = "reject_new"
    SHED_LOWEST = "shed_lowest"
    WAIT = "wait"


def refuse(field: str, value: object, allowed: str) -> ConfigError:
    """The error for a `value` that is not `allowed`."""
    return ConfigError(f"{field} must be {allowed}, got {value!r}")


def _number(
    low: float, high: float = INF, *, above: bool = False, infinite: bool = False
) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    bound = f"a number {'>' if above else '>='} {low:g}"
    if high < INF:
        bound += f" and <= {high:g}"
    bound += "" if infinite else " and finite"

    def check(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
        ok = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (ok and low <= value <= high and not (above and value == low) and (infinite or value < INF)):
            raise refuse(field.name, value, bound)

    return check


def _whole(low: int, high: int) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise refuse(field.name, value, f"a whole number from {low} to {high}")

    return check


def _kind(kind: type, allowed: str) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, kind):
            raise refuse(field.name, value, allowed)

    return check


@attrs.frozen
class RateLimit:
    """At most `count` messages of one user in any `per` seconds.

    Args:
        count: 1 to 1,000,000.
        per: seconds, > 0.
    """

    count: int = attrs.field(validator=_whole(1, 1_000_000))
    per: float = attrs.field(kw_only=True, validator=_number(0, above=True))


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often and when a failed turn is tried again: full jitter below a doubling bound.

    Args:
        attempts: attempts in all, 1 to 100; 1 means no retry.
        base: upper bound of the first delay, seconds, >= 0; doubles with every attempt.
        cap: upper bound of every delay, seconds, >= 0.
    """

    attempts: int = attrs.field(default=3, validator=_whole(1, 100))
    base: float = attrs.field(default=0.1, validator=_number(0))
    cap: float = attrs.field(default=10.0, validator=_number(0))


DEFAULT_HEADROOM: Mapping[Priority, int] = MappingProxyType({Priority.CRITICAL: 4, Priority.HIGH: 6})
_HEADROOM_LIMIT = 50


def _classes(field: str, value: Any) -> dict[Priority, Any]:
    if not isinstance(value, Mapping):
        raise refuse(field, value, "a mapping from Priority to a number")
    try:
        return {check_priority(_priority_of(key)): item for key, item in value.items()}
    except (TypeError, ValueError):
        raise refuse(field, value, "a mapping whose keys are CRITICAL, HIGH, NORMAL or LOW") from None


def _priority_of(key: Any) -> Any:
    if isinstance(key, str) and key.upper() in Priority.__members__:
        return Priority[key.upper()]
    return key


def _headroom(value: Any) -> Any:
    return value if value is None else MappingProxyType(_classes("headroom", value))


def _max_wait(value: Any) -> Any:
    return MappingProxyType(_classes("max_wait", value))


def _weights(value: Any) -> Any:
    return MappingProxyType(dict(value)) if isinstance(value, Mapping) else value


def _enum(kind: type[enum.StrEnum]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        try:
            return kind(value.lower()) if isinstance(value, str) else value
        except ValueError:
            return value

    return convert


def _one_of(kind: type[enum.StrEnum]) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    return _kind(kind, "one of " + ", ".join(m.value for m in kind))


def _check_headroom(instance: Any, field: Any, value: Any) -> None:
    for priority, slots in (value or {}).items():
        if not isinstance(slots, int) or isinstance(slots, bool) or slots < 0:
            raise refuse(f"headroom[{priority.name}]", slots, "a whole number >= 0")


def _check_max_wait(instance: Any, field: Any, value: Any) -> None:
    for priority, seconds in value.items():
        if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not seconds > 0:
            raise refuse(f"max_wait[{priority.name}]", seconds, "seconds > 0")


def _check_weights(instance: Any, field: Any, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise refuse("weights", value, "a mapping from tenant to a number > 0")
    for tenant, weight in value.items():
        ok = isinstance(weight, (int, float)) and not isinstance(weight, bool) and 0 < weight < INF
        if not isinstance(tenant, str) or not ok:
            raise refuse(f"weights[{tenant!r}]", weight, "a finite number > 0 for a tenant's name")


def _check_charge(instance: Any, field: Any, value: Any) -> None:
    if value not in ("turns", "seconds"):
        raise refuse("charge", value, "'turns' or 'seconds'")


def _check_failure(instance: Any, field: Any, value: Any) -> None:
    if value not in ("fail", "degrade"):
        raise refuse("on_storage_failure", value, "'fail' or 'degrade'")


def _rate(value: Any) -> Any:
    """A table or a pair from a file becomes a RateLimit; 0 and false switch it off."""
    if isinstance(value, Mapping) and set(value) == {"count", "per"}:
        return RateLimit(**value)
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return RateLimit(value[0], per=value[1])
    return None if value is False or value == 0 else value


def _check_rate(instance: Any, field: Any, value: Any) -> None:
    if value is not None and not isinstance(value, RateLimit):
        raise refuse(field.name, value, "a RateLimit or None")


def _retry(value: Any) -> Any:
    known = {a.name for a in attrs.fields(RetryPolicy)}
    return RetryPolicy(**value) if isinstance(value, Mapping) and set(value) <= known else value


def _check_reserved(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value != field.default:
        raise refuse(field.name, value, f"{field.default!r} in this version of ccm")


def _field(default: Any, check: Any, doc: str, convert: Any = None) -> Any:
    return attrs.field(default=default, validator=check, converter=convert, metadata={"doc": doc})


@attrs.frozen(kw_only=True)
class Config:
    """All settings of a manager; immutable, keyword-only, checked.

    Every field's meaning, unit, range and default stand in the configuration guide; `describe()`
    gives the same as data. `Config.load` reads a TOML file and the environment.

    Raises:
        ConfigError: names the field, the value and what is allowed.
    """

    limit: int = _field(50, _whole(1, 100_000), "slots: turns that may run at the same time")
    headroom: Mapping[Priority, int] | None = _field(
        None, _check_headroom, "slots kept for a class and those more urgent; default: {CRITICAL: 4,"
        " HIGH: 6} at limit 50, in proportion below", _headroom,
    )  # fmt: skip
    queue_limit: int = _field(1000, _whole(1, 10_000_000), "turns that may wait")
    conversation_limit: int = _field(20, _whole(1, 1_000_000), "turns of one conversation that may wait")
    overflow: Overflow = _field(
        Overflow.REJECT_NEW, _one_of(Overflow), "what a message meets at the queue bound", _enum(Overflow)
    )
    max_sessions: int = _field(1000, _whole(1, 10_000_000), "live conversations kept in memory")
    session_timeout: float = _field(1800.0, _number(0, above=True), "idle seconds until a session ends")
    rate_limit: RateLimit | None = _field(
        RateLimit(5, per=10), _check_rate, "messages per user and seconds; None is off", _rate
    )
    ageing: float = _field(
        30.0, _number(0, above=True, infinite=True), "waiting seconds that raise a turn by one class"
    )
    weights: Mapping[str, float] = _field(
        MappingProxyType({}), _check_weights, "share of a tenant relative to the others' 1", _weights
    )
    charge: str = _field("turns", _check_charge, "what fairness counts: 'turns' or handler 'seconds'")
    preempt: bool = _field(False, _kind(bool, "true or false"), "CRITICAL may take the slot of a LOW turn")
    adaptive: None = _field(None, _check_reserved, "limit that adapts to the provider")
    max_wait: Mapping[Priority, float] = _field(
        MappingProxyType({}),
        _check_max_wait,
        "seconds a turn of a class may wait until it expires",
        _max_wait,
    )
    timeout: float = _field(30.0, _number(0, above=True, infinite=True), "seconds one attempt may take")
    retry: RetryPolicy = _field(
        RetryPolicy(), _kind(RetryPolicy, "a RetryPolicy"), "attempts and their delays", _retry
    )
    on_busy: OnBusy = _field(
        OnBusy.ENQUEUE, _one_of(OnBusy), "what a message meets in a busy conversation", _enum(OnBusy)
    )
    settle: float = _field(0.0, _number(0), "quiet seconds before a merged turn starts")
    max_settle: float = _field(5.0, _number(0), "seconds after which a merged turn starts anyway")
    cache_size: int = _field(5000, _whole(1, 10_000_000), "cached contexts")
    cache_ttl: float = _field(120.0, _number(0), "seconds a cached context is fresh")
    max_text: int = _field(32768, _whole(1, 1 << 30), "bytes of UTF-8 a text may have")
    worker_threads: int = _field(0, _whole(0, 10_000), "threads for handlers; 0 is min(2 x cpus, 16)")
    worker_processes: int = _field(0, _whole(0, 1000), "processes for handlers; 0 is min(cpus, 8)")
    drain: float = _field(5.0, _number(0), "seconds running turns get at shutdown")
    dedupe_window: float = _field(86400.0, _number(0), "seconds an id is remembered")
    on_storage_failure: str = _field("fail", _check_failure, "'fail' or 'degrade' when storage fails")
    enabled: bool = _field(True, _kind(bool, "true or false"), "false hands messages straight to the handler")
    debug: bool = _field(False, _kind(bool, "true or false"), "assert law G1 after every transition")

    def headroom_of(self, priority: Priority) -> int:
        """Slots reserved for classes more urgent than `priority`, at most `limit - 1`."""
        if self.headroom is None:
            scale = min(self.limit, _HEADROOM_LIMIT)
            reserved = {p: n * scale // _HEADROOM_LIMIT for p, n in DEFAULT_HEADROOM.items()}
        else:
            reserved = dict(self.headroom)
        return min(sum(n for p, n in reserved.items() if p < priority), self.limit - 1)

    def replace(self, **changes: Any) -> Self:
        """A copy with `changes`, checked again."""
        unknown = sorted(set(changes) - {a.name for a in attrs.fields(type(self))})
        if unknown:
            raise ConfigError(f"unknown setting {unknown[0]!r}; see Config.describe() for the names")
        return attrs.evolve(self, **changes)

    @classmethod
    def describe(cls) -> dict[str, str]:
        """Each setting's name and meaning, in the order of the documentation."""
        return {a.name: a.metadata["doc"] for a in attrs.fields(cls)}

    @classmethod
    def load(cls, path: Any = None, env: Mapping[str, str] | None = None) -> Self:
        """Settings from a TOML file, then `CCM_*` variables, then the older names (see the guide).

        Args:
            path: TOML file, or None for none.
            env: the environment; None is `os.environ`.

        Raises:
            ConfigError: unknown key or bad value; names it, its source and what is allowed.
        """
        from ._config_load import load

        config, _ = load(cls, path, env)
        return config
