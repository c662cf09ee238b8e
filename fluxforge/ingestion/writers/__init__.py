"""Writers of segments."""

from fluxforge.ingestion.writers.log_writer import LogWriter

__all__ = ["LogWriter"]
