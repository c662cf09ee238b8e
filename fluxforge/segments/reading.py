"""Where a source's segments can be read that are in no table yet, while others move them.

A segment only moves forward, and each copy of it has the same bytes. So whoever lists the states in
their order finds it at least once, and whoever meets one that is gone looks further along.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fluxforge.errors import FileMissingError
from fluxforge.layout import SegmentName, join_key
from fluxforge.segments.files import find_segments, is_held, is_segment_name
from fluxforge.segments.mirror import Mirror, Objects
from fluxforge.storage.disk import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fluxforge.layout import State
    from fluxforge.segments.store import SegmentStore

    Place = Callable[[int, int], bytes]

CHUNK = 16 << 20
_STATES: tuple[State, ...] = ("active", "ready", "processing")
"""Those in which a segment may be that is in no table yet, in order."""


@dataclass(frozen=True)
class RawSegment:
    """One segment that waits, is in work, or is being written."""

    name: str  # what it is called
    places: tuple[Place, ...]
    """What reads a range of its bytes: where it was found, then further along."""
    whole: bool = False  # whether nothing is appended any more
    end: int | None = None  # where it ends, though its file may go on
    open_end: bool = False
    """Whether others may have ended it before its file does, on this machine's disk."""

    def pieces(self, start: int) -> Iterator[bytes]:
        """Yield whole lines from `start` on, up to the last one, in pieces of about 16 MB."""
        size = CHUNK
        while self.end is None or start < self.end:
            stop = start + size if self.end is None else min(start + size, self.end)
            data = self._read(start, stop)
            ended = len(data) < size
            if not (ended and self.whole):
                data = data[: data.rfind(b"\n") + 1]
            if data:
                yield data
                start += len(data)
            elif not ended:
                size *= 2  # one line is longer than that
            if ended:
                return

    def _read(self, start: int, stop: int) -> bytes:
        for place in self.places:
            try:
                return place(start, stop)
            except FileMissingError:
                continue
        raise FileMissingError(f"{self.name} is gone")


@dataclass(frozen=True)
class Backlog:
    """Segments that are in no table yet: how many, and their bytes."""

    growing: tuple[int, int] = (0, 0)  # being written
    ended: tuple[int, int] = (0, 0)  # left by captures that have died
    ready: tuple[int, int] = (0, 0)  # waiting for an ETL, or in work

    def __add__(self, other: Backlog) -> Backlog:
        mine, others = vars(self), vars(other)
        return Backlog(
            **{key: (mine[key][0] + others[key][0], mine[key][1] + others[key][1]) for key in mine}
        )


class SegmentReader:
    """Finds the segments of one source on one storage; it changes nothing there."""

    def __init__(self, store: SegmentStore) -> None:
        self._store, self._home = store, store.home

    def find(self) -> dict[str, RawSegment]:
        """Return every segment that may be in no table yet, by name, the oldest first."""
        found: dict[str, RawSegment] = {}
        mirrored: dict[str, Objects] = {}
        if self._home.storage.is_local:
            for stored in self._store.list("active"):
                found[stored.name] = RawSegment(stored.name, self._places("active", stored.name))
        else:
            files = find_segments(self._store.folder)[0]
            mirrored = self._list_mirrored()
            found |= {file.name: self._spooled(file, mirrored.get(file.name)) for file in files}
            for file in files:
                for rest in self._rest(file, found[file.name].end):
                    found.setdefault(rest.name, rest)
        for state in _STATES[1:]:
            for stored in self._store.list(state):
                places = self._places(state, stored.name)
                segment = RawSegment(stored.name, places, whole=True, end=stored.size)
                found.setdefault(stored.name, segment)
        for name, objects in mirrored.items():
            if objects.head:
                read: Place = partial(self._read_parts, name, objects)
                found.setdefault(name, RawSegment(name, (read, *self._places("ready", name))))
        return dict(sorted(found.items(), key=lambda item: (SegmentName.parse(item[0]), item[0])))

    def backlog(self, *, here_only: bool = False) -> Backlog:
        """Count what is in no table yet; `here_only` asks no object store."""
        total, local = Backlog(), self._home.storage.is_local
        own = find_segments(self._store.folder)[0]
        for path in own:
            with suppress(FileNotFoundError):
                if size := path.stat().st_size:
                    what = "growing" if is_held(path) else "ended"
                    total += Backlog(**{what: (1, size)})
        if here_only and not local:
            return total
        mine = {path.name for path in own}
        for state in _STATES[local:]:
            for stored in self._store.list(state):
                if stored.name not in mine:
                    what = "growing" if state == "active" else "ready"
                    total += Backlog(**{what: (1, stored.size)})
        return total

    def _places(self, state: State, name: str) -> tuple[Place, ...]:
        """Return where a segment can be read that was found in a state, or has moved on since."""
        first = _STATES.index(state)
        read = self._home.storage.read_bytes
        return tuple(partial(read, self._home.key(one, name)) for one in _STATES[first:])

    def _list_mirrored(self) -> dict[str, Objects]:
        sizes: dict[str, dict[str, int]] = {}
        active = self._home.folder("active")
        for file in self._home.storage.list_entries(active):
            segment, _, name = file.key[len(active) + 1 :].partition("/")
            sizes.setdefault(segment, {})[name] = file.size
        return {name: Objects.of(each) for name, each in sizes.items() if is_segment_name(name)}

    def _spooled(self, file: Path, objects: Objects | None) -> RawSegment:
        end = None
        if objects is not None and objects.end:
            with suppress(FileMissingError):  # its owner has just finished
                end = Mirror(self._home, file.name).read_end()
        own: Place = partial(_read_file, file, 0)
        places = (own, *self._places("ready", file.name))
        return RawSegment(file.name, places, end=end, open_end=end is None)

    def _rest(self, file: Path, end: int | None) -> Iterator[RawSegment]:
        """Yield what of a file lies beyond the end that others gave its segment."""
        name = SegmentName.parse(file.name)
        if name is not None and end is not None:
            rest = str(name.derive(end))
            own: Place = partial(_read_file, file.with_name(rest), 0)
            older: Place = partial(_read_file, file, end)
            places = (own, older, *self._places("ready", rest))
            yield RawSegment(rest, places, open_end=True)

    def _read_parts(self, name: str, objects: Objects, start: int, stop: int) -> bytes:
        found, offset = bytearray(), 0
        while offset < stop and (size := objects.parts.get(offset)):
            if offset + size > start:
                key = join_key(self._home.key("active", name), f"{offset:015d}")
                low, high = max(0, start - offset), min(size, stop - offset)
                found += self._home.storage.read_bytes(key, low, high)
            offset += size
        return bytes(found)


def _read_file(path: Path, shift: int, start: int, stop: int) -> bytes:
    with translated(str(path)), path.open("rb") as file:
        file.seek(shift + start)
        return file.read(stop - start)
