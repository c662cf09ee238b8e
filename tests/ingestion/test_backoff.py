from __future__ import annotations

import asyncio
import statistics
from itertools import pairwise

from fluxforge.ingestion.backoff import Backoff, Pacer


def test_delays_grow_to_the_cap_and_are_spread_over_the_whole_range() -> None:
    rows = []
    for _ in range(400):
        backoff = Backoff(first=0.5, cap=30)
        rows.append([backoff.next_delay() for _ in range(12)])
    for attempt, delays in enumerate(zip(*rows, strict=True)):
        ceiling = min(30, 0.5 * 2**attempt)
        assert max(delays) <= ceiling
        assert min(delays) < 0.1 * ceiling
        assert 0.4 * ceiling < statistics.mean(delays) < 0.6 * ceiling


def test_thousands_of_attempts_are_no_problem_and_a_reset_starts_over() -> None:
    backoff = Backoff(first=0.5, cap=30)
    assert all(backoff.next_delay() <= 30 for _ in range(5_000))
    backoff.reset()
    assert backoff.attempts == 0
    assert max(Backoff(first=0.5).next_delay() for _ in range(50)) <= 0.5


async def test_turns_are_spaced_in_the_order_of_asking() -> None:
    pacer, loop, starts = Pacer(), asyncio.get_running_loop(), []

    async def act(number: int) -> None:
        await pacer.turn(0.02)
        starts.append((number, loop.time()))

    await asyncio.gather(*(act(number) for number in range(5)))
    assert [number for number, _ in starts] == list(range(5))
    times = [time for _, time in starts]
    assert all(later - sooner >= 0.015 for sooner, later in pairwise(times))
    assert times[-1] - times[0] >= 0.075
