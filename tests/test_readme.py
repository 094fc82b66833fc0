"""The README's example is a file that the tests execute, and its commands are those that run elsewhere."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

from tests.http.process import serving

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block_after(comment: str) -> str:
    """The content of the fenced code block right after an HTML comment that occurs once."""
    pattern = rf"^<!-- {re.escape(comment)} -->\n```\w+\n(.*?)^```$"
    (content,) = re.findall(pattern, README, re.MULTILINE | re.DOTALL)
    return str(content)


def test_the_example_is_the_file() -> None:
    example = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")
    assert block_after("example: examples/quickstart.py") == example


@pytest.mark.parametrize(
    ("name", "last"), [("demo-command", ".venv/bin/ccm serve"), ("test-command", ".venv/bin/nox")]
)
def test_each_job_is_one_command_that_installs_what_it_needs(name: str, last: str) -> None:
    (line,) = block_after(name).splitlines()
    assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -q ")
    assert line.endswith(f" && {last}")


def test_the_demo_command_installs_what_it_needs_and_starts_a_server(tmp_path: Path) -> None:
    """With what it would install being installed here: it starts, answers over HTTP, and ends in order."""
    install, start = block_after("demo-command").strip().split(" && ")[1:]
    assert "'.[serve]'" in install
    program, *arguments = start.split()
    assert program == ".venv/bin/ccm"
    with serving(tmp_path, command=(sys.executable, "-m", "ccm", *arguments)) as server:
        assert server.said["storage"] == str(tmp_path / "ccm.db")
        assert "small offline program" in server.chat("hello")["reply"]
        assert server.request("GET", "/")[0] == 200
        assert server.stop(signal.SIGTERM) == 0


def test_links_lead_to_files() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
