"""The best levels of an order book after every frame, from level changes.

One side of a book is a row of prices, best first, and what is left at each. Frames are applied
in blocks: within a block, only the best levels that stay as they are and the levels that change
in front of them can ever be shown, so that a small matrix (frames by candidate prices) holds all
that is needed. A million changes take well under a second.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Flags = NDArray[np.bool_]

_BLOCK = 256
"""Frames in a block, at most: longer ones make wider matrices, shorter ones more calls."""
_CELLS = 4_000_000
"""About so many places a matrix has at most, where frames change many levels."""


@dataclass(frozen=True)
class Ladder:
    """One side of a book over time."""

    prices: Floats
    """One row per frame, one column per level, best first; NaN where the book has no such level.
    Sizes are in the base currency."""
    sizes: Floats


def ladder(
    frames: Integers, prices: Floats, sizes: Floats, *, count: int, depth: int, bids: bool
) -> Ladder:
    """Return the best `depth` levels of one side after each of `count` frames.

    Parameters
    ----------
    frames
        The frame that each change belongs to, ascending from 0; frame 0 is the whole book.
    prices, sizes
        What each change says: the size now at that price, 0 where the level is gone. Of several
        changes of one price in one frame the last one holds.
    bids
        Whether the highest price is the best.
    """
    sign = -1.0 if bids else 1.0
    keys, codes = np.unique(sign * prices, return_inverse=True)
    shown = Ladder(np.full((count, depth), np.nan), np.full((count, depth), np.nan))
    state, marks, first_held = np.zeros(len(keys)), np.zeros(len(keys), dtype=bool), 0
    length = max(1, min(_BLOCK, isqrt(_CELLS * count // max(1, len(frames)))))
    starts = (0, *range(1, count, length))
    for (low, high), first in zip(
        pairwise(np.searchsorted(frames, [*starts, count])), starts, strict=True
    ):
        if first == 0:
            state[codes[:high]] = sizes[:high]
            best = np.flatnonzero(state)[:depth]
            shown.prices[0, : len(best)] = sign * keys[best]
            shown.sizes[0, : len(best)] = state[best]
            continue
        rows = min(length, count - first)
        changed = codes[low:high]
        head = _first_held(state, first_held, depth + len(changed))
        columns = _candidates(head, changed, marks, depth)
        block = _fill(state[columns], columns, rows, frames[low:high] - first, changed,
                      sizes[low:high])  # fmt: skip
        rank = np.cumsum(block > 0, axis=1)
        row, column = np.nonzero((block > 0) & (rank <= depth))
        level = rank[row, column] - 1
        shown.prices[first + row, level] = sign * keys[columns[column]]
        shown.sizes[first + row, level] = block[row, column]
        state[changed] = sizes[low:high]
        first_held = int(np.concatenate([head[:1], changed]).min(initial=len(keys)))
    return shown


def _first_held(state: Floats, start: int, count: int) -> Integers:
    """Return the first `count` levels that a book holds, none of them before `start`."""
    width = 2 * count
    while True:
        found = np.flatnonzero(state[start : start + width])
        if len(found) >= count or start + width >= len(state):
            return start + found[:count]
        width *= 4


def _candidates(head: Integers, changed: Integers, marks: Flags, depth: int) -> Integers:
    """Return the levels that can be among the best during a block, best first."""
    marks[changed] = True
    quiet = head[~marks[head]][:depth]
    marks[changed] = False
    if len(quiet) == depth:  # these stay, so that nothing behind the last of them is ever shown
        changed = changed[changed < quiet[-1]]
    return np.union1d(quiet, changed)


def _fill(
    start: Floats, columns: Integers, rows: int, frames: Integers, codes: Integers, sizes: Floats
) -> Floats:
    """Return the size at each candidate level after each frame of a block."""
    block = np.full((rows + 1, len(columns)), np.nan)
    block[0] = start
    place = np.searchsorted(columns, codes)
    known = place < len(columns)
    known[known] = columns[place[known]] == codes[known]
    block[frames[known] + 1, place[known]] = sizes[known]  # of equal places the last one stays
    since = np.where(np.isnan(block), 0, np.arange(rows + 1)[:, None])
    np.maximum.accumulate(since, axis=0, out=since)
    filled: Floats = np.take_along_axis(block, since, axis=0)[1:]
    return filled


def cut_to_depth(
    frames: Integers, bids: Flags, prices: Floats, sizes: Floats, *, depth: int
) -> Integers:
    """Return for each change the frame in which it falls out of a book of limited depth.

    Some venues send no removal for a level that drops below the subscribed depth. The result has
    the number of the frame after which the level that a change set is to be forgotten, or -1.
    """
    dropped = np.full(len(frames), -1, dtype=np.int64)
    setters: tuple[dict[float, int], dict[float, int]] = ({}, {})  # price: the change that set it
    held: tuple[list[float], list[float]] = ([], [])  # prices, best first
    keys, sides, left = np.where(bids, -prices, prices).tolist(), bids.tolist(), sizes.tolist()
    for low, high in pairwise(np.flatnonzero(np.diff(frames, prepend=-1, append=-1)).tolist()):
        for change in range(low, high):
            side, key = sides[change], keys[change]
            if left[change] > 0:
                if key not in setters[side]:
                    insort(held[side], key)
                setters[side][key] = change
            elif setters[side].pop(key, None) is not None:
                del held[side][bisect_left(held[side], key)]
        for setter, prices_held in zip(setters, held, strict=True):
            while len(prices_held) > depth:
                dropped[setter.pop(prices_held.pop())] = frames[low]
    return dropped
