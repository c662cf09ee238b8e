"""The query that reads lines, and finds what is wrong with each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fluxforge.transform.database import fill, identifier, literal, literals
from fluxforge.transform.parts import NUMBER
from fluxforge.transform.shape import duckdb_type

if TYPE_CHECKING:
    from pathlib import Path

    from fluxforge.sources.tables import Channel, SourceTables

_LATEST_NS = 9_000_000_000_000_000_000  # the year 2255; later would not fit 64 bits


def lines_sql(
    tables: SourceTables, paths: list[Path], number: str, longest: int, *, typed: bool = False
) -> str:
    """Return the query that reads the lines of some files, and says why some are refused."""
    shape = tables.frame
    if shape is None:
        data, kind = "data, data AS json", "JSON"
    elif typed:
        data, kind = "data, NULL::JSON AS json", duckdb_type(shape)
    else:
        data = f"from_json(data, {literal(json.dumps(shape))}) AS data, data AS json"
        kind = "JSON"
    return fill(
        "classify",
        paths=literals(map(str, paths)),
        number=number,
        key=NUMBER,
        longest=longest,
        data=data,
        type=literal(kind),
        latest_ns=_LATEST_NS,
        frames=tables.frames_sql,
        control=literals(tables.control),
        channels="\n".join(_reason_sql(one, shape) for one in tables.channels.values()),
    )


def _reason_sql(channel: Channel, frame: dict[str, Any] | None) -> str:
    """Refuse a frame that lacks one of the lists its rows come from; an empty list is fine."""

    def is_whole(place: str) -> str:
        field, _, inside = place.removeprefix("$.").partition(".")
        if frame is None:
            return _is_whole_json("json", place)
        if frame[field.removesuffix("[*]")] == "JSON":
            return _is_whole_json(_field("data", field), f"$.{inside}")
        return _is_whole_struct(place)

    whole = " OR ".join(f"({is_whole(place)})" for place in channel.places)
    takes = ", ".join(literal(kind) for kind in channel.takes)
    name = channel.places[0].rpartition(".")[2]
    return (
        f"        WHEN kind IN ({takes})\n"
        f"            THEN CASE WHEN ({whole}) IS NOT TRUE\n"
        f"                THEN 'no {name} in a frame of ' || kind END"
    )


def _is_whole_struct(place: str) -> str:
    container, _, item = place.removeprefix("$.").rpartition("[*].")
    if not container:
        return f"{_field('data', item)} IS NOT NULL"
    events = _field("data", container)
    return (
        f"{events} IS NOT NULL AND "
        f"len(list_filter({events}, lambda e: {_field('e', item)} IS NULL)) = 0"
    )


def _is_whole_json(json: str, place: str) -> str:
    container = place.rpartition("[*]")[0]
    if not container:
        return f"json_type({json}, {literal(place)}) IN ('ARRAY', 'OBJECT')"
    return (
        f"len(list_filter(json_type({json}, {literal(place)}), lambda t: t = 'ARRAY')) "
        f"= json_array_length({json}, {literal(container)})"
    )


def _field(value: str, path: str) -> str:
    return ".".join([value, *map(identifier, path.split("."))])
