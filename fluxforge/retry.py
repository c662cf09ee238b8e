"""When to try again, and how often to ask."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fluxforge.errors import StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

RETRIES = Counter[str]()
"""Under ``made``: how often something was tried again in this process."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait before each further attempt, and when to give up.

    The n-th delay is drawn evenly from zero to ``first * 2**n``, at most `cap` ("full jitter"), so
    that many processes that lost one server do not return in step.

    >>> delays = list(RetryPolicy(first=0.5, cap=30, attempts=5).delays())
    >>> len(delays), max(delays) <= 4
    (4, True)
    """

    first: float = 0.5  # seconds
    cap: float = 30.0
    attempts: int | None = None  # attempts in all, the first one included; None: no such bound
    seconds: float | None = None
    """No attempt begins later than this after the first; None: no such bound."""

    def delays(self) -> Iterator[float]:
        """Return the seconds to wait before each further attempt; it ends where one gives up.

        The time that `seconds` bounds begins with this call. To start over after a success, call
        it again.
        """
        return self._draw(time.monotonic())

    def call(
        self,
        work: Callable[[], T],
        *,
        retry_on: type[Exception] | tuple[type[Exception], ...] = StorageUnavailableError,
        before_retry: Callable[[Exception, float], object] | None = None,
    ) -> T:
        """Call `work` until it succeeds, and return its result.

        Parameters
        ----------
        work
            What to do; it must be safe to do twice.
        retry_on
            The errors after which to try again. The last of them is raised when the policy gives
            up, and any other at once.
        before_retry
            Called with the error and the seconds to wait, before that wait.

        >>> answers = iter([StorageUnavailableError("busy"), 42])
        >>> def read():
        ...     answer = next(answers)
        ...     if isinstance(answer, Exception):
        ...         raise answer
        ...     return answer
        >>> RetryPolicy(first=0.01).call(read)
        42
        """
        delays = self.delays()
        while True:
            try:
                return work()
            except retry_on as exc:
                delay = next(delays, None)
                if delay is None:
                    raise
                RETRIES["made"] += 1
                if before_retry is not None:
                    before_retry(exc, delay)
                time.sleep(delay)

    def _draw(self, began: float) -> Iterator[float]:
        ceiling, made = self.first, 1
        while self.attempts is None or made < self.attempts:
            delay = random.uniform(0, min(self.cap, ceiling))  # noqa: S311
            if self.seconds is not None and time.monotonic() + delay - began > self.seconds:
                return
            yield delay
            ceiling, made = min(2 * ceiling, self.cap), made + 1


class RateLimiter:
    """Spaces out what shares an allowance, first come first served.

    Parameters
    ----------
    per_second
        The allowance.
    at_once
        How much of it may be taken together after a rest.
    """

    def __init__(self, per_second: float, at_once: float = 1.0) -> None:
        self._per_second = per_second
        self._rest = (at_once - 1) / per_second
        self._free_at = 0.0

    async def acquire(self, cost: float = 1.0) -> None:
        """Wait for one's turn; the next one waits until the allowance for `cost` is there again."""
        import asyncio

        now = time.monotonic()
        start = max(now, self._free_at - self._rest)
        self._free_at = max(now, self._free_at) + cost / self._per_second
        if start > now:
            await asyncio.sleep(start - now)
