"""The slow way through a segment that the JSON reader cannot get through."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_REFUSED = b"{}\n"
_LONGEST = 128 << 20


def sieve(path: Path, clean: Path) -> Path:
    """Copy a segment, each unreadable line replaced by ``{}``, which no table takes.

    Every line that is not blank keeps its number. The original stays as it is: what is
    quarantined is read from there.
    """
    with path.open("rb") as source, clean.open("wb") as target:
        for line in source:
            if line.strip():
                target.write(line.rstrip(b"\r\n") + b"\n" if _is_readable(line) else _REFUSED)
    return clean


def _is_readable(line: bytes) -> bool:
    if len(line) > _LONGEST:
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
