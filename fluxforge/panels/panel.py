"""A panel: a widget that reads its state again and again until it is stopped."""

from __future__ import annotations

import atexit
import sys
import threading
import time
import weakref
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

from fluxforge.errors import FluxForgeError, MissingExtraError

try:
    import anywidget
    import traitlets
except ImportError as exc:
    raise MissingExtraError("a live panel", "anywidget") from exc

if TYPE_CHECKING:
    from collections.abc import Callable

_SAVE_SECONDS = 5.0
"""How often what a panel shows is put into the notebook, for those who read it without a kernel."""

_alive: weakref.WeakSet[Panel] = weakref.WeakSet()


def script(*names: str) -> str:
    """Return files of ``static/`` as one script: nothing is fetched when it runs."""
    return "\n".join(_static(f"{name}.js") for name in names)


def _static(name: str) -> str:
    return resources.files(__package__).joinpath("static", name).read_text(encoding="utf-8")


class Panel(anywidget.AnyWidget):
    """A live view of something that a function reads.

    A saved notebook shows what the panel showed last, as a table.

    Parameters
    ----------
    read
        Returns the state to show; called from a thread of the panel's own.
    as_rows
        Turns a state into the rows of that table.
    seconds
        Pause between two reads.
    """

    _css = _static("panel.css")
    state = traitlets.Dict().tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    running = traitlets.Bool(default_value=True).tag(sync=True)

    def __init__(
        self,
        read: Callable[[], dict[str, Any]],
        as_rows: Callable[[dict[str, Any]], list[list[str]]],
        *,
        seconds: float,
    ) -> None:
        super().__init__()
        self._read = read
        self._as_rows = as_rows
        self._saved: Any = None
        self._save_at = 0.0
        self._stopped = threading.Event()
        self.on_msg(self._hear)
        _alive.add(self)
        # The thread holds no reference: a panel that nobody has any more ends by itself.
        self._worker = threading.Thread(
            target=_keep_reading, args=(weakref.ref(self), self._stopped, seconds), daemon=True
        )
        self._worker.start()

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
            if time.monotonic() >= self._save_at:
                self._save()

    def stop(self) -> None:
        """Stop reading. The panel keeps what it shows."""
        self._stopped.set()
        self.running = False
        self._save()

    def _hear(self, _: object, message: dict[str, Any], __: object) -> None:
        if message.get("kind") == "stop":
            self.stop()

    def as_html(self) -> str:
        """Return what the panel shows now, as a table."""
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._as_rows(self.state)
        )
        title = escape(str(self.state.get("title", "")))
        # Where the widget runs, its script hides this.
        return f'<div class="fluxforge-saved"><p>{title}</p><table>{rows}</table></div>'

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        bundle, metadata = cast("Any", self._repr_mimebundle_())
        bundle.pop("text/html", None)
        display(bundle, raw=True, metadata=metadata)  # type: ignore[no-untyped-call]
        if not self.state:
            self.refresh()
        self._saved = display(HTML(self.as_html()), display_id=True)  # type: ignore[no-untyped-call]

    def _save(self) -> None:
        """Put what is shown into the notebook."""
        self._save_at = time.monotonic() + _SAVE_SECONDS
        if self._saved is not None and not sys.is_finalizing():
            from IPython.display import HTML

            self._saved.update(HTML(self.as_html()))  # type: ignore[no-untyped-call]


def _keep_reading(panel: weakref.ref[Panel], stopped: threading.Event, seconds: float) -> None:
    while not stopped.is_set():
        alive = panel()
        if alive is None:
            return
        begun = time.monotonic()
        alive.refresh()
        del alive
        # Half of the time is for the kernel's other work, however long a read takes.
        stopped.wait(max(seconds, time.monotonic() - begun))


@atexit.register
def _stop_all() -> None:
    """End all reading with the kernel, before what it reads with is taken down."""
    for panel in list(_alive):
        panel._stopped.set()  # noqa: SLF001 -- the same module
    for panel in list(_alive):
        panel._worker.join(timeout=2)  # noqa: SLF001
