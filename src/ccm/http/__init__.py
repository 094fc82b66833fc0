"""ccm behind HTTP: an ASGI application with JSON, server-sent events and WebSockets, and its server.

Needs `pip install "ccm[http]"`. `create_app(manager)` is for a server of your own; `serve(manager)` is a
server, ready to be started in a nursery; `run(...)` is `serve` together with signals and a deadline.
"""

from __future__ import annotations

from ._app import create_app
from ._front import Front
from ._keys import Caller, Key, Keys
from ._server import run, serve
from ._settings import Settings

__all__ = ["Caller", "Front", "Key", "Keys", "Settings", "create_app", "run", "serve"]

_public = globals().copy()
for _name in __all__:
    _public[_name].__module__ = __name__
del _public, _name
