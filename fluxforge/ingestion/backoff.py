"""When to try again, and how often to knock."""

from __future__ import annotations

import asyncio
import random


class Backoff:
    """Growing, jittered delays between attempts; :meth:`reset` starts over.

    The n-th delay is drawn evenly from zero to ``first * 2**n``, at most `cap` ("full jitter"), so
    that many collectors that lost one venue do not return in step.

    Parameters
    ----------
    first, cap
        Seconds.

    Examples
    --------
    >>> backoff = Backoff(first=0.5, cap=30)
    >>> delays = [backoff.next_delay() for _ in range(1000)]
    >>> max(delays) <= 30, backoff.attempts
    (True, 1000)
    >>> backoff.reset()
    >>> backoff.next_delay() <= 0.5
    True
    """

    def __init__(self, first: float = 0.5, cap: float = 30.0) -> None:
        self._first = first
        self._cap = cap
        self.attempts = 0

    def next_delay(self) -> float:
        """Return the seconds to wait before the next attempt, and count it."""
        exponent = min(self.attempts, 64)  # beyond any cap; keeps the power small
        self.attempts += 1
        return random.uniform(0, min(self._cap, self._first * 2**exponent))  # noqa: S311

    def reset(self) -> None:
        """Start over: the last attempt turned out well."""
        self.attempts = 0


class Pacer:
    """Spaces out actions that share an allowance, first come first served."""

    def __init__(self) -> None:
        self._free_at = 0.0

    async def turn(self, seconds: float) -> None:
        """Wait until it is our turn, and keep the next one waiting `seconds` after that."""
        now = asyncio.get_running_loop().time()
        start = max(now, self._free_at)
        self._free_at = start + seconds
        if start > now:
            await asyncio.sleep(start - now)
