"""Ingestion: from an exchange's sockets to closed segments in ``raw/ready/``.

:class:`fluxforge.ingestion.orchestrators.IngestionPipeline` runs it all;
:class:`fluxforge.ingestion.writers.LogWriter` is the part that writes, usable on its own.
"""
