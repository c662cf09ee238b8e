"""Recorded connections, read back from segments one frame at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluxforge.errors import ExchangeError, SegmentError
from fluxforge.segments import Envelope, read_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Recording:
    """The frames of one recorded connection, which may run over several files, in order."""

    conn: str
    files: tuple[Path, ...]
    frames: int

    def envelopes(self) -> Iterator[Envelope]:
        """Read the frames from disk, in order; memory holds one at a time."""
        left = self.frames
        for path in self.files:
            for envelope in _read(path):
                if envelope.conn == self.conn:
                    yield envelope
                    left -= 1
                    if not left:
                        return


def index_recordings(
    paths: Sequence[Path], inspect: Callable[[bytes], object] = len
) -> list[Recording]:
    """Find the connections in some segments, in the order in which they first appear.

    Every line is read once, so that a bad one is known before anything is served; `inspect` is
    shown each frame.
    """
    frames: dict[str, int] = {}
    files: dict[str, dict[Path, None]] = {}
    for path in paths:
        for envelope in _read(path):
            frames[envelope.conn] = frames.get(envelope.conn, 0) + 1
            files.setdefault(envelope.conn, {})[path] = None
            inspect(envelope.frame)
    if not frames:
        names = ", ".join(str(path) for path in paths)
        raise ExchangeError(f"nothing to replay: no frame in {names}")
    return [Recording(conn, tuple(files[conn]), count) for conn, count in frames.items()]


def _read(path: Path) -> Iterator[Envelope]:
    count = 0
    try:
        for envelope in read_segment(path):
            yield envelope
            count += 1
    except SegmentError as exc:
        raise ExchangeError(f"cannot replay {path}, line {count + 1}: {exc}") from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise ExchangeError(f"cannot replay {path}: {reason}") from exc
