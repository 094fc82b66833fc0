"""What `ChatModel` reads from the wire, piece by piece, and the arguments it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccm._model_wire import Events, retry_after
from ccm.model import ChatModel

KEY = "sk-secret-0123456789"


@pytest.mark.parametrize(
    ("url", "becomes"),
    [
        ("http://localhost:11434", "http://localhost:11434/v1/chat/completions"),
        ("https://x.example/openai/v1/", "https://x.example/openai/v1/chat/completions"),
        ("http://[::1]:8/v1/chat/completions", "http://[::1]:8/v1/chat/completions"),
        ("http://x.example/v1?api-version=1", "http://x.example/v1/chat/completions?api-version=1"),
    ],
)
def test_urls(url: str, becomes: str) -> None:
    assert ChatModel(url, model="m").url == becomes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "localhost:8080"}, "url must be like 'http://127.0.0.1:8080/v1', got 'localhost:8080'"),
        ({"url": "http://x:99999"}, "url must be like"), ({"url": ""}, "url must be like"),
        ({"url": f"http://ada:{KEY}@x"}, "url must not contain a user or password"),
        ({"model": ""}, "model must be a non-empty string"),
        ({"history": 101}, "history must be a whole number"),
        ({"first": 0}, "first must be seconds > 0, got 0"), ({"max_text": 0}, "max_text must be"),
        ({"connections": True}, "connections must be a whole number >= 1, got True"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as wrong:
        ChatModel(**{"url": "http://x", "model": "m"} | changes)
    assert KEY not in str(wrong.value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 1), ("7", 7), ("0.5", 0.5), ("-3", 0), ("nan", 1), ("1e99", 3600), ("soon", 1), ("inf", 1),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 21 Oct 2150 07:28:00 GMT", 3600),
    ],
)  # fmt: skip
def testretry_after(value: str | None, seconds: float) -> None:
    assert retry_after(value) == seconds


@given(st.lists(st.sampled_from(["a", "bc", "", "ü"]), max_size=5), st.data())
def test_events_do_not_depend_on_how_they_are_cut(texts: list[str], data: st.DataObject) -> None:
    newline = data.draw(st.sampled_from(["\n", "\r\n"]))
    wire = "".join(f": comment{newline}event: x{newline}data: {text}{newline * 2}" for text in texts).encode()
    decoder, found = Events(), []
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        found += decoder.feed(wire[:cut])
        wire = wire[cut:]
    assert found == texts
