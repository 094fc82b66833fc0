"""The documentation says what is so: its tables, its test ids, its programs and what they print."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import ccm
import ccm.aio
import ccm.analyzers
import ccm.discord
import ccm.http
import ccm.testing
from ccm.cli._simulate._read import read
from docs.tables import COMMAND, TABLES, printed, updated

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
LAWS = re.findall(r"^## (G\d+) .*?\n(.*?)(?=^## |\Z)", PAGES["guarantees"], re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(language, code, id=f"{page}-{number}")
    for page, text in PAGES.items()
    for number, (language, code) in enumerate(
        re.findall(r"^```(python|toml)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL), 1
    )
]
OUTPUTS = re.findall(
    r"^<!-- output: (\S+) -->\n```text\n(.*?)^```$", "\n".join(PAGES.values()), re.MULTILINE | re.DOTALL
)

COMMANDS = dict(COMMAND.findall("\n".join(PAGES.values())))


# -- guarantees ------------------------------------------------------------------------------------


def named_tests(text: str) -> list[str]:
    return re.findall(r"`(tests/[\w/]+\.py::\w+)`", text)


def defined(path: Path) -> set[str]:
    """Names of the tests in a file: functions, and state machines' `TestCase`s."""
    if not path.exists():
        return set()
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in names if name.lower().startswith("test")}


def missing(tests: list[str]) -> list[str]:
    places = [(test, *test.split("::")) for test in tests]
    return [test for test, path, name in places if name not in defined(ROOT / path)]


def test_every_law_is_there_with_its_bound_and_its_limits() -> None:
    assert [name for name, _ in LAWS] == [f"G{number}" for number in range(1, 13)]
    for name, text in LAWS:
        parts = re.findall(r"^\*\*(Law|Bound|Not promised|Tests)\b", text, re.MULTILINE)
        assert parts == ["Law", "Bound", "Not promised", "Tests"], name


@pytest.mark.parametrize(("law", "text"), LAWS, ids=[name for name, _ in LAWS])
def test_every_law_names_tests_that_exist(law: str, text: str) -> None:
    tests = named_tests(text)
    assert tests, f"no test proves {law}"
    assert missing(tests) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_is_named_exists(page: str) -> None:
    assert missing(named_tests(PAGES[page])) == []


# -- tables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", sorted({page for page, _ in TABLES}))
def test_tables_are_those_of_the_code(page: str) -> None:
    assert PAGES[page].splitlines() == updated(page, PAGES[page]).splitlines(), "run python docs/tables.py"


def test_every_public_name_is_in_the_reference() -> None:
    named = set(re.findall(r"^\.\. (?:auto\w+|data):: (\w+)", PAGES["reference"], re.MULTILINE))
    named |= set(re.findall(r"`ccm\.([A-Z]+)`", PAGES["reference"]))
    always = {*ccm.__all__, *ccm.analyzers.__all__, *ccm.discord.__all__, *ccm.testing.__all__}
    assert always <= named
    assert named <= always | {*ccm.aio.__all__, *ccm.http.__all__}


# -- programs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "code"), BLOCKS)
def test_code_in_the_text_works(language: str, code: str, tmp_path: Path) -> None:
    path = tmp_path / "block"
    path.write_text(code, encoding="utf-8")
    if language == "toml" and "traffic" in (found := tomllib.loads(code)):
        assert read(found, str(path)).config.limit > 0
        return
    if language == "toml":
        assert set(found) == {"ccm"}
        ccm.Config.load(path, {})
        return
    # In a process of its own: it may do what is not undone, such as gc.freeze().
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("program", "output"), OUTPUTS)
def test_printed_output_is_what_the_program_prints(program: str, output: str) -> None:
    done = subprocess.run([sys.executable, str(ROOT / program)], capture_output=True, text=True, timeout=60)
    # Of two turns that start together, either may print first.
    assert sorted(done.stdout.splitlines()) == sorted(output.splitlines())


@pytest.mark.parametrize("arguments", COMMANDS)
def test_commands_print_what_is_shown(arguments: str) -> None:
    assert COMMANDS[arguments] == printed(arguments), "run python docs/tables.py"


def targets() -> Iterator[tuple[str, str]]:
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([\w./-]+)(?:#[\w-]*)?\)|literalinclude\} (\S+)", text):
            yield page, target[0] or target[1]


def test_links_and_included_files_exist() -> None:
    assert list(targets())
    assert [(page, target) for page, target in targets() if not (DOCS / target).exists()] == []


def test_every_example_is_shown() -> None:
    shown = {Path(target).name for _, target in targets()}
    assert {path.name for path in (ROOT / "examples").rglob("*.py")} <= shown
