"""Everything a change must pass: `nox` runs it all, `nox -s NAME -- ARGUMENTS` one part of it.

The tests run on the built package, in the interpreter that runs nox; `nox -s tests-3.13` names another.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

PYTHONS = ("3.11", "3.12", "3.13")
FOLDERS = ("src", "tests", "examples", "benchmarks", "docs")
CODE = [*(folder for folder in FOLDERS if Path(folder).exists()), "noxfile.py"]

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "typing", "docs", "tests", "mutants"]
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = False


@nox.session
def lint(session: nox.Session) -> None:
    """Style, cancellation hazards, and who may import whom."""
    session.install(".[lint]")
    session.run("ruff", "check", *CODE)
    session.run("ruff", "format", "--check", *CODE)
    session.run("flake8", *CODE)
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": "src"})


@nox.session
def typing(session: nox.Session) -> None:
    """mypy --strict on the package and on everything that uses it."""
    session.install(".[cli,plot,test,typing,bench]", "nox")
    session.run("mypy", *(session.posargs or CODE))


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation; a warning or a dead reference is an error."""
    session.install(".[cli,docs,http,model,telemetry,discord]")
    session.run("sphinx-build", "-W", "-n", "-q", "--keep-going", "-b", "html", "docs", "docs/_build/html")


def get_chromium(session: nox.Session) -> None:
    """The tests of the dashboard drive a real browser; on Debian, root can have it installed."""
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        if os.geteuid() or shutil.which("apt-get") is None:
            session.error("the tests need chromium; install it (on Debian: apt-get install chromium)")
        session.run("apt-get", "-q", "update", external=True)
        session.run("apt-get", "-q", "-y", "install", "chromium", external=True)


def run_tests(session: nox.Session) -> None:
    """All tests, or what the arguments for pytest select."""
    session.install(".[cli,test]")
    get_chromium(session)
    session.run("pytest", *(session.posargs or ["-n", "auto"]))


nox.session(name="tests")(run_tests)
for version in PYTHONS:
    nox.session(name=f"tests-{version}", python=version)(run_tests)


@nox.session
def examples(session: nox.Session) -> None:
    """Only the examples (`tests` runs them too)."""
    session.install(".[cli,test]")
    session.run("pytest", "tests/test_examples.py", "tests/test_readme.py", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Plant known bugs, one at a time; each must make a test fail. The slow ones only with `-- --all`."""
    session.install(".[cli,test]")
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session
def crash(session: nox.Session) -> None:
    """Kill a bot with SIGKILL 2,000 times (`-- --kills N`); nothing accepted may be lost."""
    session.install(".[cli,test]")
    session.run("python", "-m", "tests.faults.crash", *session.posargs)


@nox.session
def discord_crash(session: nox.Session) -> None:
    """Kill a Discord bot with SIGKILL 50 times (`-- --kills N`); each message is answered once."""
    session.install(".[cli,test]")
    session.run("python", "-m", "tests.discord_fake.crash", *session.posargs)


@nox.session
def discord_storm(session: nox.Session) -> None:
    """A Discord bot in 300 storms of faults (`-- --seeds N`); each message is answered once, in order."""
    session.install(".[cli,test]")
    session.run("python", "-m", "tests.discord_fake.storm", *session.posargs)


@nox.session
def powerloss(session: nox.Session) -> None:
    """Cut the power 100,000 times, at every disk operation of SQLite (`-- --cuts N`)."""
    session.install(".[cli,test]")
    session.run("python", "-m", "tests.faults.powerloss", *session.posargs)


@nox.session
def strace(session: nox.Session) -> None:
    """Let each k-th write and fsync of a storage fail. Needs the program strace."""
    session.install(".[cli,test]")
    session.run("python", "-m", "tests.faults.strace", *session.posargs)


@nox.session
def judges(session: nox.Session) -> None:
    """discord.py, disnake and hikari against the fake Discord (`tests` runs them too)."""
    session.install(".[cli,test]")
    session.run("pytest", "tests/discord_judges", *(session.posargs or ["-n", "auto"]))


@nox.session
def proxies(session: nox.Session) -> None:
    """Chat through nginx and Caddy with the files of examples/deploy. Needs both programs."""
    session.install(".[cli,test]")
    session.run("pytest", "tests/proxies/through.py", *session.posargs)


@nox.session
def simulate(session: nox.Session) -> None:
    """5,000 simulated lives of the whole system (`-- --seeds N`), then 200 of them in two processes."""
    session.install(".[cli,test]")
    session.run("python", "-m", "tests.faults.simulation", *session.posargs)
    command = ("python", "-m", "tests.faults.simulation", "--seeds", "200", "--trace")
    traces = {
        session.run(*command, env={"PYTHONHASHSEED": hash_seed}, silent=True) for hash_seed in ("1", "2")
    }
    if len(traces) != 1:
        session.error(f"the same seeds told different stories: {traces}")
    session.log("200 seeds told the same story in two processes")


@nox.session
def exits(session: nox.Session) -> None:
    """End a serving process 50 times (`-- --times N`), with clients and handlers that hang."""
    session.install(".[cli,test]")
    session.run("python", "-m", "tests.http.exits", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed and memory beside other programs; prints a table."""
    session.install(".[bench]")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """The ten-people scenario."""
    session.install(".[cli]")
    session.run("ccm", "demo", *session.posargs)
