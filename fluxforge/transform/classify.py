"""The statements that read lines, and find what is wrong with each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxforge.transform.database import fill, identifier, literal, literals

if TYPE_CHECKING:
    from fluxforge.sources.tables import Channel, SourceTables

_LATEST_NS = 9_000_000_000_000_000_000  # the year 2255; later would not fit 64 bits


def classify_sql(tables: SourceTables, **values: object) -> str:
    """Return the statements that read lines into ``read_lines``, and say why some are refused."""
    return fill(
        "classify",
        latest_ns=_LATEST_NS,
        frames=tables.frames_sql,
        control=literals(tables.control),
        channels="\n".join(_reason_sql(one, tables.frame) for one in tables.channels.values()),
        **values,
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
