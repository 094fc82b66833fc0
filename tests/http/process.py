"""`ccm serve` in a process of its own, as people start it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

TIMEOUT = 20.0


@attrs.define
class Server:
    """A running server; `said` is the object that it printed."""

    process: subprocess.Popen[str]
    said: dict[str, Any]
    errors: list[str]

    @property
    def url(self) -> str:
        return str(self.said["url"])

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """One request; the body of the answer as JSON if it is JSON."""
        return ask(self.port, method, path, body, headers)

    def chat(self, text: str, **fields: Any) -> Any:
        """What is answered."""
        status, answer = self.request("POST", "/api/v1/chat", {"user": "ada", "text": text} | fields)
        assert status == 200, answer
        return answer

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.process.send_signal(how)
        return self.process.wait(TIMEOUT)


def ask(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """One request to 127.0.0.1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"} | (headers or {}))
        response = connection.getresponse()
        text = response.read().decode()
        return response.status, json.loads(text) if "json" in response.headers.get(
            "Content-Type", ""
        ) else text
    finally:
        connection.close()


def clean_environment(**more: str) -> dict[str, str]:
    """This process's variables without settings of ccm."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CCM_")} | more


@contextmanager
def serving(folder: Path, *arguments: str, command: tuple[str, ...] = (), **env: str) -> Iterator[Server]:
    """Start it in `folder` on a free port; killed at the end if it still runs."""
    command = command or (sys.executable, "-m", "ccm", "serve")
    process = subprocess.Popen(
        [*command, "--port", "0", "--json", *arguments], cwd=folder, env=clean_environment(**env),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    errors: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    reader = threading.Thread(
        target=lambda stream: errors.extend(stream), args=(process.stderr,), daemon=True
    )
    reader.start()
    guard = threading.Timer(TIMEOUT, process.kill)  # else a server that says nothing would hang the test
    guard.start()
    try:
        line = process.stdout.readline()
        guard.cancel()
        assert line, "".join(errors)
        yield Server(process, json.loads(line), errors)
    finally:
        guard.cancel()
        process.kill()
        process.wait(TIMEOUT)
        reader.join(TIMEOUT)
        process.stdout.close()
        process.stderr.close()
