"""Many conversations need a profile at the same moment: fetch them with one query."""

import trio

import ccm


async def load_profiles(users: list[str]) -> dict[str, str]:
    print(f"one query for {len(users)} users: {', '.join(sorted(users))}")
    await trio.sleep(0.05)  # ask your database here: SELECT ... WHERE name IN (...)
    return {user: f"{user.title()}, who likes tea" for user in users if user != "stranger"}


# Opened outside the manager, so that it outlives the handlers that use it.
profiles = ccm.Batcher(load_profiles, max_size=64, max_delay=0.005)


async def reply(turn: ccm.Turn) -> str:
    try:
        return f"hello, {await profiles(turn.message.user)}"
    except KeyError:  # of this user alone
        return "hello, whoever you are"


async def main() -> None:
    async with profiles, ccm.open_manager(reply) as manager, trio.open_nursery() as nursery:
        for conversation, user in enumerate(("ada", "grace", "ada", "stranger")):
            nursery.start_soon(ask, manager, ccm.Message(f"channel-{conversation}", user, "hi"))
    print(profiles.statistics())


async def ask(manager: ccm.ConversationManager, message: ccm.Message) -> None:
    print(await manager.ask(message))


trio.run(main)
