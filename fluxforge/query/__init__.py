"""Readers: Polars scans, DuckDB views, summaries and gaps over the tables."""
