"""Gaps in the numbers that a venue gives to the frames of one connection."""

from __future__ import annotations


class SequenceTracker:
    """Follows the numbers of one connection; a new connection needs a new tracker.

    Attributes
    ----------
    gaps
        Holes found in the numbering.
    missing
        Frames that would have filled them.

    Examples
    --------
    >>> tracker = SequenceTracker(first=0)
    >>> [tracker.observe(number) for number in (0, 1, 4, None, 5, 3)]
    [0, 0, 2, 0, 0, 0]
    >>> tracker.gaps, tracker.missing
    (1, 2)
    """

    def __init__(self, first: int | None) -> None:
        self._expected = first
        self.gaps = 0
        self.missing = 0

    def observe(self, number: int | None) -> int:
        """Take the number of the frame just received; return how many are missing before it.

        A number below the expected one is late or a repeat: it neither opens nor fills a hole.
        """
        if number is None:
            return 0
        missing = 0 if self._expected is None else max(0, number - self._expected)
        self._expected = number + 1 if self._expected is None else max(self._expected, number + 1)
        if missing:
            self.gaps += 1
            self.missing += missing
        return missing
