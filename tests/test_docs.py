"""The documentation says what is so: its tables, its test ids, its programs and what they print."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import ccm
import ccm.testing
from ccm import _events as events
from ccm import _statistics as statistics
from ccm._config_load import LEGACY
from ccm._core.sessions import SessionStatistics
from ccm.cli._config import plain

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


def table(page: str, name: str) -> list[list[str]]:
    """The rows of the table that stands under the comment `<!-- table: name -->`."""
    (found,) = re.findall(rf"^<!-- table: {name} -->\n((?:\|.*\n)+)", PAGES[page], re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found.splitlines()]
    return rows[2:]


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


def allowed(field: str) -> str:
    """What the error for an impossible value of a setting says is allowed."""
    with pytest.raises(ccm.ConfigError) as caught:
        ccm.Config().replace(**{field: object()})
    text = str(caught.value).removeprefix(f"{field} must be ").partition(", got <object")[0]
    return re.sub(r"<\w+\.\w+: ('\w+')>", r"\1", text)


def test_the_table_of_settings_is_that_of_the_code() -> None:
    fields: Any = attrs.fields(ccm.Config)
    meanings = ccm.Config.describe()
    assert table("configuration", "settings") == [
        [f"`{a.name}`", f"`{plain(a.default)!r}`", allowed(a.name), meanings[a.name]] for a in fields
    ]


def test_the_older_names_are_those_of_the_code() -> None:
    rows = [[variable, name.split()[0]] for variable, name in table("configuration", "older")]
    assert rows == [[f"`{variable}`", f"`{name}`"] for variable, (name, _) in LEGACY.items()]


def test_the_table_of_reserved_slots_is_computed() -> None:
    rows = [[int(cell) for cell in row] for row in table("scheduling", "headroom")]
    for limit, *slots in rows:
        config = ccm.Config(limit=limit)
        assert slots == [limit - config.headroom_of(priority) for priority in ccm.Priority]


def field_names(kind: type, leave_out: tuple[str, ...] = ()) -> str:
    fields: Any = attrs.fields(kind)
    return ", ".join(f"`{a.name}`" for a in fields if a.name not in leave_out)


def test_the_table_of_events_is_complete() -> None:
    kinds = [
        kind
        for kind in vars(events).values()
        if inspect.isclass(kind) and issubclass(kind, ccm.Event) and kind is not ccm.Event
    ]
    assert {row[0]: row[-1].strip() for row in table("reference", "events")} == {
        f"`{kind.__name__}`": field_names(kind, ("at",)) for kind in kinds
    }


def test_the_parts_of_a_picture_are_those_of_the_code() -> None:
    kinds = [
        statistics.ClassQueue,
        ccm.LatencySummary,
        statistics.RouteStatistics,
        statistics.Rates,
        SessionStatistics,
        statistics.ChannelStatistics,
    ]
    assert [row[1] for row in table("reference", "parts of Statistics")] == [field_names(k) for k in kinds]


def test_every_public_name_is_in_the_reference() -> None:
    named = set(re.findall(r"^\.\. auto\w+:: (\w+)", PAGES["reference"], re.MULTILINE))
    named |= set(re.findall(r"`ccm\.([A-Z]+)`", PAGES["reference"]))
    assert {*ccm.__all__, *ccm.testing.__all__} == named


# -- programs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "code"), BLOCKS)
def test_code_in_the_text_works(language: str, code: str, tmp_path: Path) -> None:
    path = tmp_path / "block"
    path.write_text(code, encoding="utf-8")
    if language == "toml":
        assert set(tomllib.loads(code)) == {"ccm"}
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


def targets() -> Iterator[tuple[str, str]]:
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([\w./-]+)(?:#[\w-]*)?\)|literalinclude\} (\S+)", text):
            yield page, target[0] or target[1]


def test_links_and_included_files_exist() -> None:
    assert list(targets())
    assert [(page, target) for page, target in targets() if not (DOCS / target).exists()] == []


def test_every_example_is_shown() -> None:
    shown = {Path(target).name for _, target in targets()}
    assert {path.name for path in (ROOT / "examples").glob("*.py")} <= shown
