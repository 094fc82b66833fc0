"""Frames to payloads: what is not wanted is recognized without being parsed, and only that."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccm.discord import Event, Gateway
from ccm.discord._decode import MORE, Decoder
from ccm.discord._inflate import inflater
from tests.discord_client.kit import MESSAGE, play, ready
from tests.discord_client.scripted import Scripted

WANTED = frozenset({MESSAGE})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(['"op":7', '{"t":"A"', "}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([MESSAGE, "TYPING_START", "READY", "RESUMED", "", "é", "typing"]) | st.none() | VALUES
PAYLOADS = st.fixed_dictionaries(
    {}, optional={"t": NAMES, "s": VALUES, "op": st.just(0) | VALUES, "d": VALUES, "x": VALUES}
)


@given(PAYLOADS, st.randoms(use_true_random=False), st.booleans(), st.booleans(), st.booleans())
def test_any_payload_is_as_the_parser_says_but_for_the_data_of_what_is_not_wanted(
    payload: dict[str, Any], random: Any, shuffled: bool, spaced: bool, packed: bool
) -> None:
    names = [name for name in ("t", "s", "op", "d", "x") if name in payload]
    if shuffled:
        random.shuffle(names)
    payload = {name: payload[name] for name in names}
    text = json.dumps(payload, separators=(", ", ": ") if spaced else (",", ":"))
    found = Decoder(None, WANTED).feed(text.encode() if packed else text)
    if found != payload:
        assert payload["t"] not in (MESSAGE, "READY", "RESUMED")
        assert found == {"t": payload["t"], "s": payload["s"], "op": payload["op"], "d": None}
        assert (payload["op"], payload["s"].__class__) == (0, int)
    assert Decoder(None, None).feed(text) == payload


def test_discords_own_form_is_not_parsed_and_a_broken_one_that_is_wanted_is_an_error() -> None:
    decoder = Decoder(None, WANTED)
    broken = '{"t":"%s","s":7,"op":0,"d":{'
    for frame in (broken % "TYPING_START", (broken % "TYPING_START").encode()):
        assert decoder.feed(frame) == {"t": "TYPING_START", "s": 7, "op": 0, "d": None}
    for name in (MESSAGE, "READY", "RESUMED"):
        with pytest.raises(ValueError, match="Expecting"):
            decoder.feed(broken % name)


def test_a_payload_in_pieces_is_waited_for() -> None:
    packer = zlib.compressobj()
    data = packer.compress(b'{"op":11}') + packer.flush(zlib.Z_SYNC_FLUSH)
    decoder = Decoder(inflater("zlib-stream", 1000), WANTED)
    assert decoder.feed(data[:3]) is MORE
    assert decoder.feed(data[3:]) == {"op": 11}


@pytest.mark.parametrize("compress", [None, "zlib-stream"])
def test_what_is_not_wanted_moves_the_session_on_and_is_no_hole(compress: str | None) -> None:
    async def script(server: Scripted, gateway: Gateway) -> None:
        peer = await ready(server, gateway)
        for seq, kind in enumerate(["TYPING_START", MESSAGE, "PRESENCE_UPDATE"], 2):
            await peer.raw(json.dumps({"t": kind, "s": seq, "op": 0, "d": seq}, separators=(",", ":")))
        item = await anext(gateway)
        assert isinstance(item, Event)
        assert (item.type, item.data, item.seq) == (MESSAGE, 3, 3)
        await peer.vanish()
        peer = await server.next()
        assert (await peer.resume())["seq"] == 4
        assert gateway.statistics().holes == 0

    play(script, events=WANTED, compress=compress)
