"""Durations as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

from fluxforge.errors import ConfigError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 1000 * 365 * 86400.0
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


_SIZES = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_limit(value: str) -> tuple[float | None, int | None]:
    """Return an age in seconds, or a size in bytes, and None for the other.

    >>> parse_limit("90d"), parse_limit("1.5 GB")
    ((7776000.0, None), (None, 1500000000))
    """
    if size := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB|TB)", value.strip()):
        return None, round(float(size[1]) * _SIZES[size[2]])
    return parse_duration(value), None


def parse_duration(value: str | float | timedelta) -> float:
    """Return seconds.

    >>> parse_duration("1h30m"), parse_duration("0.5s"), parse_duration("2"), parse_duration(2)
    (5400.0, 0.5, 2.0, 2.0)
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    text = str(value).strip()
    if isinstance(value, int | float) or _NUMBER.fullmatch(text):
        seconds = float(value)
    else:
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ConfigError(f"{value!r} is not a duration: write 90s, 5m, 1h30m or 7d")
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds < 0:
        raise ConfigError(f"{value!r} is a negative duration")
    if not seconds < _LONGEST:
        raise ConfigError(f"{value!r} is not a duration of less than 1,000 years")
    return seconds
