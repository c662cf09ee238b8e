"""How a lake takes what is not captured by it: frames of a venue, and tables of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxforge.config import Role
from fluxforge.lake.places import Places

if TYPE_CHECKING:
    from fluxforge.etl.frames import WriteReport
    from fluxforge.ingestion.log_writer import LogWriter


class Writing(Places):
    """The part of :class:`~fluxforge.Lake` that writes what is handed to it."""

    def writer(self, source: str) -> LogWriter:
        """Return a writer of a venue's frames into segments, with everything as configured.

        Examples
        --------
        >>> import tempfile
        >>> from fluxforge import Lake
        >>> lake = Lake(path=tempfile.mkdtemp())
        >>> with lake.writer("coinbase") as writer:
        ...     writer.write(b'{"channel":"heartbeats"}')
        >>> lake.etl("coinbase").lines_taken
        1
        """
        from fluxforge.ingestion.log_writer import LogWriter
        from fluxforge.sources import get_source

        return LogWriter.from_config(self.config, get_source(source).name)

    def write(
        self, source: str, table: str, frame: Any, identity: str | None = None
    ) -> WriteReport:
        """Add a frame to a table of one's own, once per identity.

        The table then is in :meth:`tables`, :meth:`scan` and SQL as others are. It is divided by
        ``date``, which comes from ``ts_recv``, else from ``ts_event``; times without a zone are
        UTC.

        Parameters
        ----------
        source, table
            What it is called; not the name of a venue.
        frame
            Of Polars, Arrow or pandas, or anything that Arrow can take.
        identity
            What is written once under this name is not written again; None: a digest of the data.

        Raises
        ------
        UsageError
            If the source is a venue's, or the frame has no times.
        TableError
            If the table has a column of another type.

        Examples
        --------
        >>> import polars as pl, tempfile
        >>> from datetime import UTC, datetime
        >>> from fluxforge import Lake
        >>> lake = Lake(path=tempfile.mkdtemp())
        >>> frame = pl.DataFrame({"ts_event": [datetime(2026, 8, 9, tzinfo=UTC)], "price": [1.5]})
        >>> lake.write("mine", "quotes", frame), lake.write("mine", "quotes", frame).written
        (<WriteReport: mine.quotes: 1 rows written>, False)
        >>> lake.sql("SELECT price FROM mine.quotes").fetchall()
        [(1.5,)]
        """
        from fluxforge.etl.frames import write_frame

        return write_frame(*self._place(Role.ETL_OUTPUT), source, table, frame, identity)
