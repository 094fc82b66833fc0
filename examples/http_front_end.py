"""A bot with an HTTP front end of its own: an API, a dashboard, and a shutdown in order.

Run it, open http://127.0.0.1:8000, or:

    curl -s http://127.0.0.1:8000/api/v1/chat -H 'Content-Type: application/json' \
         -d '{"user": "ada", "text": "hello"}'
"""

from __future__ import annotations

import sys

import trio

import ccm
from ccm.http import Settings, run


async def reply(turn: ccm.Turn) -> None:
    for word in f"{turn.message.user} said: {turn.text}".split():
        await turn.send(word + " ")  # whoever reads the stream sees it now
        await trio.sleep(0.05)


def main(port: int = 8000) -> None:
    opening = ccm.open_manager(reply, storage="bot.db")
    settings = Settings(port=port)
    trio.run(lambda: run(opening, settings, started=lambda url: print(f"listening on {url}", flush=True)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
