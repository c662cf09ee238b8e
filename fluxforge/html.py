"""How results look in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


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
