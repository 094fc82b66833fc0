"""How long to wait before the next attempt: exponential backoff with full jitter.

Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. Of the variants compared
there, full jitter needs the fewest calls in total to get many competing clients served.
"""

from __future__ import annotations

from math import ldexp
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._policies import RetryPolicy

__all__ = ["backoff"]


def backoff(policy: RetryPolicy, attempt: int, uniform: float) -> float | None:
    """Decide what follows a failed attempt. O(1).

    Args:
        policy: attempts allowed, base and cap of the delay in seconds.
        attempt: number of the attempt that failed; the first is 1.
        uniform: a random number from 0 to 1, drawn by the caller.

    Returns:
        Seconds to wait before the next attempt, from 0 to ``min(cap, base * 2**(attempt - 1))``;
        None when the attempts are used up.

    Raises:
        ValueError: `attempt` or `uniform` is outside its range.
    """
    if attempt < 1:
        raise ValueError(f"attempt must be 1 or more, not {attempt!r}; the first attempt is number 1")
    if not 0.0 <= uniform <= 1.0:
        raise ValueError(f"uniform must be from 0 to 1, not {uniform!r}; pass the result of random()")
    if attempt >= policy.attempts:
        return None
    try:
        ceiling = min(policy.cap, ldexp(policy.base, attempt - 1))
    except OverflowError:  # beyond the largest float, so beyond any cap
        ceiling = policy.cap
    return uniform * ceiling
