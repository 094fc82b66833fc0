"""Pure decisions: what runs next, who must wait, what is forgotten.

Nothing here reads a clock, draws a random number, sleeps, logs or starts a task: ``now`` and randomness
are arguments, decisions are return values, and every object can check its own invariants with
``_check()``. That is why each module can be compared, step by step, with a naive model of itself.
"""
