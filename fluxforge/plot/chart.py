"""A chart that shows without a network: Vega-Lite where a notebook has it, else a drawn image."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fluxforge.errors import MissingExtraError, UsageError

VEGALITE = "5.21"
"""JupyterLab and VS Code bring a renderer for version 5 along; later ones would need a CDN."""

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"  # a name; nothing is fetched
_MIME = "application/vnd.vegalite.v5+json"
_INK = "#808080"  # readable on white and on black

_CONFIG: dict[str, Any] = {
    "background": "transparent",
    "axis": {"labelColor": _INK, "titleColor": _INK, "gridColor": _INK, "gridOpacity": 0.25},
    "legend": {"labelColor": _INK, "titleColor": _INK},
    "title": {"color": _INK, "anchor": "start"},
    "header": {"labelColor": _INK, "titleColor": _INK},
    "view": {"stroke": None},
}


@dataclass(frozen=True)
class Chart:
    """A chart of a frame; the last expression of a cell shows it.

    Attributes
    ----------
    spec
        The chart in Vega-Lite 5, its data inside: what other tools can edit.
    """

    spec: dict[str, Any] = field(repr=False)

    @property
    def title(self) -> str:
        """What stands above the chart."""
        return str(self.spec.get("title", ""))

    @cached_property
    def svg(self) -> str:
        """The chart as an SVG document.

        Raises
        ------
        MissingExtraError
            If ``vl-convert-python`` is not installed.
        """
        return str(_converter().vegalite_to_svg(self._still, vl_version=VEGALITE))

    def save(self, path: str | Path, *, scale: float = 2.0) -> Path:
        """Write the chart to a file; an ``.html`` is interactive and needs no network.

        Parameters
        ----------
        path
            Ends in ``.png``, ``.svg`` or ``.html``.
        scale
            Pixels of a PNG per unit of the chart.

        Raises
        ------
        UsageError
            If the path ends in something else.
        MissingExtraError
            If ``vl-convert-python`` is not installed.
        """
        target = Path(path)
        match target.suffix.lower():
            case ".svg":
                content: bytes = self.svg.encode()
            case ".png":
                white = self._still | {"background": "white"}
                content = _converter().vegalite_to_png(white, vl_version=VEGALITE, scale=scale)
            case ".html":
                page: str = _converter().vegalite_to_html(
                    self._whole | {"background": "white"}, vl_version=VEGALITE, bundle=True
                )
                content = page.encode()
            case other:
                raise UsageError(f"cannot save a chart as {other!r}: choose .png, .svg or .html")
        target.write_bytes(content)
        return target

    @property
    def _whole(self) -> dict[str, Any]:
        return {"$schema": _SCHEMA, "config": _CONFIG} | self.spec

    @property
    def _still(self) -> dict[str, Any]:
        """The chart without the invisible points that the pointer finds: most of an image."""
        whole = self._whole
        inner = whole.get("spec", whole)
        seen = [one for one in inner.get("layer", []) if one["mark"].get("type") != "point"]
        if not seen:
            return whole
        return whole | ({"spec": inner | {"layer": seen}} if "spec" in whole else {"layer": seen})

    def as_html(self) -> str:
        """Return the chart as an image that is never wider than what it stands in."""
        return self.svg.replace("<svg ", '<svg style="max-width:100%;height:auto" ', 1)

    def __repr__(self) -> str:
        return f"<Chart {self.title}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        # JupyterLab would take HTML before Vega-Lite; an image comes after it, and a saved page
        # takes that.
        return {_MIME: self._whole, "image/svg+xml": self.as_html(), "text/plain": repr(self)}


def _converter() -> Any:
    try:
        import vl_convert
    except ImportError as exc:
        raise MissingExtraError("drawing a chart", "vl-convert-python") from exc
    return vl_convert
