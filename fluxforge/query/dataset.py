"""A table version as an Arrow dataset: how remote files, and only files of the lake, are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

from fluxforge.tables import PARTITION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fluxforge.query.catalog import TableVersion
    from fluxforge.tables import TableFile

_BOUNDED = ("symbol", "instrument", "ts_event", "ts_recv")
"""The columns by whose bounds a reader of the dataset leaves files out."""
_TOGETHER = ds.ParquetFragmentScanOptions(
    pre_buffer=True, cache_options=pa.CacheOptions(hole_size_limit=1 << 20, lazy=True)
)
"""Columns that lie near each other are read at once, with what is between: requests cost more."""


class _CachedFiles(FSSpecHandler):  # type: ignore[misc]
    """Opens the files of a version, and keeps what is read of them."""

    def __init__(self, version: TableVersion) -> None:
        super().__init__(version.table.storage.get_filesystem())
        self._version = version
        self._files = dict(zip(version.locate(version.files), version.files, strict=True))

    def open_input_file(self, path: str) -> Any:
        version, file = self._version, self._files[path]
        key = f"{version.table.path}/{file.path}"
        if version.cache is None:
            return super().open_input_file(path)
        return pa.PythonFile(version.cache.open(version.table.storage, key, file.size), mode="r")


class _RemoteDataset(ds.FileSystemDataset):  # type: ignore[misc]
    def scanner(self, *args: Any, **options: Any) -> _Scanner:
        return _Scanner(super().scanner(*args, **options))


class _Scanner:
    """Reads without :meth:`pyarrow.dataset.Scanner.to_reader`, which keeps the GIL.

    Arrow's threads hold a lock of the scan while they wait for the GIL, to give back what a file
    of Python's has read: who waits for that lock and keeps the GIL waits for ever.
    """

    def __init__(self, scanner: ds.Scanner) -> None:
        self._scanner = scanner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scanner, name)

    def to_reader(self) -> pa.RecordBatchReader:
        batches = self._scanner.to_batches()
        return pa.RecordBatchReader.from_batches(self._scanner.projected_schema, batches)


def make_dataset(version: TableVersion, files: Iterable[TableFile]) -> ds.Dataset:
    """Return some files of a version as a dataset that knows their bounds."""
    chosen = list(files)
    filesystem, kind = LocalFileSystem(), ds.FileSystemDataset
    if not version.table.storage.is_local:
        filesystem, kind = PyFileSystem(_CachedFiles(version)), _RemoteDataset
    form = ds.ParquetFileFormat(default_fragment_scan_options=_TOGETHER)
    fragments = [
        form.make_fragment(path, filesystem, partition_expression=_known(file))
        for path, file in zip(version.locate(chosen), chosen, strict=True)
    ]
    return kind(fragments, version.schema, form, filesystem)


def _known(file: TableFile) -> Any:
    """Return what holds for all rows of a file."""
    known = ds.field(PARTITION) == pa.scalar(file.date)
    for name in _BOUNDED:
        if file.nulls.get(name) == 0 and name in file.least and name in file.greatest:
            column = ds.field(name)
            known &= (column >= _scalar(file.least[name])) & (
                column <= _scalar(file.greatest[name])
            )
    return known


def _scalar(value: Any) -> pa.Scalar:
    return (
        pa.scalar(value) if isinstance(value, str) else pa.scalar(value, pa.timestamp("us", "UTC"))
    )
