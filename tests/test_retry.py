from __future__ import annotations

import asyncio
import statistics
from itertools import islice, pairwise

import pytest

from fluxforge.errors import StorageError, StorageUnavailableError
from fluxforge.retry import RateLimiter, RetryPolicy


def test_delays_grow_to_the_cap_and_are_spread_over_the_whole_range() -> None:
    policy = RetryPolicy(first=0.5, cap=30)
    rows = [list(islice(policy.delays(), 12)) for _ in range(400)]
    for attempt, delays in enumerate(zip(*rows, strict=True)):
        ceiling = min(30, 0.5 * 2**attempt)
        assert max(delays) <= ceiling
        assert min(delays) < 0.1 * ceiling
        assert 0.4 * ceiling < statistics.mean(delays) < 0.6 * ceiling


def test_thousands_of_attempts_are_no_problem_and_another_call_starts_over() -> None:
    policy = RetryPolicy(first=0.5, cap=30)
    assert all(delay <= 30 for delay in islice(policy.delays(), 5_000))
    assert max(next(policy.delays()) for _ in range(50)) <= 0.5


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_no_more_attempts_are_made_than_allowed(attempts: int) -> None:
    made = []

    def work() -> None:
        made.append(1)
        raise StorageUnavailableError("busy")

    with pytest.raises(StorageUnavailableError, match="busy"):
        RetryPolicy(first=0, attempts=attempts).call(work)
    assert len(made) == attempts


def test_no_attempt_begins_after_the_bound_in_seconds() -> None:
    assert list(RetryPolicy(first=0, seconds=-1).delays()) == []
    assert sum(RetryPolicy(first=1e9, cap=1e9, seconds=60).delays()) <= 60


def test_each_wait_is_told_beforehand_and_the_result_comes_back() -> None:
    told: list[str] = []
    answers = [StorageUnavailableError("one"), StorageUnavailableError("two"), "done"]

    def work() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    policy = RetryPolicy(first=0.001)
    assert policy.call(work, before_retry=lambda exc, _: told.append(str(exc))) == "done"
    assert told == ["one", "two"]


def test_what_trying_again_cannot_change_is_raised_at_once() -> None:
    def work() -> None:
        raise StorageError("for good")

    with pytest.raises(StorageError, match="for good"):
        RetryPolicy(first=1e9, cap=1e9).call(work)


async def test_turns_are_spaced_in_the_order_of_asking() -> None:
    limiter, loop, starts = RateLimiter(per_second=50), asyncio.get_running_loop(), []

    async def act(number: int) -> None:
        await limiter.acquire()
        starts.append((number, loop.time()))

    await asyncio.gather(*(act(number) for number in range(5)))
    assert [number for number, _ in starts] == list(range(5))
    assert starts[-1][1] - starts[0][1] >= 0.075
    assert all(sooner[1] <= later[1] for sooner, later in pairwise(starts))


async def test_some_turns_may_be_taken_at_once_after_a_rest() -> None:
    limiter, loop = RateLimiter(per_second=20, at_once=5), asyncio.get_running_loop()
    began, starts = loop.time(), []
    for _ in range(8):
        await limiter.acquire()
        starts.append(loop.time() - began)
    assert all(at >= 0.045 * turn for turn, at in enumerate(starts[4:]))  # five at once, then 20/s
    assert starts[7] >= 0.14


async def test_a_costly_turn_keeps_the_next_one_waiting_for_longer() -> None:
    limiter, loop = RateLimiter(per_second=100), asyncio.get_running_loop()
    await limiter.acquire(cost=10)
    began = loop.time()
    await limiter.acquire()
    assert loop.time() - began >= 0.08
