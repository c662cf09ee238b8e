from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from fluxforge.report import Report, plain, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Part:
    name: str
    size: int


@dataclass(frozen=True, repr=False)
class RunReport(Report):
    source: str = "coinbase"
    lines_read: int = 1200
    rows: Mapping[str, int] = field(default_factory=lambda: {"ticker": 2})
    parts: tuple[Part, ...] = (Part("<a>", 1),)
    seconds: float = 1.23456


class TestReport:
    def test_every_field_is_in_the_json(self) -> None:
        assert json.loads(RunReport().to_json()) == {
            "source": "coinbase",
            "lines_read": 1200,
            "rows": {"ticker": 2},
            "parts": [{"name": "<a>", "size": 1}],
            "seconds": 1.23456,
        }

    def test_a_report_is_one_line(self) -> None:
        assert repr(RunReport()) == (
            "<RunReport: source coinbase, lines read 1200, rows ticker 2, parts 1, seconds 1.23>"
        )
        assert str(RunReport()) in repr(RunReport())

    def test_a_notebook_shows_a_table_in_which_nothing_is_markup(self) -> None:
        html = RunReport(source="<script>")._repr_html_()
        assert html.startswith("<table>")
        assert "<td>1,200</td>" in html
        assert "<script>" not in html


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 600, UTC), "2026-01-02T03:04:05.000600+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (timedelta(milliseconds=1500), 1.5),
        (float("inf"), None),
        (float("nan"), None),
        (10**30, 10**30),
        (Decimal("0.10"), "0.10"),
        (b"\x00\xff", "00ff"),
        (True, True),
        ({1: (None, {"a"})}, {"1": [None, ["a"]]}),
    ],
)
def test_values_have_one_form(value: object, expected: object) -> None:
    assert plain(value) == expected
    assert json.loads(to_json(value)) == expected
