"""A segment in parts that memory can hold, and the slow way through a part that is unreadable."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluxforge.storage.disk import translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

NUMBER = "fluxforge_file"
"""The key of the number of a line's segment, where several are in one file."""
_REFUSED = b"{}\n"


@dataclass(frozen=True)
class Part:
    """Some of a segment's lines, in a file of their own."""

    path: Path  # the file; the next part takes its place
    before: int  # lines of the segment that come before; blank ones are left out everywhere
    lines: int  # lines in this part
    longest: int  # bytes of the longest line


def split(path: Path, work_dir: Path, size: int) -> Iterator[Part]:
    """Copy a segment's lines into parts of at most `size` bytes, one after the other.

    A line that is longer is a part by itself.
    """
    target = work_dir / f"{path.name}.part"
    before = 0
    with translated(str(path)), path.open("rb") as source:
        for lines in _batches(source, size):
            with translated(str(target)), target.open("wb") as file:
                file.writelines(lines)
            count, longest = len(lines), max(map(len, lines))
            lines.clear()  # they are on the disk now, and their transformation needs the memory
            yield Part(target, before, count, longest)
            before += count


def _batches(lines: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    total = 0
    for line in lines:
        if not line.strip():
            continue
        if batch and total + len(line) > size:
            yield batch
            batch, total = [], 0
        batch.append(line)
        total += len(line)
    if batch:
        yield batch


def join(paths: Mapping[int, Path], target: Path) -> None:
    """Write small segments into one file, each line with the number of its segment.

    The reader takes milliseconds for a file, however little is in it. A line that does not begin
    as an object does has no number, so that its segment lacks it.
    """
    with translated(str(target)), target.open("wb") as file:
        for number, path in paths.items():
            mark = b'{"%s":%d,' % (NUMBER.encode(), number)
            lines = b"\n" + path.read_bytes().removesuffix(b"\n")
            file.write(lines.replace(b"\n{", b"\n" + mark))


def sieve(part: Part, longest: int) -> tuple[Part, list[int]]:
    """Copy a part, each unreadable line replaced by ``{}``, which no table takes.

    Every line keeps its number. The segment stays as it is: what is quarantined is read from
    there. Returned beside the copy are the numbers of the lines that have more than `longest`
    bytes: no memory is there to read them.
    """
    clean = part.path.with_name(f"{part.path.name}.sieved")
    too_long, kept = [], len(_REFUSED)
    with translated(str(clean)), part.path.open("rb") as source, clean.open("wb") as target:
        for number, line in enumerate(source, part.before + 1):
            if len(line) > longest:
                too_long.append(number)
            elif _is_readable(line):
                kept = max(kept, target.write(line))
                continue
            target.write(_REFUSED)
    return Part(clean, part.before, part.lines, kept), too_long


def _is_readable(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line.decode(), parse_float=_float), dict)
    except (ValueError, RecursionError):
        return False


def _float(text: str) -> float:
    value = float(text)
    if value == 0 and re.match("[^eE]*[1-9]", text):
        raise ValueError(f"{text} is too small for a float64")
    return value
