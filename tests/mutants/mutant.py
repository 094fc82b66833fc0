"""What a planted bug is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One bug.

    Attributes:
        name: unique.
        law: the law it breaks, or the trap it falls into.
        file: relative to `src/ccm`.
        old: text that occurs exactly once in the file.
        new: what stands there instead.
        tests: where it must be noticed.
        slow: left out unless asked for.
    """

    name: str
    law: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    slow: bool = False
