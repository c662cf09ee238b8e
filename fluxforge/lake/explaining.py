"""Why an answer is empty: no such symbol, another time, nothing captured, or not in tables yet."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from fluxforge.errors import UnknownSymbolError, UsageError
from fluxforge.lake.waiting import warn, what_waits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluxforge.lake.places import Places
    from fluxforge.query.catalog import TableVersion

_MOST_NAMES = 10


def check_answer(
    lake: Places,
    versions: TableVersion | Sequence[TableVersion],
    *,
    live: bool,
    symbols: str | Sequence[str] | None = None,
    instruments: str | Sequence[str] | None = None,
    start: Any = None,
    end: Any = None,
) -> None:
    """Refuse what no table can answer, and warn where the answer is empty; from the logs alone."""
    from fluxforge.query.catalog import TableVersion
    from fluxforge.query.scan import asked, holds_name, may_answer, moment

    low, high = moment(start), moment(end)
    if low is not None and high is not None and low >= high:
        raise UsageError(f"start {start} is not before end {end}: nothing can lie between them")
    opened = [versions] if isinstance(versions, TableVersion) else list(versions)
    chosen = asked(symbols, instruments)
    filled = [version for version in opened if version.files or _live_rows(version)]
    for column, names in chosen.items() if filled else ():
        for name in names:
            if not any(holds_name(version, column, name) for version in filled):
                _refuse(lake, filled, column, name, live=live)
    if not any(may_answer(version, chosen, low, high) for version in opened):
        warn(_reason(lake, opened, filled, live=live))


def _live_rows(version: TableVersion) -> int:
    return 0 if version.live is None else version.live.height


def _refuse(
    lake: Places, versions: list[TableVersion], column: str, name: str, *, live: bool
) -> None:
    from fluxforge.query.scan import names_in

    captured = [product for one in getattr(lake, "captures", ()) for product in one.added]
    for version in versions:
        settings = lake.config.ingestion.sources.get(version.source)
        captured += settings.products if settings else []
    if column == "symbol" and name in {
        part for product in captured for part in (product, product.rpartition(":")[2])
    }:
        return  # it has not been seen yet
    known = sorted({each for version in versions for each in names_in(version, column)})
    cased = {each.lower(): each for each in known}
    near = [cased[one] for one in difflib.get_close_matches(name.lower(), cased, 3, cutoff=0.65)]
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "there are: "
    if not near:
        hint += ", ".join(known[:_MOST_NAMES]) + (", …" if len(known) > _MOST_NAMES else "")
    waits = "" if live else what_waits(lake.readers, {version.source for version in versions})
    raise UnknownSymbolError(
        f"{_where(versions)} has no {column} {name!r}: {hint}" + (f" ({waits})" if waits else "")
    )


def _reason(
    lake: Places, versions: list[TableVersion], filled: list[TableVersion], *, live: bool
) -> str:
    sources = {version.source for version in versions}
    waits = what_waits(lake.readers, sources, live=live)
    more = f"; {waits}" if waits else ""
    if filled:
        bounds = [
            (file.least.get("ts_event"), file.greatest.get("ts_event"))
            for version in filled
            for file in version.files
        ]
        firsts = [first for first, _ in bounds if first is not None]
        lasts = [last for _, last in bounds if last is not None]
        if not firsts:
            return f"{_where(versions)} has no such rows{more}"
        first, last = (f"{at:%Y-%m-%dT%H:%M:%S}" for at in (min(firsts), max(lasts)))
        return f"{_where(versions)} has rows from {first} to {last} (UTC), and none of these{more}"
    if waits:
        return f"{_where(versions)} has no rows yet: {waits}"
    if any(lake.catalog.written(one) for one in sources) or what_waits(lake.readers, sources):
        return f"{_where(versions)} has no rows: nothing that was captured is of this table"
    names = ", ".join(sorted(sources)) or "any source"
    return f"nothing of {names} has been captured: lake.capture({min(sources, default='…')!r})"


def _where(versions: list[TableVersion]) -> str:
    names = [f"{version.source}.{version.name}" for version in versions]
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "") or "no table"
