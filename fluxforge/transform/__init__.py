"""From the bytes of segments to typed rows, in DuckDB: what ETL, readers and checks share."""
