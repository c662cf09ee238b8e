"""A segment's bytes, looked at beside the parser: what they are, and whether it can be trusted."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluxforge.storage.disk import translated

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 1 << 16  # what is compared stays in the processor's cache: five times as fast as 1 MB
_NOT_JSON = re.compile(rb",\s*[}\]]")
_TINY = re.compile(rb"\d[eE]-\d{3,}[,}\]\s]")


@dataclass(frozen=True)
class Scan:
    """What one pass over a segment finds."""

    digest: str  # the first 32 hexadecimal digits of the SHA-256 of the content
    size: int  # bytes
    lines: int  # newlines, and one more where none ends the last line
    keys: int  # how often a quotation mark stands before a colon
    doubtful: bool
    """Whether a comma may stand before a bracket, or a number be too small for a float64: DuckDB
    lets both pass."""

    @classmethod
    def of(cls, path: Path) -> Scan:
        """Read a file once, in bounded memory."""
        import numpy as np

        digest, size, lines, keys, doubtful, chunk = hashlib.sha256(), 0, 0, 0, False, b"\n"
        with translated(str(path)), path.open("rb") as file:
            while found := file.read(_CHUNK) + file.readline():
                chunk = found
                digest.update(chunk)
                size += len(chunk)
                text = np.frombuffer(chunk, np.uint8)
                first, second = text[:-1], text[1:]
                lines += int(np.count_nonzero(text == ord("\n")))
                keys += int(np.count_nonzero((first == ord('"')) & (second == ord(":"))))
                if not doubtful:
                    ends = (second | 32 == ord("}")) | (second <= ord(" "))
                    comma = (first == ord(",")) & ends
                    minus = np.flatnonzero((first | 32 == ord("e")) & (second == ord("-")))
                    doubtful = bool(comma.any() and _NOT_JSON.search(chunk)) or any(
                        _TINY.match(chunk, before) for before in (minus - 1).tolist()
                    )
        return cls(
            digest=digest.hexdigest()[:32],
            size=size,
            lines=lines + (not chunk.endswith(b"\n")),
            keys=keys,
            doubtful=doubtful,
        )
