"""What every result has: a line for the console, a table for notebooks, JSON for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from html import escape
from typing import Any


class Report:
    """What a run did; a base for dataclasses declared with ``frozen=True, repr=False``.

    A subclass words :meth:`summary`. By default the notebook's table has a row for each field.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, repr=False)
    ... class CopyReport(Report):
    ...     source: str
    ...     rows: Mapping[str, int]
    ...
    ...     def summary(self):
    ...         return f"{sum(self.rows.values()):,} rows from {self.source}"
    >>> report = CopyReport("coinbase", {"ticker": 1200})
    >>> report
    <CopyReport: 1,200 rows from coinbase>
    >>> report.to_json()
    '{"source": "coinbase", "rows": {"ticker": 1200}}'
    """

    def summary(self) -> str:
        """Say in one line what came of it."""
        return ", ".join(f"{name} {value}" for name, value in self.html_rows().items())

    def html_rows(self) -> dict[str, object]:
        """Return the rows of the notebook's table: names and values."""
        rows: dict[str, object] = {}
        for name, value in self.to_dict().items():
            label = name.replace("_", " ")
            if isinstance(value, dict):
                rows |= {f"{label} {key}": one for key, one in value.items()}
            elif isinstance(value, list):
                rows[label] = len(value)
            else:
                rows[label] = round(value, 2) if isinstance(value, float) else value
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON would hold them."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]

    def to_json(self) -> str:
        """Return all fields as one line of JSON."""
        return to_json(self.to_dict())

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary()}>"

    def _repr_html_(self) -> str:
        return html_table(type(self).__name__, self.html_rows())


def html_table(title: str, fields: Mapping[str, object]) -> str:
    """Return a small table of names and values.

    Examples
    --------
    >>> html_table("Run", {"rows": 1200})
    '<table><caption>Run</caption><tr><th>rows</th><td>1,200</td></tr></table>'
    """
    rows = "".join(
        f"<tr><th>{_shown(name)}</th><td>{_shown(_text(value))}</td></tr>"
        for name, value in fields.items()
    )
    return f"<table><caption>{_shown(title)}</caption>{rows}</table>"


def _shown(text: str) -> str:
    shown = escape(text)
    return shown if shown.isprintable() else "".join(c if c.isprintable() else "�" for c in shown)


def _text(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def to_json(value: object) -> str:
    """Return any result as one line of JSON that no terminal obeys; see :func:`plain`."""
    text = json.dumps(plain(value), ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def plain(value: Any) -> Any:
    """Return a value as JSON would hold it.

    Times are ISO 8601, durations are seconds, bytes are hexadecimal digits, a decimal is a number
    where it is whole and else text, as it was, and a float that is not a number of JSON's is null.
    Anything else that JSON does not know becomes its text.

    Examples
    --------
    >>> from datetime import datetime, UTC
    >>> plain({"at": datetime(2026, 1, 2, tzinfo=UTC), "mean": float("nan"), "of": (1, 2)})
    {'at': '2026-01-02T00:00:00+00:00', 'mean': None, 'of': [1, 2]}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "to_dicts"):  # a frame: one object a row
        return plain(value.to_dicts())
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        return int(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return str(value)
