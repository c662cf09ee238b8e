"""What the ETL writes files with."""

from fluxforge.etl.writers.parquet_writer import ParquetWriter

__all__ = ["ParquetWriter"]
