"""What is kept for a client of the WebSocket: the last frames, in order, never too many, never too long."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ccm.http._backlog import BYTES, FRAMES, Backlog
from ccm.http._keys import LOCAL
from ccm.http._peer import KNOWN, Peer


def told(backlog: Backlog) -> list[int]:
    return [json.loads(frame.text)["seq"] for frame in backlog.unsent()]


def test_few_long_frames_are_bounded_in_bytes() -> None:
    backlog = Backlog()
    for _ in range(100):
        backlog.put({"text": "x" * 20_000})
        assert backlog.size <= BYTES
    assert backlog.lost
    assert len(backlog.unsent()) == BYTES // 20_030


def test_many_short_frames_are_bounded_in_number() -> None:
    backlog = Backlog()
    for _ in range(FRAMES + 7):
        backlog.put({})
    assert told(backlog) == [*range(8, FRAMES + 8)]


def test_one_frame_may_be_longer_than_all_may_be() -> None:
    backlog = Backlog()
    backlog.put({})
    backlog.put({"text": "x" * (2 * BYTES)})
    assert told(backlog) == [2]
    backlog.note_sent(backlog.unsent()[0])
    assert not backlog.full
    backlog.put({})
    assert backlog.size < 100


@given(st.lists(st.one_of(st.integers(0, 300_000), st.just("send"), st.just("rewind")), max_size=60))
def test_it_agrees_with_a_list(steps: list[int | str]) -> None:
    backlog, sizes, sent = Backlog(), list[int](), 0
    for step in steps:
        if isinstance(step, int):
            backlog.put({"text": "é" * (step // 6)})  # six bytes each, escaped
            sizes.append(
                len(json.dumps({"text": "é" * (step // 6), "seq": len(sizes) + 1}, separators=(",", ":")))
            )
        elif step == "send" and (frames := backlog.unsent()):
            backlog.note_sent(frames[0])
            sent = max(sent, frames[0].seq)
        elif step == "rewind":
            possible = backlog.rewind(sent // 2)
            assert possible == (sum(sizes[sent // 2 :]) <= BYTES or sent // 2 >= len(sizes) - 1)
            sent = sent // 2 if possible else sent
        kept = backlog.size
        assert kept in {sum(sizes[n:]) for n in range(len(sizes) + 1)}
        assert kept <= BYTES or kept == sizes[-1]
        assert backlog.sent == sent
        waiting = sum(sizes[sent:])
        assert backlog.full == (waiting >= 128 * 1024 or len(sizes) - sent >= 100)
        assert backlog.lost == (waiting > kept)
        if not backlog.lost:
            assert told(backlog) == [*range(sent + 1, len(sizes) + 1)]


def test_what_is_remembered_of_a_client_is_bounded() -> None:
    peer = Peer(LOCAL)
    for number in range(3 * KNOWN):
        peer.remember("always", "", "t")
        peer.remember(f"c{number}", f"m{number}", "t")
    assert len(peer.spoken) == len(peer.ids) == KNOWN
    assert "always" in peer.spoken, "the last ones stay"
    assert list(peer.ids)[-1] == f"m{3 * KNOWN - 1}"


def test_who_is_behind_is_not_told_that_somebody_writes() -> None:
    peer = Peer(LOCAL)
    for _ in range(5 * FRAMES):
        peer.hint(type="typing")
    assert peer.seq < FRAMES
