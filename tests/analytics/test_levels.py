"""The ladder kernel against a book that is kept in a dictionary, one change at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxforge.analytics.levels import cut_to_depth, ladder

Change = tuple[int, float, float]


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[Change]]:
    """Return a number of frames and their changes: a snapshot first, then updates."""
    price = st.integers(1, 30).map(lambda n: n / 2)
    snapshot = draw(st.lists(st.tuples(price, st.sampled_from([1.0, 2.0])), max_size=20))
    updates = draw(
        st.lists(
            st.lists(st.tuples(price, st.sampled_from([0.0, 0.5, 3.0])), max_size=4), max_size=40
        )
    )
    # Several blocks long, without drawing as many frames.
    repeats = draw(st.sampled_from([1, 20]))
    frames = [snapshot, *(updates * repeats)]
    return len(frames), [(n, p, s) for n, frame in enumerate(frames) for p, s in frame]


@given(histories(), st.sampled_from([1, 2, 10]), st.booleans())
@settings(deadline=None, max_examples=60)
def test_the_ladder_is_the_book_after_each_frame(
    history: tuple[int, list[Change]], depth: int, bids: bool
) -> None:
    count, changes = history
    frames, prices, sizes = (np.array([c[i] for c in changes], dtype=float) for i in range(3))
    shown = ladder(frames.astype(np.int64), prices, sizes, count=count, depth=depth, bids=bids)
    book: dict[float, float] = {}
    following = iter([*changes, (count, 0.0, 0.0)])
    frame, price, size = next(following)
    for number in range(count):
        while frame == number:
            if size:
                book[price] = size
            else:
                book.pop(price, None)
            frame, price, size = next(following)
        best = [(p, book[p]) for p in sorted(book, reverse=bids)[:depth]]
        held = zip(shown.prices[number], shown.sizes[number], strict=True)
        assert [(p, s) for p, s in held if not np.isnan(p)] == best


def test_levels_below_the_subscribed_depth_are_forgotten() -> None:
    # Depth 2: the ask at 12 falls out when 9 comes, and is not back when 9 goes again.
    frames = np.array([0, 0, 1, 2])
    prices, sizes = np.array([10.0, 12.0, 9.0, 9.0]), np.array([1.0, 1.0, 1.0, 0.0])
    dropped = cut_to_depth(frames, np.zeros(4, dtype=bool), prices, sizes, depth=2)
    assert dropped.tolist() == [-1, 1, -1, -1]
