"""Every error FluxForge raises, in one tree.

Errors of other libraries are translated once, where they cross into FluxForge, with ``raise ...
from exc``. A message says what happened, to what, and what to change. ``exit_code`` is what the
command line returns: 1 when the work went wrong, 2 when the request or the configuration did.

::

    FluxForgeError
    ├── UsageError                 the request is wrong (exit 2)
    │   ├── ConfigError            a setting
    │   ├── InvalidKeyError        a storage key that leaves the root, or that some disk cannot hold
    │   ├── UnknownSourceError     no such exchange
    │   ├── UnknownTableError      no such table or column
    │   ├── QueryError             SQL that DuckDB refuses
    │   ├── NoBookError            no order book is known at that moment
    │   └── MissingExtraError      an optional package is not installed
    ├── StorageError               the disk or the object store
    │   ├── FileMissingError
    │   ├── FileExistsAlreadyError
    │   ├── AccessDeniedError
    │   ├── StorageFullError
    │   ├── StorageUnavailableError    worth trying again later
    │   └── JournalFencedError     another process has taken this journal over
    ├── SegmentError               a segment that cannot be read as a whole
    ├── CommitConflictError        a table moved on between reading it and committing to it
    ├── TableError                 a table that cannot be read or written
    ├── ConnectionFailedError      the venue cannot be reached, or refuses for good
    └── ExchangeError              the local exchange cannot start or replay
"""

from __future__ import annotations


class FluxForgeError(Exception):
    """The root: ``except FluxForgeError`` catches everything FluxForge raises."""

    exit_code = 1


class UsageError(FluxForgeError):
    """The request cannot be carried out as it was made."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is unknown, of the wrong type, out of date or contradicts another."""


class InvalidKeyError(UsageError):
    """A storage key is absolute, leaves the root, or cannot be a file name everywhere."""


class UnknownSourceError(UsageError):
    """No source of that name is installed or configured."""


class UnknownTableError(UsageError):
    """No table or column of that name exists."""


class QueryError(UsageError):
    """A SQL statement that DuckDB refuses."""


class NoBookError(UsageError):
    """No order book is known at that moment: no snapshot came before it, or frames are missing."""


class MissingExtraError(UsageError):
    """A feature needs an optional package that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an extra: pip install 'fluxforge[{extra}]'")


class StorageError(FluxForgeError):
    """A storage operation failed."""


class FileMissingError(StorageError):
    """There is no file under that key."""


class FileExistsAlreadyError(StorageError):
    """There is a file under that key, and the operation may not replace it."""


class AccessDeniedError(StorageError):
    """The storage refuses: permissions, a read-only disk, or wrong credentials."""


class StorageFullError(StorageError):
    """No space is left."""


class StorageUnavailableError(StorageError):
    """The storage does not answer, or asks to slow down; the same call may succeed later."""


class JournalFencedError(StorageError):
    """Another process took this journal over; what was appended before is safe with it."""


class SegmentError(FluxForgeError):
    """A segment could not be read to its end; it stays where it is."""


class CommitConflictError(FluxForgeError):
    """Another commit came first; read the table again and retry."""


class TableError(FluxForgeError):
    """A table could not be read or written."""


class ConnectionFailedError(FluxForgeError):
    """The venue cannot be reached, or refuses in a way that trying again will not change."""


class ExchangeError(FluxForgeError):
    """The local exchange cannot listen, or a recording cannot be replayed."""
