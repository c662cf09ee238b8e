"""What venues tell over REST: their instruments, and their past. Calls without I/O.

A venue writes its calls as generators: each yields the path of a call, and is sent the answer,
parsed. Whoever runs one does the I/O, within the venue's limits.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 -- read by doctests
from decimal import Decimal
from typing import Any, TypeVar

from fluxforge.errors import UsageError

T = TypeVar("T")

Calls = Generator[str, Any, T]
"""Paths to GET, each answered with parsed JSON, and a result."""

_MINUTES = {"m": 1, "h": 60, "d": 1440, "w": 10_080}


@dataclass(frozen=True)
class Instrument:
    """One instrument of a venue."""

    symbol: str  # in the venue's spelling
    instrument: str  # in the common one
    market: str
    base: str  # what is traded
    quote: str  # in what it is paid
    price_decimals: int | None = None  # None where the venue does not say
    size_decimals: int | None = None
    active: bool = True  # whether it trades now


@dataclass(frozen=True)
class Past:
    """A part of the past: ``start <= time < end`` of one table and symbol."""

    table: str  # trades or candles
    symbol: str  # in the venue's spelling
    market: str
    start: datetime  # with a zone
    end: datetime
    interval: str = "1m"  # of candles

    @property
    def seconds(self) -> tuple[int, int]:
        """Start and end in whole seconds since 1970, UTC; the end is rounded up."""
        return int(self.start.timestamp()), -int(-self.end.timestamp() // 1)

    @property
    def ms(self) -> tuple[int, int]:
        """Start and end in milliseconds since 1970, UTC."""
        return int(self.start.timestamp() * 1000), int(self.end.timestamp() * 1000)

    @property
    def minutes(self) -> int:
        """The length of a candle."""
        return minutes_of(self.interval)

    def word(self, words: dict[str, str]) -> str:
        """Return the venue's word for the interval; a UsageError where it has none."""
        if self.interval not in words:
            raise UsageError(f"no candles of {self.interval!r}: there are {', '.join(words)}")
        return words[self.interval]


def minutes_of(interval: str) -> int:
    """Return the minutes of an interval.

    >>> minutes_of("5m"), minutes_of("1h")
    (5, 60)
    """
    found = re.fullmatch(r"([1-9]\d*)([mhdw])", interval)
    if found is None:
        raise UsageError(f"{interval!r} is not an interval: write 1m, 5m, 1h or 1d")
    return int(found[1]) * _MINUTES[found[2]]


def decimals_of(step: object) -> int | None:
    """Return the digits of a smallest step, as ``"0.01000000"``.

    >>> decimals_of("0.01000000"), decimals_of("1"), decimals_of(None)
    (2, 0, None)
    """
    try:
        exponent = Decimal(str(step)).normalize().as_tuple().exponent
    except ArithmeticError:
        return None
    return max(0, -exponent) if isinstance(exponent, int) else None
