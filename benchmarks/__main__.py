"""``python -m benchmarks [GROUP …] [--runs N] [--small] [--picture FILE]``."""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import capture, etl, reading, remote, start
from benchmarks.data import fill_trades, segments
from benchmarks.measure import Line, seconds
from fluxforge import Lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def groups(runs: int, *, small: bool) -> dict[str, Callable[[], Iterator[Line]]]:
    """Return what can be measured, at full size or so small that it only shows that it runs."""
    rows, rounds, commits = (16_000, 1, 10) if small else (1_176_000, 9, 1000)
    return {
        "reading": lambda: reading.lines(rows, runs, rounds),
        "growth": lambda: reading.growth(rows, commits, runs),
        "live": lambda: reading.live(20_000 if small else 1_000_000, runs),
        "etl": lambda: etl.lines(1.0 if small else 60.0, runs),
        "small": lambda: etl.small(10 if small else 1000, 1 if small else 5),
        "capture": lambda: capture.lines(200 if small else 50_000, runs),
        "s3": lambda: remote.lines(rows, runs),
        "start": lambda: start.lines(runs),
    }


def picture(path: Path) -> None:
    """Draw how the ETL's time grows with a segment, and that of the first query with commits."""
    import altair as alt
    import polars as pl

    points = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in (5, 10, 20, 40, 80):
            paths = segments(folder / f"{size}", size)
            work = partial(etl.run_etl, etl.waiting(paths, folder / f"lake-{size}"))
            points.append(("ETL of a segment of so many MB", size, seconds(work)))
        for commits in (1, 10, 100, 1000):
            fill_trades(Lake(path=folder / f"{commits}-commits"), 200_000, commits)
            work = partial(reading.first_query, folder / f"{commits}-commits")
            points.append(("first query after so many commits", commits, seconds(work)))
    frame = pl.DataFrame(points, schema=["of", "size", "seconds"], orient="row")
    scale = alt.Scale(type="log")
    chart = alt.Chart(frame).mark_line(point=True)
    chart = chart.encode(x=alt.X("size:Q", scale=scale), y=alt.Y("seconds:Q", scale=scale))
    chart.facet("of:N", columns=2).resolve_scale(x="independent").save(path)


def main() -> None:
    """Print a line of the table as soon as it is measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = groups(1, small=True)
    parser.add_argument("group", nargs="*", help=f"of {', '.join(known)}; by default all")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="only show that it runs")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw growth, .svg or .png")
    asked = parser.parse_args()
    if unknown := set(asked.group) - known.keys():
        parser.error(f"there is no {', '.join(unknown)}: choose of {', '.join(known)}")
    if asked.picture:
        picture(asked.picture)
        return
    print("| what | target | measured (lowest to highest run) | | times |\n|---|---|---|---|---|")
    for name, lines in groups(asked.runs, small=asked.small).items():
        if not asked.group or name in asked.group:
            for line in lines():
                print(line, flush=True)


if __name__ == "__main__":
    main()
