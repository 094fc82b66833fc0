"""Reads a scenario's tables value by value: what is not allowed, or not known, is named with its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, final

import attrs

from ccm import Priority
from ccm.testing import Latency, constant, lognormal, uniform

from .._console import UsageError

LATENCIES: dict[str, tuple[Callable[..., Latency], int]] = {
    "constant": (constant, 1),
    "uniform": (uniform, 2),
    "lognormal": (lognormal, 2),
}
LATENCY = "a number of seconds, 'constant:S', 'uniform:LOW,HIGH' or 'lognormal:MEDIAN,SIGMA'"
CLASSES = {priority.name.lower(): priority for priority in Priority}


@final
@attrs.define(eq=False)
class Table:
    """One table of a file: every value is taken out by its name; `done` refuses what nobody has taken.

    Attributes:
        origin: the file, for messages.
        path: where in the file the table is, as `traffic[1].`.
    """

    origin: str
    path: str
    values: Mapping[str, Any]
    _taken: list[str] = attrs.field(factory=list)

    def __contains__(self, key: str) -> bool:
        self._taken.append(key)  # who asks for it knows it
        return key in self.values

    def refuse(self, key: str, value: object, allowed: str) -> NoReturn:
        """Raise the error for a value that is not allowed."""
        raise UsageError(f"{self.origin}: {self.path}{key} must be {allowed}, got {value!r}")

    def get(self, key: str, default: Any) -> Any:
        """A value as it is."""
        self._taken.append(key)
        return self.values.get(key, default)

    def done(self) -> None:
        """Raise if there is a key that nobody has asked for."""
        unknown = [key for key in self.values if key not in self._taken]
        if unknown:
            known = ", ".join(dict.fromkeys(self._taken))
            raise UsageError(f"{self.origin}: unknown key {self.path + unknown[0]!r}; known here: {known}")

    # -- values ----------------------------------------------------------------------------------

    def number(
        self,
        key: str,
        default: float | None,
        *,
        low: float = 0.0,
        high: float = math.inf,
        above: bool = False,
    ) -> Any:
        """A finite number from `low` (`above`: greater than it) to `high`; or the default."""
        value = self.get(key, default)
        if value is default:
            return value
        ok = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (ok and low <= value <= high and value < math.inf and not (above and value == low)):
            bound = f"a number {'>' if above else '>='} {low:g}" + (
                f" and <= {high:g}" if high < math.inf else ""
            )
            self.refuse(key, value, bound)
        return float(value)

    def whole(self, key: str, default: int | None, low: int, high: int) -> Any:
        """A whole number from `low` to `high`; or the default."""
        value = self.get(key, default)
        if value is not default and not (
            isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        ):
            self.refuse(key, value, f"a whole number from {low} to {high}")
        return value

    def text(self, key: str, default: str) -> str:
        """A string; or the default."""
        value = self.get(key, default)
        if not isinstance(value, str):
            self.refuse(key, value, "a string")
        return value

    def choice(self, key: str, among: Sequence[str], default: str) -> str:
        """One of some strings; or the default."""
        value = self.get(key, default)
        if value not in among:
            self.refuse(key, value, "one of " + ", ".join(map(repr, among)))
        return str(value)

    def shares(self, key: str, value: object) -> dict[str, float]:
        """`value` as a table of shares, one of them above 0."""
        if isinstance(value, Mapping) and value:
            numbers = [isinstance(v, (int, float)) and not isinstance(v, bool) for v in value.values()]
            if all(numbers) and all(0 <= v < math.inf for v in value.values()) and sum(value.values()) > 0:
                return {str(name): float(share) for name, share in value.items()}
        self.refuse(key, value, "a table of shares >= 0, one of them > 0")

    def mix(self, key: str, default: Mapping[Priority, float]) -> Mapping[Priority, float]:
        """Shares by class; or the default."""
        value = self.get(key, None)
        if value is None:
            return default
        shares = self.shares(key, value)
        if not set(map(str.lower, shares)) <= set(CLASSES):
            self.refuse(key, value, f"a table whose keys are {', '.join(CLASSES)}")
        return {CLASSES[name.lower()]: share for name, share in shares.items()}

    def latency(self, key: str, default: float | str) -> Latency:
        """What draws the seconds of an answer."""
        value = self.get(key, default)
        if isinstance(value, str):
            kind, _, rest = value.partition(":")
            make, count = LATENCIES.get(kind, (constant, -1))
            numbers = _numbers(rest)
            if len(numbers) == count:
                try:
                    return make(*numbers)
                except ValueError as error:
                    self.refuse(key, value, f"{LATENCY} ({error})")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf:
            return constant(value)
        self.refuse(key, value, LATENCY)

    # -- tables in it ----------------------------------------------------------------------------

    def table(self, key: str) -> Table:
        """A table of this one; empty if it is not there."""
        value = self.get(key, {})
        if not isinstance(value, Mapping):
            self.refuse(key, value, "a table")
        return Table(self.origin, f"{self.path}{key}.", value)

    def tables(self, key: str) -> Iterator[Table]:
        """The tables of an array of tables."""
        value = self.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            self.refuse(key, value, f"an array of tables, [[{self.path}{key}]]")
        for number, item in enumerate(value, 1):
            yield Table(self.origin, f"{self.path}{key}[{number}].", item)


def _numbers(text: str) -> list[float]:
    """The numbers between commas; none if one of them is no number."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return []
