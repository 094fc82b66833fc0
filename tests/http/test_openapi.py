"""The OpenAPI description is complete: walked from end to end."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema_rs
import pytest

from ccm.http._examples import ABOUT, PARAMETERS, PROBLEMS

from .live import echo, in_thread
from .test_auth_matrix import TABLE

METHODS = {"get", "post", "patch", "delete"}


@cache
def description() -> dict[str, Any]:
    with in_thread(echo) as server:
        found: dict[str, Any] = server.get("/openapi.json").json
    return found


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in description()["paths"].items():
        assert set(item) <= METHODS
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every body of a request and of its answers: where it is, its media type, what is said of it."""
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield "request", kind, content
    for status, response in operation["responses"].items():
        for kind, content in response.get("content", {}).items():
            yield status, kind, content


def check(example: Any, schema: dict[str, Any]) -> None:
    whole = {**schema, "components": description()["components"]}
    jsonschema_rs.meta.validate(whole)
    jsonschema_rs.Draft202012Validator(whole).validate(example)


def test_every_operation_is_there_and_nothing_else_is_said() -> None:
    lines = {line for line, _ in operations()}
    assert lines == set(ABOUT), "an operation without scope and examples, or examples of none"
    api = {line for line in TABLE if " /api/" in line and not line.startswith("WS ")}
    assert api <= lines


def test_operations_and_parameters_are_described() -> None:
    ids = [operation["operationId"] for _, operation in operations()]
    assert len(set(ids)) == len(ids)
    for line, operation in operations():
        assert operation["summary"], line
        assert len(operation["description"]) > 15, line
        assert operation["tags"], line
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], (line, parameter["name"])
            assert parameter["schema"], (line, parameter["name"])
        for status, response in operation["responses"].items():
            assert response["description"], (line, status)
            assert response["description"] != "Successful Response", (line, status)
    used = {one["name"] for _, operation in operations() for one in operation.get("parameters", ())}
    assert set(PARAMETERS) <= used


def test_every_body_has_an_example_that_is_one() -> None:
    seen = 0
    for line, operation in operations():
        for place, kind, content in bodies(operation):
            assert content.get("schema"), (line, place, kind)
            assert "example" in content, (line, place, kind)
            check(content["example"], content["schema"])
            seen += 1
        answers = [status for status in operation["responses"] if status < "300"]
        assert answers, line
        for status in answers:
            assert (status == "204") == (not operation["responses"][status].get("content")), (line, status)
    assert seen > 200
    for name, schema in description()["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            check(example, {"$ref": f"#/components/schemas/{name}"})


@pytest.mark.parametrize("schema", [{"type": "integer"}, {"$ref": "#/components/schemas/ChatOut"}])
def test_the_check_finds_an_example_that_is_none(schema: dict[str, Any]) -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        check({"reply": 1}, schema)


def test_every_problem_says_what_it_means_here() -> None:
    for line, operation in operations():
        about, problems = ABOUT[line], dict[str, Any]()
        for status, response in operation["responses"].items():
            if status >= "400":
                problems[status] = response["content"]["application/problem+json"]
        expected = {"400", "403", "408", "413", "415", "421", "422", "503"}
        if about.scope is not None:
            expected |= {"401", "429"}
        if any(one["in"] == "path" and one["name"] != "user" for one in operation.get("parameters", ())):
            expected.add("404")
        assert expected <= set(problems), (line, expected - set(problems))
        assert set(map(str, about.problems)) <= set(problems), (line, "said of a problem it does not have")
        for status, content in problems.items():
            assert int(status) in PROBLEMS
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            example = content["example"]
            assert (example["status"], "detail" in example) == (int(status), True)
            assert ("retry_after" in example) == (status in ("429", "503")), (line, status)
            words = about.problems.get(int(status), PROBLEMS[int(status)][1])
            assert words in operation["responses"][status]["description"], (line, status)


def test_the_scope_that_is_named_is_the_one_that_is_needed() -> None:
    schemes = description()["components"]["securitySchemes"]
    assert {scheme["type"] for scheme in schemes.values()} == {"http", "apiKey"}
    for line, operation in operations():
        scope, _ = TABLE[line]
        if scope == "open":
            assert operation["security"] == [], line
        else:
            assert operation["security"] == [{name: [scope]} for name in schemes], line
            assert f"`{scope}`" in operation["description"], line
