"""Settings: `Config`. Every value is checked when it is set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Self

import attrs

from ._checks import INF, by_class, enum_of, instance_of, number, one_of, optional, refuse, whole
from ._errors import ConfigError
from ._message import OnBusy, Priority
from ._policies import (
    AdaptiveLimit,
    Overflow,
    ProviderLimit,
    RateLimit,
    RetryPolicy,
    Shedding,
    TenantPolicy,
    rate_of,
)

DEFAULT_HEADROOM: Mapping[Priority, int] = MappingProxyType({Priority.CRITICAL: 4, Priority.HIGH: 6})
_HEADROOM_LIMIT = 50
_NO_POLICY = TenantPolicy()
_YES_OR_NO = instance_of(bool, "true or false")


def _headroom(value: Any) -> Any:
    return value if value is None else MappingProxyType(by_class("headroom", value))


def _max_wait(value: Any) -> Any:
    return MappingProxyType(by_class("max_wait", value))


def _weights(value: Any) -> Any:
    return MappingProxyType(dict(value)) if isinstance(value, Mapping) else value


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


def _check_rate(instance: Any, field: Any, value: Any) -> None:
    if value is not None and not isinstance(value, RateLimit):
        raise refuse(field.name, value, "a RateLimit or None")


def _policy(kind: type, field: str, value: Any) -> Any:
    """A table from a file becomes the policy that it describes."""
    if not isinstance(value, Mapping):
        return value
    known = [a.name for a in attrs.fields(kind)]
    if not set(value) <= set(known):
        raise refuse(field, dict(value), f"a table of {', '.join(known)}")
    try:
        return kind(**value)
    except ConfigError as error:
        raise ConfigError(f"{field}.{error}") from None
    except TypeError:
        raise refuse(field, dict(value), f"a table of {', '.join(known)}") from None


def _policies(kind: type, field: str, value: Any) -> Any:
    """The same for a table of tables; a bare number is a policy's first setting."""
    if not isinstance(value, Mapping):
        return value
    first = attrs.fields(kind)[0].name
    named = {}
    for name, item in value.items():
        is_number = isinstance(item, (int, float)) and not isinstance(item, bool)
        named[name] = _policy(kind, f"{field}[{name!r}]", {first: item} if is_number else item)
    return MappingProxyType(named)


def _provider(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    opened = {
        name: item | {"adaptive": _adaptive(item["adaptive"])}
        if isinstance(item, dict) and "adaptive" in item else item
        for name, item in value.items()
    }  # fmt: skip
    return _policies(ProviderLimit, "provider_limits", opened)


def _rate(value: Any) -> Any:
    """A table or a pair from a file becomes a RateLimit; 0 and false switch it off."""
    value = rate_of(value)
    return None if value is False or (isinstance(value, int) and value == 0) else value


def _retry(value: Any) -> Any:
    return _policy(RetryPolicy, "retry", value)


def _delivery_retry(value: Any) -> Any:
    return _policy(RetryPolicy, "delivery_retry", value)


def _adaptive(value: Any) -> Any:
    if isinstance(value, bool):
        return AdaptiveLimit() if value else None
    return _policy(AdaptiveLimit, "adaptive", value)


def _shedding(value: Any) -> Any:
    if isinstance(value, bool):
        return Shedding() if value else None
    return _policy(Shedding, "shedding", value)


def _tenant(value: Any) -> Any:
    return _policy(TenantPolicy, "tenant", value)


def _tenants(value: Any) -> Any:
    return _policies(TenantPolicy, "tenants", value)


def _check_adaptive(instance: Any, field: Any, value: Any) -> None:
    if value is not None and not isinstance(value, AdaptiveLimit) and not callable(value):
        raise refuse(field.name, value, "an AdaptiveLimit, a function that makes a LimitController, or None")


def _check_named(kind: type, what: str) -> Any:
    def check(instance: Any, field: Any, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise refuse(field.name, value, f"a mapping from {what} to a {kind.__name__}")
        for name, item in value.items():
            if not isinstance(name, str) or not isinstance(item, kind):
                raise refuse(f"{field.name}[{name!r}]", item, f"a {kind.__name__} for {what}'s name")

    return check


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

    limit: int = _field(50, whole(1, 100_000), "slots: turns that may run at the same time")
    headroom: Mapping[Priority, int] | None = _field(
        None, _check_headroom, "slots kept for a class and those more urgent; default: {CRITICAL: 4,"
        " HIGH: 6} at limit 50, in proportion below", _headroom,
    )  # fmt: skip
    queue_limit: int = _field(1000, whole(1, 10_000_000), "turns that may wait")
    conversation_limit: int = _field(20, whole(1, 1_000_000), "turns of one conversation that may wait")
    overflow: Overflow = _field(
        Overflow.REJECT_NEW, one_of(Overflow), "what a message meets at the queue bound", enum_of(Overflow)
    )
    max_sessions: int = _field(1000, whole(1, 10_000_000), "live conversations kept in memory")
    session_timeout: float = _field(1800.0, number(0, above=True), "idle seconds until a session ends")
    rate_limit: RateLimit | None = _field(
        RateLimit(5, per=10), _check_rate, "messages per user and seconds; None is off", _rate
    )
    ageing: float = _field(
        30.0, number(0, above=True, infinite=True), "waiting seconds that raise a turn by one class"
    )
    weights: Mapping[str, float] = _field(
        MappingProxyType({}), _check_weights, "share of a tenant relative to the others' 1", _weights
    )
    charge: str = _field("turns", _check_charge, "what fairness counts: 'turns' or handler 'seconds'")
    preempt: bool = _field(
        False, instance_of(bool, "true or false"), "CRITICAL may take the slot of a LOW turn"
    )
    adaptive: AdaptiveLimit | Callable[[int], Any] | None = _field(
        None, _check_adaptive, "slots follow what the provider can take; None is always `limit`", _adaptive
    )
    provider_limits: Mapping[str, ProviderLimit] = _field(
        MappingProxyType({}), _check_named(ProviderLimit, "a provider"),
        "turns that may be inside `turn.limit(name)` at a time", _provider,
    )  # fmt: skip
    shedding: Shedding | None = _field(
        None, optional(instance_of(Shedding, "a Shedding or None")),
        "give up less urgent messages while the wait is too long; None never does", _shedding,
    )  # fmt: skip
    tenant: TenantPolicy = _field(
        TenantPolicy(), instance_of(TenantPolicy, "a TenantPolicy"),
        "what a tenant may use that `tenants` does not name", _tenant,
    )  # fmt: skip
    tenants: Mapping[str, TenantPolicy] = _field(
        MappingProxyType({}), _check_named(TenantPolicy, "a tenant"), "what single tenants may use", _tenants
    )
    max_wait: Mapping[Priority, float] = _field(
        MappingProxyType({}),
        _check_max_wait,
        "seconds a turn of a class may wait until it expires",
        _max_wait,
    )
    timeout: float = _field(30.0, number(0, above=True, infinite=True), "seconds one attempt may take")
    retry: RetryPolicy = _field(
        RetryPolicy(), instance_of(RetryPolicy, "a RetryPolicy"), "attempts and their delays", _retry
    )
    on_busy: OnBusy = _field(
        OnBusy.ENQUEUE, one_of(OnBusy), "what a message meets in a busy conversation", enum_of(OnBusy)
    )
    settle: float = _field(0.0, number(0), "quiet seconds before a merged turn starts")
    max_settle: float = _field(5.0, number(0), "seconds after which a merged turn starts anyway")
    cache_size: int = _field(5000, whole(1, 10_000_000), "cached contexts")
    cache_ttl: float = _field(120.0, number(0), "seconds a cached context is fresh")
    max_text: int = _field(32768, whole(1, 1 << 30), "bytes of UTF-8 a text may have")
    worker_threads: int = _field(0, whole(0, 10_000), "threads for handlers; 0 is min(2 x cpus, 16)")
    worker_processes: int = _field(0, whole(0, 1000), "processes for handlers; 0 is min(cpus, 8)")
    drain: float = _field(5.0, number(0), "seconds running turns get at shutdown")
    dedupe_window: float = _field(86400.0, number(0), "seconds an id is remembered")
    delivery_retry: RetryPolicy = _field(
        RetryPolicy(attempts=8, base=0.5, cap=60), instance_of(RetryPolicy, "a RetryPolicy"),
        "with a storage: tries to deliver a reply, and their delays", _delivery_retry,
    )  # fmt: skip
    max_attempts: int = _field(
        5, whole(1, 1000), "with a storage: restarts after which a message that was being handled is given up"
    )
    on_storage_failure: str = _field("fail", _check_failure, "'fail' or 'degrade' when storage fails")
    enabled: bool = _field(
        True, instance_of(bool, "true or false"), "false hands messages straight to the handler"
    )
    debug: bool = _field(False, _YES_OR_NO, "assert law G1 after every transition")

    def headroom_of(self, priority: Priority, limit: int | None = None) -> int:
        """Slots reserved for classes more urgent than `priority`, at most `limit - 1`.

        Args:
            priority: the class.
            limit: of how many slots, >= 1; None is `Config.limit`. Of a smaller one, proportionally fewer are
                reserved; what `headroom` sets is rounded up, so that it does not vanish.
        """
        limit = self.limit if limit is None else limit
        if self.headroom is None:
            scale = min(limit, _HEADROOM_LIMIT)
            reserved = {p: n * scale // _HEADROOM_LIMIT for p, n in DEFAULT_HEADROOM.items()}
        else:
            scale = min(limit, self.limit)
            reserved = {p: -(-n * scale // self.limit) for p, n in self.headroom.items()}
        return min(sum(n for p, n in reserved.items() if p < priority), limit - 1)

    def policy_of(self, tenant: str | None) -> TenantPolicy:
        """What a tenant may use: its own policy, completed by `tenant`, `weights` and `rate_limit`. O(1).

        None stands for one that neither `tenants` nor `weights` names.
        """
        own, other = _NO_POLICY, self.tenant
        weight = other.weight
        if tenant is not None:
            own = self.tenants.get(tenant, _NO_POLICY)
            weight = self.weights.get(tenant, other.weight) if own.weight is None else own.weight
        rate = other.rate_limit if own.rate_limit is None else own.rate_limit
        return TenantPolicy(
            weight=1.0 if weight is None else weight,
            rate_limit=(self.rate_limit or False) if rate is None else rate,
            limit=other.limit if own.limit is None else own.limit,
            queue_share=(other.queue_share or 1.0) if own.queue_share is None else own.queue_share,
        )

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
