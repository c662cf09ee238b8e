"""Which files a statement needs: DuckDB tells what it filters by, the log what is in a file.

The statement is planned over tables without rows, through the views that it will read. Of the
plan, the filters that reached a table are compared with the bounds of its files. What is not
understood leaves no file out.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from fluxforge.query.views import columns_of, create_market_views, create_views
from fluxforge.transform.database import identifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from fluxforge.query.catalog import TableVersion
    from fluxforge.tables import TableFile

_ROWS = "_rows"
_MOVING = re.compile(
    r"\b(now|today|current_\w+|get_current_\w+|transaction_timestamp|local\w+)\b", re.I
)
_DATA_DEPENDENT = "statistics_propagation,empty_result_pullup"
_COMPARISONS = {
    "COMPARE_EQUAL": (True, True),
    "COMPARE_GREATERTHAN": (True, False),
    "COMPARE_GREATERTHANOREQUALTO": (True, False),
    "COMPARE_LESSTHAN": (False, True),
    "COMPARE_LESSTHANOREQUALTO": (False, True),
}
"""Whether a comparison bounds a column from below, and from above."""


class Planner:
    """A database of tables without rows, over which statements are planned."""

    def __init__(self) -> None:
        import duckdb

        self._connection = duckdb.connect(config={"autoinstall_known_extensions": False})
        self._connection.execute(
            f"SET TimeZone = 'UTC'; SET disabled_optimizers = '{_DATA_DEPENDENT}'; "
            "SET python_enable_replacements = false"
        )
        self._schemas: dict[tuple[str, str], pa.Schema] = {}
        self._lock = Lock()

    @lru_cache(maxsize=256)  # noqa: B019 -- there is one planner
    def parse(self, query: str) -> tuple[list[str], set[tuple[str, str]]]:
        """Return the kinds of statements, and of a single query the tables: schema and name."""
        with self._lock:
            kinds = [one.type.name for one in self._connection.extract_statements(query)]
            nodes: list[Any] = [self._tree(query)] if kinds == ["SELECT"] else []
        tables = set()
        while nodes:
            match nodes.pop():
                case dict(node):
                    if node.get("type") == "BASE_TABLE":
                        tables.add((node["schema_name"], node["table_name"]))
                    nodes += node.values()
                case list(items):
                    nodes += items
        return kinds, tables

    def needed(
        self, query: str, versions: Sequence[TableVersion]
    ) -> dict[TableVersion, tuple[TableFile, ...]]:
        """Return the files of each version that can hold a row that a query asks for."""
        import duckdb

        everything = {version: version.files for version in versions}
        if sum(map(len, everything.values())) < 2:
            return everything
        below_only = bool(_MOVING.search(query))  # when it runs, "now" will be later
        try:
            with self._lock:
                scans = list(self._plan(query, versions))
            return {
                version: tuple(
                    file
                    for file in files
                    if any(
                        table == _rows_of(version)
                        and all(_may_hold(one, version.schema, file, below_only) for one in filters)
                        for table, filters in scans
                    )
                )
                for version, files in everything.items()
            }
        except (duckdb.Error, LookupError, TypeError, ValueError):
            return everything  # the query itself will tell what is wrong with it

    def _plan(
        self, query: str, versions: Sequence[TableVersion]
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield each scan of a table: its name, and the filters, all of which a row has to pass."""
        for version in versions:
            self._show(version)
        if "market" in query.lower():
            create_market_views(self._connection, "memory", versions)
        known = {_rows_of(version) for version in versions}
        [(_, plan)] = self._connection.execute(f"EXPLAIN (FORMAT json) {query}").fetchall()
        nodes = json.loads(plan)
        while nodes:
            node = nodes.pop()
            nodes += node.get("children", [])
            facts = node.get("extra_info", {})
            if "Table" in facts:
                if facts["Table"] not in known:
                    raise LookupError(facts["Table"])
                filters = facts.get("Filters", [])
                filters = [filters] if isinstance(filters, str) else filters
                texts = [text.removeprefix("optional: ") for text in filters]
                yield facts["Table"], [tree for text in texts if (tree := self._parse(text))]

    def _show(self, version: TableVersion) -> None:
        name = (version.source, version.name)
        if self._schemas.get(name) == version.schema:
            return
        rows = f"memory.{identifier(version.source)}.{identifier(version.name + _ROWS)}"
        self._connection.execute(
            f"CREATE SCHEMA IF NOT EXISTS memory.{identifier(version.source)};"
            f"CREATE OR REPLACE TABLE {rows} AS SELECT {columns_of(self._connection, version)} "
            "WHERE false"
        )
        create_views(self._connection, "memory", version, rows)
        self._schemas[name] = version.schema

    def _parse(self, text: str) -> dict[str, Any] | None:
        """Return the tree of an expression; None for what is only a note, like a dynamic filter."""
        parsed = self._tree(f"SELECT 1 WHERE {text}")
        return None if parsed["error"] else parsed["statements"][0]["node"]["where_clause"]

    def _tree(self, query: str) -> dict[str, Any]:
        """Return the syntax tree of a query."""
        found = self._connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
        tree: dict[str, Any] = json.loads(found[0][0])
        return tree


@cache
def planner() -> Planner:
    """Return the planner of this process."""
    return Planner()


def _rows_of(version: TableVersion) -> str:
    return f"memory.{version.source}.{version.name}{_ROWS}"


def _may_hold(tree: dict[str, Any], schema: pa.Schema, file: TableFile, below_only: bool) -> bool:
    """Tell whether a row of a file can pass a filter."""
    match tree:
        case {"type": "CONJUNCTION_AND", "children": parts}:
            return all(_may_hold(part, schema, file, below_only) for part in parts)
        case {"type": "CONJUNCTION_OR", "children": parts}:
            return any(_may_hold(part, schema, file, below_only) for part in parts)
        case {"type": "COMPARE_IN", "children": [{"column_names": [column]}, *options]}:
            values = [_value(option, column, schema) for option in options]
            return None in values or any(file.may_hold(column, one, one) for one in values)
        case {"type": kind, "left": {"column_names": [column]}, "right": other} if (
            kind in _COMPARISONS and (value := _value(other, column, schema)) is not None
        ):
            below, above = _COMPARISONS[kind]
            return file.may_hold(
                column, value if below else None, value if above and not below_only else None
            )
    return True


def _value(tree: dict[str, Any], column: str, schema: pa.Schema) -> Any:
    """Return the constant that a column is compared with; None if it is not understood."""
    import pyarrow as pa

    match tree:
        case {"literal": {"kind": "STRING", "text": str(text)}} if pa.types.is_string(
            schema.field(column).type
        ):
            return text
        case {
            "type": "OPERATOR_CAST",
            "child": {"literal": {"kind": "STRING", "text": str(text)}},
            "type_expr": {"type_name": "TIMESTAMP WITH TIME ZONE"},
        }:
            return datetime.fromisoformat(text).astimezone(UTC)
        case {
            "type": "OPERATOR_CAST",
            "child": {"literal": {"kind": "STRING", "text": str(text)}},
            "type_expr": {"type_name": "DATE"},
        }:
            return date.fromisoformat(text)
    return None
