"""Figures and settings are what the OpenAPI description says, field by field."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import attrs
import jsonschema_rs
import pytest
import trio

import ccm
from ccm.http import Settings, _schemas
from ccm.http._plain import plain

from .live import Live, in_thread
from .test_openapi import description

PATHS = (
    "statistics",
    "trends?step=1",
    "trends?step=60",
    "alerts",
    "services",
    "settings",
    "analytics",
    "dead-letters",
)


async def moody(turn: ccm.Turn) -> str:
    if "fail" in turn.message.text:
        raise ccm.Permanent("as asked")
    return "yes"


async def mail(item: str) -> None:
    if item == "bad":
        raise ccm.Permanent("no such address")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A front end where everything that is counted has happened."""
    config = ccm.Config(
        provider_limits={"model": ccm.ProviderLimit(2)},
        tenants={"acme": ccm.TenantPolicy(weight=2.0, limit=3)},
        shedding=ccm.Shedding(),
        adaptive=ccm.AdaptiveLimit(),
    )
    storage = tmp_path_factory.mktemp("figures") / "chat.db"
    with in_thread(
        moody, Settings(rate=None), config=config, storage=storage, alerts=ccm.AlertRules()
    ) as server:

        async def work() -> None:
            mailer = server.manager.service("mailer", mail)
            await mailer.call("good")
            with pytest.raises(ccm.HandlerFailed):
                await mailer.call("bad")

        for text in ("hello", "please fail"):
            server.post("/api/v1/chat", {"user": "ada", "text": text, "channel": "web", "conversation": "c1"})
        server.call(work)
        yield server


def agrees(value: Any, schema: dict[str, Any], where: str) -> None:
    """No field more and none less than described, at any depth."""
    for one in schema.get("anyOf", ()):
        if jsonschema_rs.is_valid(one, value):
            agrees(value, one, where)
    if isinstance(value, dict) and "properties" in schema:
        assert set(value) == set(schema["properties"]), where
        for name, found in value.items():
            agrees(found, schema["properties"][name], f"{where}.{name}")
    elif isinstance(value, dict):
        for name, found in value.items():
            agrees(found, schema.get("additionalProperties", {}), f"{where}[{name}]")
    elif isinstance(value, list):
        for found in value:
            agrees(found, schema.get("items", {}), f"{where}[]")


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_has_what_is_described_and_nothing_else(busy: Live, path: str) -> None:
    operation = description()["paths"][f"/api/v1/{path.partition('?')[0]}"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    answer = busy.get(f"/api/v1/{path}").json
    jsonschema_rs.validate(schema, answer)
    agrees(answer, schema, path)
    if set(answer) == {"items"} and path != "alerts":
        assert answer["items"], "nothing was looked at"


def test_every_figure_says_what_it_means() -> None:
    """Except where its name says all."""
    for name in ("statistics", "analytics"):
        for field, found in getattr(_schemas, name)()["properties"].items():
            assert found.get("description"), (name, field)
    for field, found in _schemas.settings()["properties"]["config"]["properties"].items():
        assert found.get("description"), field


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen
class Inner:
    """Something.

    Attributes:
        a, b: letters, and
            more.
    """

    a: int
    b: float | None
    _hidden: int = 3


@pytest.mark.parametrize(
    ("kind", "values", "others"),
    [
        (int, (1,), ("1", 1.5)),
        (float, (1.5, float("inf")), ("x",)),
        (bool, (True,), (1,)),
        (str | None, ("x", None), (1,)),
        (Literal["a", 3], ("a", 3), ("b",)),
        (Mapping[str, int], ({"a": 1},), ({"a": "x"},)),
        (tuple[int, ...], ((1, 2),), (("a",),)),
        (tuple[str, int], (("a", 1),), ((None, 1),)),
        (ccm.Priority, (ccm.Priority.HIGH,), ("high",)),
        (Colour, (Colour.RED,), ("RED",)),
        (Inner, (Inner(1, None), Inner(1, 2.5)), ({"a": 1},)),
        (Callable[[], int], (trio.sleep,), (1,)),
        (Any, (1, "x", None), ()),
    ],
)  # fmt: skip
def test_what_is_made_of_a_value_fits_the_schema_of_its_type(
    kind: Any, values: tuple[Any, ...], others: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_schemas._NAMES, "Inner", Inner)
    schema = _schemas.schema(kind)
    jsonschema_rs.meta.validate(schema)
    jsonschema_rs.validate(schema, _schemas.example(schema))
    for value in values:
        jsonschema_rs.validate(schema, plain(value))
    for other in others:
        assert not jsonschema_rs.is_valid(schema, plain(other)), other


def test_meanings_are_those_of_the_docstring() -> None:
    found = _schemas.schema(Inner)["properties"]
    assert [*found] == ["a", "b"]
    assert {one["description"] for one in found.values()} == {"letters, and more."}
