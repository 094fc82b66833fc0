"""The guard against unnoticed skips, tried on a test suite of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PASSING = "def test_passes(): pass\n"
SKIPPED = "import pytest\n@pytest.mark.skip(reason='no such device')\ndef test_skipped(): pass\n" + PASSING
SKIPPED_MODULE = "import pytest\npytest.skip('no such library', allow_module_level=True)\n"
EXPECTED_FAILURE = "import pytest\n@pytest.mark.xfail\ndef test_xfail(): assert False\n"


def run(folder: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "test_inner.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", "."]
    return subprocess.run(
        [*command, *arguments, "test_inner.py"], cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "xdist"])
@pytest.mark.parametrize(
    ("source", "reason"),
    [(SKIPPED, "no such device"), (SKIPPED_MODULE, "no such library")],
    ids=["a test", "a module"],
)
def test_an_unexpected_skip_fails_the_run(
    tmp_path: Path, source: str, reason: str, workers: tuple[str, ...]
) -> None:
    done = run(tmp_path, source, *workers)
    assert done.returncode == 1, done.stdout
    assert "unexpected skips" in done.stdout
    assert reason in done.stdout


@pytest.mark.parametrize(
    ("source", "arguments"),
    [(PASSING, ()), (EXPECTED_FAILURE, ()), (SKIPPED, ("--allow-skips",))],
    ids=["passing", "expected failure", "allowed"],
)
def test_other_runs_pass(tmp_path: Path, source: str, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, source, *arguments)
    assert done.returncode == 0, done.stdout
    assert "unexpected skips" not in done.stdout
