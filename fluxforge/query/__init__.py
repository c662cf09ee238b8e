"""Readers: Polars scans, DuckDB views, summaries, gaps and charts over the tables."""
