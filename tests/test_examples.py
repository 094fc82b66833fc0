"""Every program in `examples/` is short, runs to its end in reasonable time, and warns of nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
MAX_LINES = 60
TIME_LIMIT = 30.0  # seconds
SERVERS = ("http_front_end.py",)
"""They run until they get a signal; their argument is the port."""
BOTS = ("discord_py_bot.py", "telegram_bot.py")
"""They need a service, and its library: `tests/aio/test_bots.py` runs them."""


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize(
    "path", [p for p in EXAMPLES if p.name not in SERVERS + BOTS], ids=lambda path: path.name
)
def test_example_runs(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,  # what an example writes stays out of the repository
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout, "an example prints something to look at"


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_answers_and_ends_in_order(name: str, tmp_path: Path) -> None:
    path = EXAMPLES[0].parent / name
    server = subprocess.Popen(
        [sys.executable, "-W", "error", str(path), "0"], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        body = json.dumps({"user": "ada", "text": "hello"}).encode()
        request = Request(f"{url}/api/v1/chat", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=TIME_LIMIT) as answer:
            assert json.load(answer)["reply"].strip() == "ada said: hello"
        server.send_signal(signal.SIGTERM)
        assert server.wait(TIME_LIMIT) == 0, server.communicate()
    finally:
        server.kill()
        server.communicate()
