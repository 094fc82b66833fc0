"""Turns that take limits of providers: any program ends, no permit is lost, and the most urgent is next.

See `limit_programs`: the handlers say what they see.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ccm.testing import CancelAt

from .limit_programs import Interpreter, Program, programs, run, scope_of


@given(program=programs())
def test_any_program_keeps_the_limits_and_ends(program: Program) -> None:
    run(program)


@given(
    program=programs(), position=st.integers(0, 1_000_000), which=st.integers(0, 20),
    what=st.sampled_from(["manager", "caller", "handler"]),
)  # fmt: skip
def test_so_it_does_when_anything_is_cancelled_at_any_step(
    program: Program, position: int, which: int, what: str
) -> None:
    """Law G10: before step n, drawn over the whole length of the run."""
    count = CancelAt(2**62, lambda: None)
    run(program, instruments=[count])
    interpreter = Interpreter(program)
    action = scope_of(interpreter, what, which)
    cancel = CancelAt(1 + position * count.steps // 1_000_001, action)
    run(program, interpreter, [cancel])
    assert cancel.fired
