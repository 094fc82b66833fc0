"""`Tools`: what handlers reach through their turn beside the message; made once per manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ._context import Contexts

if TYPE_CHECKING:
    import trio

    from ._config import Config


@final
class Tools:
    """One manager's helpers for handlers; each part makes what it needs when it is first used.

    Attributes:
        config: the manager's settings.
        nursery: owns background tasks of the parts; it is cancelled last, after the workers have ended.
    """

    __slots__ = ("_contexts", "config", "nursery")

    def __init__(self, config: Config, nursery: trio.Nursery) -> None:
        self.config = config
        self.nursery = nursery
        self._contexts: Contexts | None = None

    @property
    def contexts(self) -> Contexts:
        """The cache behind `Turn.context`."""
        if self._contexts is None:
            self._contexts = Contexts(self.config)
        return self._contexts
