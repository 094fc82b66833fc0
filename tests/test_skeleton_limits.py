"""Size limits that keep the project readable: 450 lines a file, 60 lines a function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_FILE = 450
MAX_FUNCTION = 60

FILES = sorted(
    path
    for folder in ("src", "tests", "benchmarks", "examples", "docs", ".")
    for path in (ROOT / folder).glob("*.py" if folder in ("docs", ".") else "**/*.py")
)


def function_lengths(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The lines of each function, without decorators, and without docstrings: those may be long."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            end = node.end_lineno
            assert end is not None
            yield f"{node.name} (line {node.lineno})", end - node.lineno + 1 - docstring_length(node)


def docstring_length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node, clean=False) is None:
        return 0
    first = node.body[0]
    assert first.end_lineno is not None
    return first.end_lineno - first.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_and_its_functions_are_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_FILE, "too long: is this two modules?"
    long = {name: n for name, n in function_lengths(ast.parse(source)) if n > MAX_FUNCTION}
    assert not long, f"functions over {MAX_FUNCTION} lines: {long}"


def test_the_package_is_among_the_files() -> None:
    assert ROOT / "src" / "ccm" / "__init__.py" in FILES


def test_lengths_are_counted_without_docstring_and_decorators() -> None:
    source = '@decorator\nasync def f(\n    x,\n):\n    """Two\n    lines."""\n    return x\n'
    assert dict(function_lengths(ast.parse(source))) == {"f (line 2)": 4}
