"""One connection without the kernel's help: writes end in time, or at once; closes are answered or cut."""

from __future__ import annotations

import anyio
import pytest
import trio
import trio.testing

from ccm.http._wire import Wire

MUCH = b"x" * 10_000_000


async def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    left, right = trio.socket.socketpair()
    return trio.SocketStream(left), trio.SocketStream(right)


def test_a_write_that_nobody_reads_ends_in_time_even_behind_a_shield() -> None:
    async def main() -> float:
        ours, theirs = await pair()
        wire, began = Wire(ours, 0.1), trio.current_time()
        async with theirs:
            with trio.CancelScope(shield=True), trio.fail_after(5):
                with pytest.raises(anyio.BrokenResourceError):
                    await wire.send(MUCH)
                with pytest.raises(anyio.BrokenResourceError):
                    await wire.send(b"x")  # and for good
            await wire.aclose()
        return trio.current_time() - began

    assert 0.1 <= trio.run(main) < 2


def test_an_abort_ends_reads_and_writes_at_once() -> None:
    ended = []

    async def main() -> None:
        ours, theirs = await pair()
        wire = Wire(ours, 60)

        async def write() -> None:
            with pytest.raises(anyio.BrokenResourceError):
                await wire.send(MUCH)
            ended.append("write")

        async def read() -> None:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await wire.receive()
            ended.append("read")

        with trio.fail_after(5):
            async with theirs, trio.open_nursery() as nursery:
                nursery.start_soon(write)
                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                wire.abort()
        await wire.aclose()

    trio.run(main)
    assert sorted(ended) == ["read", "write"]


@pytest.mark.parametrize(
    ("first", "waits"), [(b"HTTP/1.1 101 \r\n\r\n", False), (b"HTTP/1.1 200 \r\n\r\n", True)]
)
def test_after_a_websockets_close_the_other_side_has_a_moment(first: bytes, waits: bool) -> None:
    """A body may begin like a close frame; only a WebSocket has frames."""

    async def main() -> bool:
        ours, theirs = await pair()
        wire = Wire(ours, 60)
        await wire.send(first)
        await wire.send(b"\x88\x02\x03\xe9")
        async with theirs:
            with trio.move_on_after(3) as scope, pytest.raises(anyio.EndOfStream):
                await wire.receive()
            await wire.aclose()
            return scope.cancelled_caught

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.2)) is waits
