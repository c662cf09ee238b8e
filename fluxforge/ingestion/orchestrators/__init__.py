"""Orchestrators: what runs an ingestion from start to stop."""

from fluxforge.ingestion.orchestrators.ingestion_pipeline import IngestionPipeline, ingest

__all__ = ["IngestionPipeline", "ingest"]
