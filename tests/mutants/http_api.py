"""Bugs planted in the endpoints: chat, turns, conversations, events, WebSocket."""

from __future__ import annotations

from .mutant import Mutant

CHAT = "tests/http/test_chat.py"
API = "tests/http/test_api.py"
SOCKET = "tests/http/test_socket.py"

HTTP_API = (
    Mutant(
        "a conversation belongs to whoever names it",
        "tenants",
        "http/_exchange.py",
        "            if owner is not None and owner != tenant:\n",
        "            if False:\n",
        (CHAT,),
    ),
    Mutant(
        "everybody sees every turn",
        "tenants",
        "http/_turns.py",
        "        if visible(caller, message.tenant):\n",
        "        if True:\n",
        (CHAT,),
    ),
    Mutant(
        "a search shows what others said",
        "tenants",
        "http/_history.py",
        "                    if owner is not None and visible(caller, owner):\n",
        "                    if owner is not None:\n",
        (CHAT,),
    ),
    Mutant(
        "a repetition is an error",
        "idempotency",
        "http/_chat.py",
        "    except Duplicate as error:\n        outcome = await",
        "    except ZeroDivisionError as error:\n        outcome = await",
        (CHAT,),
    ),
    Mutant(
        "the idempotency key is not read",
        "idempotency",
        "http/_exchange.py",
        'else headers.get("idempotency-key")\n',
        "else None\n",
        (CHAT,),
    ),
    Mutant(
        "frames are handled side by side",
        "G2",
        "http/_socket.py",
        "                await peer.turns.start(self._converse, peer, exchange, frame.ref)\n",
        "                peer.turns.start_soon(self._converse, peer, exchange, frame.ref)\n",
        (SOCKET,),
    ),
    Mutant(
        "a client that was cut off loses frames",
        "resume",
        "http/_peer.py",
        "        self._socket, self._sent, self.gone = socket, last_seen, None\n",
        "        self._socket, self._sent, self.gone = socket, self.seq, None\n",
        (SOCKET,),
    ),
    Mutant(
        "turns of a client that is gone go on",
        "cost",
        "http/_socket.py",
        "                    peer.turns.cancel_scope.cancel()\n",
        "",
        (SOCKET,),
    ),
    Mutant(
        "pieces pile up for a slow reader",
        "G8",
        "http/_peer.py",
        "        while self.seq - self._sent >= _AHEAD and not self.over.is_set():\n",
        "        while False:\n",
        (SOCKET,),
    ),
    Mutant(
        "streams end without a farewell",
        "G12",
        "http/_events.py",
        '            await channel.event("farewell", {})\n',
        "            pass\n",
        (API,),
    ),
    Mutant(
        "what an administrator does leaves no trace",
        "audit",
        "http/_history.py",
        '        front.audit(caller, "forget", user=user, erased=erased)\n',
        "",
        (API,),
    ),
    Mutant(
        "times of events are of a clock that nobody has",
        "times",
        "http/_live.py",
        "        field.name: wall(found) if field.name in times else _plain(found, wall)\n",
        "        field.name: _plain(found, wall)\n",
        (API,),
    ),
    Mutant(
        "a kind of event that does not exist is waited for",
        "input",
        "http/_live.py",
        "        if name not in KINDS:\n",
        "        if False:\n",
        (API,),
    ),
)
