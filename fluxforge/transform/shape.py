"""What frames look like, as a source declares it: as a type of DuckDB's, and counted by keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxforge.transform.database import identifier, literal, literals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fluxforge.sources.tables import SourceTables


def duckdb_type(shape: Any) -> str:
    """Write a shape as a type.

    >>> duckdb_type({"events": [{"price": "VARCHAR"}]})
    'STRUCT("events" STRUCT("price" VARCHAR)[])'
    """
    if isinstance(shape, dict):
        fields = ", ".join(f"{identifier(name)} {duckdb_type(of)}" for name, of in shape.items())
        return f"STRUCT({fields})"
    return f"{duckdb_type(shape[0])}[]" if isinstance(shape, list) else str(shape)


def narrowed(shape: Any, names: str) -> Any:
    """Return a shape without the fields that a text does not name."""
    if isinstance(shape, list):
        return [narrowed(shape[0], names)]
    if not isinstance(shape, dict):
        return shape
    return {name: narrowed(of, names) for name, of in shape.items() if name in names} or shape


def count_keys(tables: SourceTables, kinds: set[str]) -> str:
    """Write the query for the number of keys in the frames of ``part``, of `kinds`, by ``file``.

    It is the number of keys in the text only where all of them are in the shape, none is null,
    each value has the type that the shape gives it, and stands in a frame of its kind.
    """
    takes: dict[str, list[str]] = {}
    for channel in tables.channels.values():
        for place in channel.places:
            of_list = takes.setdefault(place.removeprefix("$.").replace("[*]", ""), [])
            of_list += channel.takes

    def levels(shape: Any, value: str, name: str, lists: tuple[str, ...]) -> Iterator[str]:
        # Most lists are those of one kind of frame: the others are not even looked at.
        rows = "SELECT file, data FROM part"
        if name in takes:
            if kinds.isdisjoint(takes[name]):
                return
            rows += f" WHERE kind IN ({literals(takes[name])[1:-1]})"
        for path in lists:
            rows = f"SELECT file, unnest({path}) AS item FROM ({rows})"
        terms, inner = _terms(shape, value, name)
        yield f"SELECT file, {' + '.join(terms)} AS keys FROM ({rows}) GROUP BY file"
        for dotted, path, item in inner:
            yield from levels(item, "item", dotted, (*lists, path))

    queries = " UNION ALL ".join(levels(tables.frame, "data", "", ()))
    return f"SELECT file, sum(keys)::BIGINT FROM ({queries}) GROUP BY file"


def _terms(
    shape: dict[str, Any], value: str, outer: str
) -> tuple[list[str], list[tuple[str, str, Any]]]:
    terms, lists = [], []
    for name, of in shape.items():
        path, dotted = f"{value}.{identifier(name)}", f"{outer}.{name}".removeprefix(".")
        terms.append(f"count({path})")
        if of == "JSON":
            text = f"{path}::VARCHAR"
            gone = f"length({text}) - length(replace({text}, {literal(chr(34) + ':')}, ''))"
            terms.append(f"coalesce(sum({gone}) // 2, 0)")
        elif isinstance(of, dict):
            inner = _terms(of, path, dotted)
            terms += inner[0]
            lists += inner[1]
        elif isinstance(of, list) and isinstance(of[0], dict):
            lists.append((dotted, path, of[0]))
    return terms, lists
