"""ccm for asyncio programs: `async with ccm.aio.open_manager(handler) as manager: await manager.ask(...)`.

The manager is the same one, in a Trio run that is the guest of the asyncio loop. discord.py,
python-telegram-bot, aiogram and their like can use it as it is.
"""

from __future__ import annotations

from ._manager import Manager, Receipt
from ._opening import handler, open_manager
from ._turn import Turn

__all__ = ["Manager", "Receipt", "Turn", "handler", "open_manager"]
