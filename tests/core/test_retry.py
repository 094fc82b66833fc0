"""Backoff: its bounds, and that it ends."""

from __future__ import annotations

from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccm._core.retry import backoff
from ccm._policies import RetryPolicy

UNIFORM = st.floats(0.0, 1.0)
SECONDS = st.floats(0.0, 1e308)
POLICIES = st.builds(RetryPolicy, attempts=st.integers(1, 100), base=SECONDS, cap=SECONDS)


@given(POLICIES, st.integers(1, 200), UNIFORM)
def test_a_delay_is_the_share_of_a_doubling_bound(policy: RetryPolicy, attempt: int, uniform: float) -> None:
    delay = backoff(policy, attempt, uniform)
    if attempt >= policy.attempts:
        assert delay is None
    else:
        bound = policy.base  # doubled naively: past the largest float it is infinite
        for _ in range(attempt - 1):
            bound *= 2
        assert delay == uniform * min(policy.cap, bound)


@given(UNIFORM)
def test_the_default_policy_tries_three_times(uniform: float) -> None:
    policy = RetryPolicy()
    assert [backoff(policy, attempt, uniform) for attempt in (1, 2, 3)] == [
        0.1 * uniform,
        0.2 * uniform,
        None,
    ]


@given(POLICIES, st.integers(100, 10**30), UNIFORM)
def test_huge_attempts_do_not_overflow(policy: RetryPolicy, attempt: int, uniform: float) -> None:
    assert backoff(policy, attempt, uniform) is None


def test_the_bound_saturates_at_the_cap_instead_of_overflowing() -> None:
    assert backoff(RetryPolicy(attempts=100, base=1e300, cap=7.0), 99, 1.0) == 7.0
    assert backoff(RetryPolicy(attempts=100, base=0.0, cap=7.0), 99, 1.0) == 0.0


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_are_numbered_from_one(attempt: int) -> None:
    with pytest.raises(ValueError, match="attempt must be 1 or more"):
        backoff(RetryPolicy(), attempt, 0.5)


@pytest.mark.parametrize("uniform", [-0.1, 1.1, nan])
def test_uniform_is_checked_even_when_no_attempt_is_left(uniform: float) -> None:
    for attempt in (1, 3):
        with pytest.raises(ValueError, match="uniform must be from 0 to 1"):
            backoff(RetryPolicy(), attempt, uniform)
