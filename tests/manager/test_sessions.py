"""The live side of conversations: what is shown, what is forgotten, and when."""

from __future__ import annotations

import pytest
import trio

from ccm import Session, Turn

from .kit import Gate, echo, opened, say, simulated, takes


@simulated
async def test_a_session_shows_its_conversation() -> None:
    async with opened(takes(2)) as manager:
        assert manager.session("c") is None
        await trio.sleep(1)
        manager.submit_nowait(say("one", user="ada", tenant="guild", channel="general"))
        manager.submit_nowait(say("two", user="grace", channel="random"))
        session = manager.session("c")
        assert session is not None
        assert (session.conversation, session.tenant, session.channel) == ("c", "guild", "general")
        assert session.users == ("ada", "grace")
        assert (session.created, session.last_active, session.active, session.messages) == (1, 1, 2, 2)
        await manager.wait_idle()
        assert (session.last_active, session.active, session.replies) == (5, 0, 2), "a view follows"
        assert "'c'" in repr(session)


@simulated
async def test_a_session_is_read_only() -> None:
    async with opened(echo) as manager:
        await manager.ask(say())
        session = manager.session("c")
        assert session is not None
        for name in ("conversation", "active", "messages", "anything"):
            with pytest.raises(AttributeError):
                setattr(session, name, 1)


@simulated
async def test_failures_are_counted() -> None:
    async def handler(turn: Turn) -> int:
        return 42

    async with opened(handler) as manager:  # type: ignore[arg-type]
        receipt = await manager.submit(say())
        await receipt.outcome()
        session = manager.session("c")
        assert session is not None
        assert (session.messages, session.replies, session.failures) == (1, 0, 1)


@simulated
async def test_the_handler_sees_its_session() -> None:
    seen: list[tuple[str, int, int]] = []

    async def handler(turn: Turn) -> str:
        assert isinstance(turn.session, Session)
        seen.append((turn.session.conversation, turn.session.messages, turn.session.active))
        return ""

    async with opened(handler) as manager:
        for key in "aba":
            await manager.ask(say("hi", key))
    assert seen == [("a", 1, 1), ("b", 1, 1), ("a", 2, 1)]


@simulated
async def test_sessions_are_listed_oldest_first() -> None:
    async with opened(echo) as manager:
        assert manager.sessions() == []
        for key in "bacb":
            await manager.ask(say("hi", key))
        assert [session.conversation for session in manager.sessions()] == ["b", "a", "c"]


@simulated
async def test_users_are_bounded() -> None:
    async with opened(echo) as manager:
        for n in range(100):
            await manager.ask(say(user=f"user {n}"))
        session = manager.session("c")
        assert session is not None
        assert session.users == tuple(f"user {n}" for n in range(64))


@simulated
async def test_an_idle_session_ends_at_its_time() -> None:
    async with opened(takes(2), session_timeout=10) as manager:
        await manager.ask(say())
        await trio.sleep(9.5)
        assert manager.session("c") is not None
        await trio.sleep(0.75)
        assert trio.current_time() == 12.25
        assert manager.session("c") is None
        statistics = manager.statistics().sessions
        assert (statistics.total, statistics.expired, statistics.created) == (0, 1, 1)


@simulated
async def test_a_message_keeps_a_session_alive() -> None:
    async with opened(echo, session_timeout=10) as manager:
        for _ in range(5):
            await manager.ask(say())
            await trio.sleep(9)
        session = manager.session("c")
        assert session is not None
        assert session.messages == 5
        await trio.sleep(2)
        assert manager.session("c") is None


@simulated
async def test_an_active_session_never_ends() -> None:
    async with opened(takes(100), session_timeout=10, timeout=1000) as manager:
        receipt = await manager.submit(say())
        await trio.sleep(99)
        assert manager.session("c") is not None
        await receipt.outcome()
        await trio.sleep(9)
        assert manager.session("c") is not None
        await trio.sleep(2)
        assert manager.session("c") is None


@simulated
async def test_a_full_table_forgets_the_longest_idle() -> None:
    async with opened(echo, max_sessions=3) as manager:
        for key in "abcad":
            await manager.ask(say("hi", key))
            await trio.sleep(1)
        assert sorted(s.conversation for s in manager.sessions()) == ["a", "c", "d"]
        statistics = manager.statistics().sessions
        assert (statistics.total, statistics.max, statistics.evicted, statistics.created) == (3, 3, 1, 4)


@simulated
async def test_a_full_table_never_forgets_an_active_session() -> None:
    gate = Gate()
    async with opened(gate, max_sessions=2) as manager:
        manager.submit_nowait(say("active and old", "a"))
        with trio.move_on_after(1):
            await manager.ask(say("cancelled", "b"))
        await trio.sleep(1)
        manager.submit_nowait(say("new", "c"))
        assert [s.conversation for s in manager.sessions()] == ["a", "c"]
        statistics = manager.statistics().sessions
        assert (statistics.active, statistics.idle, statistics.utilisation, statistics.peak) == (2, 0, 1.0, 2)
        gate.open()


@simulated
async def test_a_forgotten_conversation_begins_anew() -> None:
    async with opened(echo, session_timeout=5) as manager:
        await manager.ask(say())
        await trio.sleep(6)
        await manager.ask(say())
        session = manager.session("c")
        assert session is not None
        assert (session.messages, session.created) == (1, 6)
