"""Tests of a bot on virtual time: an hour of traffic takes seconds, and is the same every time."""

from functools import partial

import trio

import ccm
from ccm.testing import Failures, FakeModel, lognormal, simulate, traffic


def make_model(seed: int) -> FakeModel:
    # Half the answers take up to 0.8 s, a few much longer; one call in ten fails.
    return FakeModel(latency=lognormal(0.8, 0.5), failures=Failures(errors=0.05, busy=0.05), seed=seed)


async def an_hour(model: FakeModel, seed: int) -> ccm.Statistics:
    mix = {ccm.HIGH: 0.2, ccm.NORMAL: 0.7, ccm.LOW: 0.1}
    config = ccm.Config(limit=8, rate_limit=None, debug=True)  # debug asserts law G1 at each step
    async with ccm.open_manager(model, config=config) as manager:
        for arrival in traffic(rate=2, duration=3600, mix=mix, users=50, conversations=50, seed=seed):
            await trio.sleep_until(arrival.at)
            await manager.submit(arrival.message)
        await manager.wait_idle()
        return manager.statistics()


def test_everybody_gets_an_answer_in_time() -> None:
    model = make_model(seed=1)
    now = simulate(partial(an_hour, model, 1), seed=1, limit=None)
    now.check()
    assert now.success_rate > 0.99
    assert model.peak_running <= 8
    assert now.wait[ccm.HIGH].p90 < 5
    print(f"an hour: {now.conservation()}; {model.calls} calls of the model")


async def hanging_model() -> ccm.Outcome:
    model = FakeModel(failures=Failures(hangs=1.0))
    config = ccm.Config(timeout=30, retry=ccm.RetryPolicy(attempts=2, base=0))
    async with ccm.open_manager(model, config=config) as manager:
        receipt = await manager.submit(ccm.Message("dm", "ada", "hello"))
        outcome = await receipt.outcome()
        assert trio.current_time() == 60  # two attempts, to the millisecond
        return outcome


def test_a_model_that_hangs_fails_after_its_attempts() -> None:
    outcome = simulate(hanging_model)
    assert isinstance(outcome, ccm.Failed)
    print(f"a hanging model: {outcome.name}, {outcome.exception}")


if __name__ == "__main__":  # pytest runs the two tests by their names
    test_everybody_gets_an_answer_in_time()
    test_a_model_that_hangs_fails_after_its_attempts()
