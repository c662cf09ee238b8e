"""What runs a capture from start to stop, under the name that it has had from the first."""

from fluxforge.ingestion.pipeline import IngestionPipeline, ingest

__all__ = ["IngestionPipeline", "ingest"]
