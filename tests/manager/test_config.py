"""`Config`: every field with its default, what it takes, and what it refuses by name and value."""

from __future__ import annotations

import pickle
from typing import Any

import attrs
import pytest

from ccm import (
    CRITICAL,
    HIGH,
    LOW,
    NORMAL,
    AdaptiveLimit,
    CcmError,
    Config,
    ConfigError,
    OnBusy,
    Overflow,
    ProviderLimit,
    RateLimit,
    RetryPolicy,
    Shedding,
    TenantPolicy,
)

INF, NAN = float("inf"), float("nan")
NO_NUMBERS: list[Any] = ["5", None, True, [], {}, NAN]
NO_COUNTS: list[Any] = [*NO_NUMBERS, 1.5, INF, -1]

# field: (default, values it takes, values it refuses)
FIELDS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "limit": (50, [1, 100_000], [0, 100_001, *NO_COUNTS]),
    "headroom": (
        None,
        [None, {}, {CRITICAL: 0}, {CRITICAL: 4, HIGH: 100}, {"critical": 2, "HIGH": 3}, {0: 2}],
        [5, "HIGH", {"URGENT": 3}, {CRITICAL: -1}, {CRITICAL: 1.5}, {CRITICAL: True}, {7: 1}, {None: 1}],
    ),
    "queue_limit": (1000, [1, 10_000_000], [0, 10_000_001, *NO_COUNTS]),
    "conversation_limit": (20, [1, 1_000_000], [0, 1_000_001, *NO_COUNTS]),
    "overflow": (
        Overflow.REJECT_NEW,
        ["wait", "SHED_LOWEST", Overflow.REJECT_NEW],
        ["drop", None, 5, OnBusy.REJECT, []],
    ),
    "max_sessions": (1000, [1, 10_000_000], [0, 10_000_001, *NO_COUNTS]),
    "session_timeout": (1800.0, [0.001, 1, 1e9], [0, -1, INF, *NO_NUMBERS]),
    "rate_limit": (
        RateLimit(5, per=10),
        [None, RateLimit(1, per=0.5), {"count": 3, "per": 60}, [3, 60], False, 0],
        [5, "5/10", True, {}, {"count": 3}, {"per": 3}, {"count": 3, "seconds": 60}, [1, 2, 3],
         {"count": 0, "per": 1}],
    ),
    "ageing": (30.0, [0.5, INF], [0, -1, *NO_NUMBERS]),
    "weights": (
        {},
        [{}, {"gold": 3, "": 0.5}],
        [None, 5, [], {"gold": 0}, {"gold": -1}, {"gold": INF}, {"gold": "3"}, {5: 1}],
    ),
    "charge": ("turns", ["turns", "seconds"], ["tokens", None, 1, "TURNS"]),
    "preempt": (False, [True, False], [0, 1, "yes", None]),
    "adaptive": (
        None,
        [None, True, False, AdaptiveLimit(floor=2), {"floor": 2, "window": 0.5}, {}, int],
        [5, "yes", [], {"flor": 2}, {"floor": 0}, {"decrease": 1.0}, {"increase": 0}, {"window": 0}],
    ),
    "provider_limits": (
        {},
        [{}, {"a": 5}, {"a": ProviderLimit(5)}, {"a": {"limit": 5, "adaptive": True}},
         {"a": {"limit": 5, "adaptive": {"floor": 1}}}],
        [None, 5, [], {"a": 0}, {"a": "5"}, {"a": {}}, {"a": {"limit": 5, "adaptive": 3}},
         {5: ProviderLimit(5)}],
    ),
    "shedding": (
        None,
        [None, True, False, Shedding(), {"targets": {"NORMAL": 2}, "interval": 1}],
        [5, "on", {"target": 1}, {"targets": {"NORMAL": 0}}, {"targets": {"VIP": 1}}, {"interval": 0},
         {"rotate": INF}],
    ),
    "tenant": (
        TenantPolicy(),
        [TenantPolicy(limit=5), {"limit": 5, "queue_share": 0.5}, {"rate_limit": [3, 60]},
         {"rate_limit": False}],
        [None, 5, {"limit": 0}, {"queue_share": 0}, {"queue_share": 1.5}, {"weight": 0}, {"rate_limit": 5},
         {"slots": 5}],
    ),
    "tenants": (
        {},
        [{}, {"gold": TenantPolicy(weight=3)}, {"gold": {"weight": 3}, "": {"limit": 1}}],
        [None, 5, [], {"gold": None}, {"gold": {"wait": 3}}, {"gold": {"weight": -1}}, {5: TenantPolicy()}],
    ),
    "max_wait": (
        {},
        [{}, {LOW: 3, "normal": 0.5}, {CRITICAL: INF}],
        [5, None, {"URGENT": 3}, {LOW: 0}, {LOW: -1}, {LOW: "3"}, {LOW: NAN}, {LOW: None}],
    ),
    "timeout": (30.0, [0.01, 30, INF], [0, -1, *NO_NUMBERS]),
    "retry": (
        RetryPolicy(attempts=3, base=0.1, cap=10),
        [RetryPolicy(attempts=1), {"attempts": 5}, {"base": 0, "cap": 0}, {}],
        [None, 3, "often", {"times": 3}, {"attempts": 0}],
    ),
    "on_busy": (OnBusy.ENQUEUE, ["enqueue", "MERGE", *OnBusy], ["wait", 1, None]),
    "settle": (0.0, [0, 0.5, 60], [-1, INF, *NO_NUMBERS]),
    "max_settle": (5.0, [0, 5.5], [-1, INF, *NO_NUMBERS]),
    "cache_size": (5000, [1], [0, *NO_COUNTS]),
    "cache_ttl": (120.0, [0, 1.5], [-1, INF, *NO_NUMBERS]),
    "max_text": (32768, [1, 1 << 30], [0, (1 << 30) + 1, *NO_COUNTS]),
    "worker_threads": (0, [0, 10_000], [10_001, *NO_COUNTS]),
    "worker_processes": (0, [0, 1000], [1001, *NO_COUNTS]),
    "drain": (5.0, [0, 0.5], [-1, INF, *NO_NUMBERS]),
    "dedupe_window": (86400.0, [0, 1], [-1, INF, *NO_NUMBERS]),
    "delivery_retry": (
        RetryPolicy(attempts=8, base=0.5, cap=60),
        [RetryPolicy(attempts=1), {"attempts": 5}],
        [None, 3, {"times": 3}, {"attempts": 0}],
    ),
    "max_attempts": (5, [1, 1000], [0, 1001, *NO_COUNTS]),
    "on_storage_failure": ("fail", ["fail", "degrade"], ["ignore", None, True]),
    "enabled": (True, [True, False], [0, 1, "yes", None]),
    "debug": (False, [True, False], [0, 1, "no", None]),
}  # fmt: skip
NAMES = [field.name for field in attrs.fields(Config)]


def test_every_field_is_tested() -> None:
    assert list(FIELDS) == NAMES


@pytest.mark.parametrize("name", FIELDS)
def test_defaults(name: str) -> None:
    value = getattr(Config(), name)
    assert value == FIELDS[name][0]
    assert Config(**{name: value}) == Config(), "what is read can be written"


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, (_, good, _) in FIELDS.items() for v in good], ids=repr
)
def test_good_values_are_taken(name: str, value: Any) -> None:
    config = Config(**{name: value})
    assert getattr(Config().replace(**{name: value}), name) == getattr(config, name)


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, (_, _, bad) in FIELDS.items() for v in bad], ids=repr
)
def test_bad_values_are_refused_with_field_and_value(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(**{name: value})
    text = str(caught.value)
    assert name in text or text.startswith(("attempts", "count")), text
    assert " must be " in text
    shown = value
    while isinstance(shown, dict) and repr(shown) not in text:
        shown = next((v for v in shown.values() if f"got {v!r}" in text), list(shown.values())[-1])
    assert f"got {shown!r}" in text
    assert isinstance(caught.value, (CcmError, ValueError))


def test_named_values_are_understood() -> None:
    assert Config(overflow="wait").overflow is Overflow.WAIT  # type: ignore[arg-type]
    assert Config(max_wait={"low": 3}).max_wait == {LOW: 3}  # type: ignore[dict-item]
    assert Config(rate_limit={"count": 3, "per": 60}).rate_limit == RateLimit(3, per=60)  # type: ignore[arg-type]
    assert Config(rate_limit=False).rate_limit is None  # type: ignore[arg-type]
    assert Config(retry={"attempts": 7}).retry == RetryPolicy(attempts=7)  # type: ignore[arg-type]


def test_a_config_is_frozen_to_the_bottom() -> None:
    weights = {"gold": 3.0}
    config = Config(weights=weights, headroom={CRITICAL: 1}, max_wait={LOW: 5})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.limit = 5  # type: ignore[misc]
    for mapping in (config.weights, config.headroom, config.max_wait):
        with pytest.raises(TypeError):
            mapping["x"] = 1  # type: ignore[index]
    weights["gold"] = 100
    assert config.weights == {"gold": 3.0}, "what was given is copied"


def test_fields_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        Config(50)  # type: ignore[call-arg]


def test_replace_checks_again() -> None:
    config = Config(limit=10)
    assert config.replace(debug=True) == Config(limit=10, debug=True)
    with pytest.raises(ConfigError, match=r"limit must be .*got 0"):
        config.replace(limit=0)
    with pytest.raises(ConfigError, match="unknown setting 'limits'"):
        config.replace(limits=5)
    assert config == Config(limit=10)


def test_every_field_is_described() -> None:
    described = Config.describe()
    assert list(described) == NAMES
    assert all(described.values())


@pytest.mark.parametrize(
    ("limit", "reserved"),
    [
        (1, (0, 0, 0, 0)), (5, (0, 0, 0, 0)), (13, (0, 1, 2, 2)),
        (25, (0, 2, 5, 5)), (50, (0, 4, 10, 10)), (500, (0, 4, 10, 10)),
    ],
)  # fmt: skip
def test_the_default_headroom_shrinks_with_the_limit(limit: int, reserved: tuple[int, ...]) -> None:
    config = Config(limit=limit)
    assert tuple(config.headroom_of(p) for p in (CRITICAL, HIGH, NORMAL, LOW)) == reserved


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_every_class_can_use_a_slot_whatever_the_headroom(limit: int) -> None:
    config = Config(limit=limit, headroom={CRITICAL: 100, HIGH: 100, NORMAL: 100})
    assert all(0 <= config.headroom_of(p) < limit for p in (CRITICAL, HIGH, NORMAL, LOW))
    fewer = [config.headroom_of(p, 1 + limit // 2) for p in (CRITICAL, HIGH, NORMAL, LOW)]
    assert fewer == sorted(fewer)
    assert all(0 <= reserved < 1 + limit // 2 for reserved in fewer)


@pytest.mark.parametrize(
    ("limit", "default", "explicit"),
    [
        (1, (0, 0, 0, 0), (0, 0, 0, 0)), (5, (0, 0, 0, 0), (0, 1, 2, 2)), (15, (0, 1, 2, 2), (0, 2, 4, 4)),
        (25, (0, 2, 5, 5), (0, 2, 5, 5)), (50, (0, 4, 10, 10), (0, 4, 10, 10)),
        (90, (0, 4, 10, 10), (0, 4, 10, 10)),
    ],
)  # fmt: skip
def test_the_headroom_of_a_smaller_limit_is_in_proportion(
    limit: int, default: tuple[int, ...], explicit: tuple[int, ...]
) -> None:
    """What was asked for is rounded up, so that it does not vanish."""
    classes = (CRITICAL, HIGH, NORMAL, LOW)
    assert tuple(Config().headroom_of(p, limit) for p in classes) == default
    assert tuple(Config(headroom={CRITICAL: 4, HIGH: 6}).headroom_of(p, limit) for p in classes) == explicit


@pytest.mark.parametrize(
    ("count", "per"),
    [(0, 1), (-1, 1), (1.5, 1), (True, 1), ("5", 1), (1, 0), (1, -1), (1, INF), (1, NAN), (1, "1")],
)
def test_rate_limits_refuse_bad_values(count: Any, per: Any) -> None:
    with pytest.raises(ConfigError, match=r"(count|per) must be .*got"):
        RateLimit(count, per=per)


@pytest.mark.parametrize(
    "settings",
    [
        {"attempts": 0},
        {"attempts": 101},
        {"attempts": 1.5},
        {"base": -1},
        {"base": NAN},
        {"cap": -1},
        {"cap": INF},
    ],
    ids=repr,
)
def test_retry_policies_refuse_bad_values(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=f"{name} must be .*got {settings[name]!r}"):
        RetryPolicy(**settings)


def test_policies_are_values() -> None:
    assert RateLimit(5, per=10) == RateLimit(5, per=10.0)
    assert hash(RetryPolicy()) == hash(RetryPolicy())
    assert pickle.loads(pickle.dumps(RetryPolicy(attempts=7))) == RetryPolicy(attempts=7)


def test_a_tenants_policy_is_completed_from_the_general_to_the_special() -> None:
    config = Config(
        weights={"gold": 3, "silver": 2}, tenant=TenantPolicy(weight=0.5, queue_share=0.25, limit=9),
        tenants={"gold": TenantPolicy(limit=5), "free": TenantPolicy(rate_limit=False, weight=0.1)},
    )  # fmt: skip
    gold, silver, free, other = map(config.policy_of, ("gold", "silver", "free", "other"))
    assert gold == TenantPolicy(weight=3, rate_limit=RateLimit(5, per=10), limit=5, queue_share=0.25)
    assert (silver.weight, silver.limit) == (2, 9)
    assert (free.weight, free.rate_limit) == (0.1, False)
    assert other == TenantPolicy(weight=0.5, rate_limit=RateLimit(5, per=10), limit=9, queue_share=0.25)
    assert Config().policy_of("x") == TenantPolicy(
        weight=1.0, rate_limit=RateLimit(5, per=10), limit=None, queue_share=1.0
    )
    assert Config(rate_limit=None).policy_of("x").rate_limit is False


def test_an_error_inside_a_policy_names_the_way_to_it() -> None:
    with pytest.raises(ConfigError, match=r"adaptive\.floor must be a whole number from 1 to 100000, got 0"):
        Config(adaptive={"floor": 0})  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"tenants\['gold'\] must be a table of weight, .*, got {'slots': 3}"
    ):
        Config(tenants={"gold": {"slots": 3}})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"provider_limits\['openai'\]\.limit must be"):
        Config(provider_limits={"openai": 0})  # type: ignore[dict-item]
