"""All planted bugs. They are data: to add one, append a `Mutant` to the list of the part it breaks.

Its old text must occur exactly once in its file. Its tests are pytest selections of which at least one
must fail; name those that guard the law, and no more: they run for every mutant.
"""

from __future__ import annotations

from dataclasses import replace

from .aio import AIO_BUGS
from .bridge import BRIDGE_BUGS
from .core import CORE
from .discord import DISCORD
from .front import FRONT
from .http import HTTP
from .http_api import HTTP_API
from .limits import LIMIT_BUGS
from .manager import MANAGER
from .mutant import Mutant
from .services import SERVICE_BUGS
from .shedding import SHEDDING_AND_TENANTS
from .storage import STORAGE
from .tools import TOOL_BUGS
from .trends import TRENDS
from .turns import TURNS


def in_short(bugs: tuple[Mutant, ...], quick: int = 4) -> tuple[Mutant, ...]:
    """The first few stand for all of them in the quick run: each needs servers and sockets for seconds."""
    return bugs[:quick] + tuple(replace(bug, slow=True) for bug in bugs[quick:])


MUTANTS: tuple[Mutant, ...] = (
    CORE
    + MANAGER
    + TURNS
    + SERVICE_BUGS
    + TOOL_BUGS
    + SHEDDING_AND_TENANTS
    + LIMIT_BUGS
    + TRENDS
    + STORAGE
    + in_short(HTTP_API)
    + in_short(HTTP)
    + in_short(DISCORD)
    + in_short(BRIDGE_BUGS)
    + in_short(FRONT)
    + in_short(AIO_BUGS, quick=5)
)
