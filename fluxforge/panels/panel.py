"""A panel: a widget that reads its state again and again until it is stopped."""

from __future__ import annotations

import threading
import weakref
from importlib import resources
from typing import TYPE_CHECKING, Any

from fluxforge.errors import FluxForgeError, MissingExtraError

try:
    import anywidget
    import traitlets
except ImportError as exc:
    raise MissingExtraError("a live panel", "anywidget") from exc

if TYPE_CHECKING:
    from collections.abc import Callable


def script(*names: str) -> str:
    """Return files of ``static/`` as one script: nothing is fetched when it runs."""
    return "\n".join(_static(f"{name}.js") for name in names)


def _static(name: str) -> str:
    return resources.files(__package__).joinpath("static", name).read_text(encoding="utf-8")


class Panel(anywidget.AnyWidget):
    """A live view of something that a function reads.

    Parameters
    ----------
    read
        Returns the state to show; called from a thread of the panel's own.
    seconds
        Pause between two reads.
    on_stop
        Called when the button is pressed, after the panel has stopped.
    """

    _css = _static("panel.css")
    state = traitlets.Dict().tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    running = traitlets.Bool(default_value=True).tag(sync=True)

    def __init__(
        self,
        read: Callable[[], dict[str, Any]],
        *,
        seconds: float,
        on_stop: Callable[[], object] | None = None,
    ) -> None:
        super().__init__()
        self._read = read
        self._on_stop = on_stop
        self._stopped = threading.Event()
        self.on_msg(self._hear)
        # The thread holds no reference: a panel that nobody has any more ends by itself.
        worker = threading.Thread(
            target=_keep_reading, args=(weakref.ref(self), self._stopped, seconds), daemon=True
        )
        worker.start()

    def refresh(self) -> None:
        """Read and show the state now; an error of FluxForge is shown and tried again."""
        try:
            state = self._read()
        except FluxForgeError as exc:
            self.note = str(exc)
            return
        self.note = ""
        if state != self.state:
            self.state = state

    def stop(self) -> None:
        """Stop reading. The panel keeps what it shows."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self.running = False
        if self._on_stop is not None:
            self._on_stop()

    def _hear(self, _: object, message: dict[str, Any], __: object) -> None:
        if message.get("kind") == "stop":
            self.stop()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None:  # what a saved page shows, where no widget runs
            data["text/html"] = self.as_html()
        return bundle

    def as_html(self) -> str:
        """Return what the panel shows now, as a table."""
        from html import escape

        rows = self.state.get("rows") or [
            [side[:-1], *level[:2]]
            for side in ("asks", "bids")
            for level in (self.state.get(side) or [])
        ]
        cells = "".join(
            "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row[:3]) + "</tr>"
            for row in rows
        )
        return f"<p>{escape(str(self.state.get('title', '')))}</p><table>{cells}</table>"


def _keep_reading(panel: weakref.ref[Panel], stopped: threading.Event, seconds: float) -> None:
    while not stopped.is_set():
        alive = panel()
        if alive is None:
            return
        alive.refresh()
        del alive
        stopped.wait(seconds)
