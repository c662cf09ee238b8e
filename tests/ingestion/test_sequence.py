from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fluxforge.ingestion.sequence import SequenceTracker


@given(st.sets(st.integers(0, 60)))
def test_every_missing_number_below_the_last_is_counted_once(received: set[int]) -> None:
    tracker = SequenceTracker(first=0)
    for number in sorted(received):
        tracker.observe(number)
    lost = set(range(max(received, default=-1) + 1)) - received
    assert tracker.missing == len(lost)
    assert tracker.gaps == sum(number + 1 not in lost for number in lost)


def test_frames_lost_before_the_first_one_received_are_seen() -> None:
    tracker = SequenceTracker(first=0)
    assert tracker.observe(2) == 2


def test_where_no_first_number_is_known_the_first_received_sets_it() -> None:
    tracker = SequenceTracker(first=None)
    assert [tracker.observe(number) for number in (500, 501, 503)] == [0, 0, 1]


def test_late_and_repeated_frames_are_no_gap() -> None:
    tracker = SequenceTracker(first=0)
    assert [tracker.observe(number) for number in (0, 1, 1, 0, 2)] == [0] * 5
