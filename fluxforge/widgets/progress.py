"""Progress bars for notebook cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from fluxforge.config.durations import parse_duration
from fluxforge.errors import MissingExtraError
from fluxforge.widgets.state import Progress, etl_state, ingest_state

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType

    from fluxforge.ingestion.report import IngestProgress

_COLOURS = {"running": "info", "done": "success", "failed": "danger"}


class _ProgressBar:
    """A bar below the running cell, which shows the last `state` that it was given.

    As a context manager it turns green at the end, or red if the block raised an error.
    """

    def __init__(self, label: str) -> None:
        try:
            import ipywidgets
            from IPython.display import display
        except ImportError as exc:
            raise MissingExtraError("a progress bar in a notebook", "ipywidgets") from exc
        self._bar = ipywidgets.FloatProgress(min=0.0, max=1.0, description=label)
        self._bar.style.description_width = "initial"
        self._note = ipywidgets.Label()
        self._state = Progress(label)
        self.show(self._state)
        display(ipywidgets.HBox([self._bar, self._note]))  # type: ignore[no-untyped-call]

    @property
    def state(self) -> Progress:
        """What the bar shows."""
        return self._state

    def show(self, state: Progress) -> None:
        """Show another state."""
        self._state = state
        self._bar.value = 1.0 if state.share is None else state.share
        self._bar.bar_style = _COLOURS[state.stage]
        self._note.value = state.note

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.show(self.state.ended(well=error is None))


class IngestProgressBar(_ProgressBar):
    """Shows the progress of ``lake.ingest``; give it the bounds of the capture.

    Parameters
    ----------
    frames, duration
        As :meth:`fluxforge.Lake.ingest` takes them. Without either, the bar only shows that
        frames arrive.
    label
        The text before the bar.

    Raises
    ------
    MissingExtraError
        If ipywidgets is not installed.

    Examples
    --------
    In a notebook::

        with IngestProgressBar(duration="60s") as bar:
            report = await lake.ingest("coinbase", duration="60s", on_progress=bar)
    """

    def __init__(
        self,
        *,
        frames: int | None = None,
        duration: str | float | timedelta | None = None,
        label: str = "ingest",
    ) -> None:
        self._frames = frames
        self._seconds = None if duration is None else parse_duration(duration)
        super().__init__(label)

    def __call__(self, progress: IngestProgress) -> None:
        """Show the progress that the capture reports."""
        self.show(
            ingest_state(self.state.label, progress, frames=self._frames, seconds=self._seconds)
        )


class EtlProgressBar(_ProgressBar):
    """Shows the progress of ``lake.etl``, by its segments.

    Parameters
    ----------
    label
        The text before the bar.

    Raises
    ------
    MissingExtraError
        If ipywidgets is not installed.

    Examples
    --------
    In a notebook::

        with EtlProgressBar() as bar:
            report = lake.etl("coinbase", on_progress=bar)
    """

    def __init__(self, *, label: str = "etl") -> None:
        super().__init__(label)

    def __call__(self, done: int, total: int) -> None:
        """Show how many of the segments are done."""
        self.show(etl_state(self.state.label, done, total))
