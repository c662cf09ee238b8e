"""Every error FluxForge raises, in one tree.

Errors of other libraries are translated once, where they cross into FluxForge, by a table of
:class:`Translation` for each border. A message says what happened, to what, and what to change.
``exit_code`` is what the command line returns: 1 when the work went wrong, 2 when the request or
the configuration did.

::

    FluxForgeError
    ├── UsageError                 the request is wrong (exit 2)
    │   ├── ConfigError            a setting
    │   ├── InvalidKeyError        a storage key that leaves the root, or that some disk cannot hold
    │   ├── UnknownSourceError     no such exchange
    │   ├── UnknownTableError      no such table or column
    │   ├── UnknownSymbolError     no such symbol or instrument in a table
    │   ├── QueryError             SQL that DuckDB refuses
    │   ├── NoBookError            no order book is known at that moment
    │   ├── MissingExtraError      an optional package is not installed
    │   └── RenamedError           a name of an earlier version
    ├── StorageError               the disk or the object store
    │   ├── FileMissingError
    │   ├── FileExistsAlreadyError
    │   ├── AccessDeniedError
    │   ├── StorageFullError
    │   │   └── SpoolFullError     as much waits for the object store as may
    │   └── StorageUnavailableError    worth trying again later
    ├── SegmentError               a segment that cannot be read as a whole
    ├── CommitConflictError        a table moved on between reading it and committing to it
    ├── TableError                 a table that cannot be read or written
    ├── ConnectionFailedError      the venue cannot be reached, or refuses for good
    └── ExchangeError              the local exchange cannot start or replay

An answer that leaves something out, or is empty, is no error: it warns with an
:class:`EmptyAnswerWarning`.
"""

from __future__ import annotations

import linecache
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from traceback import walk_tb
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class FluxForgeError(Exception):
    """The root: ``except FluxForgeError`` catches everything FluxForge raises."""

    exit_code = 1

    def __str__(self) -> str:
        text = super().__str__()  # with words of venues, which a terminal might obey
        return "\n".join(printable(line, len(line)) for line in text.split("\n"))

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the message, and the user's own line."""
        shell = __import__("IPython").get_ipython()
        if shell.InteractiveTB.mode == "Verbose":
            whole: list[str] = shell.InteractiveTB.structured_traceback(
                type(self), self, self.__traceback__
            )
            return whole
        lines = [f"{type(self).__name__}: {self}"]
        frames = [
            (frame.f_code.co_filename, number) for frame, number in walk_tb(self.__traceback__)
        ]
        for file, number in frames:
            if not _is_library(file):
                lines[1:] = [f"  line {number}: {linecache.getline(file, number).strip()}"]
        return [*lines, "(%tb Verbose shows where it was raised)"]


def _is_library(file: str) -> bool:
    return file.startswith((__file__.rpartition("errors.py")[0], "<frozen")) or (
        "site-packages" in file
    )


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


class UnknownSymbolError(UsageError):
    """No symbol or instrument of that name is in a table."""


class QueryError(UsageError):
    """A SQL statement that DuckDB refuses."""


class NoBookError(UsageError):
    """No order book is known at that moment: no snapshot came before it, or frames are missing."""


class MissingExtraError(UsageError):
    """A feature needs an optional package that is not installed."""

    def __init__(self, feature: str, packages: str) -> None:
        super().__init__(f"{feature} needs an optional package: pip install {packages}")


class RenamedError(UsageError, ImportError):
    """A name of an earlier version; the message has today's."""


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


class SpoolFullError(StorageFullError):
    """As much waits on this disk for the object store as may: whoever brings more has to wait."""


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


class EmptyAnswerWarning(UserWarning):
    """An answer is empty, or leaves out what is not in tables yet; the message says why.

    ``warnings.simplefilter("ignore", EmptyAnswerWarning)`` silences it.
    """


warnings.simplefilter("always", EmptyAnswerWarning, append=True)  # a user's own filters go first


@dataclass(frozen=True)
class Translation:
    """One row of a border's table: an error of another library, and what FluxForge raises for it.

    Attributes
    ----------
    caught
        The library's error, or several.
    raised
        FluxForge's.
    message
        What it says, with ``{what}``, ``{reason}`` (the library's own words on one line) and any
        other value that is passed to :func:`translate`.
    when
        What must hold of the error besides its type: a test, or a regular expression that is
        found in its text.
    """

    caught: type[BaseException] | tuple[type[BaseException], ...]
    raised: type[FluxForgeError]
    message: str
    when: Callable[[Any], bool] | str | None = None

    def fits(self, error: BaseException) -> bool:
        """Tell whether this row is about `error`."""
        if not isinstance(error, self.caught):
            return False
        if isinstance(self.when, str):
            return re.search(self.when, str(error), re.IGNORECASE) is not None
        return self.when is None or self.when(error)


EXHAUSTED = (
    Translation(
        BaseException,  # in whatever guise another library tells of it
        StorageError,
        "too many files are open ({what}): raise the limit (`ulimit -n 4096`) and try again",
        r"Too many open files|os error 24\b",
    ),
)
"""What this machine has too little of, at every border."""


def translate(
    error: BaseException, table: Sequence[Translation], what: str, **values: object
) -> FluxForgeError | None:
    """Return what the first fitting row of a table makes of an error; None if none fits.

    Examples
    --------
    >>> table = [Translation(OSError, StorageFullError, "no space left for {what}", "No space")]
    >>> translate(OSError(28, "No space left on device"), table, "ticker/a.parquet")
    StorageFullError('no space left for ticker/a.parquet')
    """
    for row in table:
        if row.fits(error):
            reason = values.get("reason") or reason_of(error)
            known = {"filename": getattr(error, "filename", None), "what": what, "reason": reason}
            return row.raised(row.message.format(**{**values, **known}))
    return None


@contextmanager
def translated(table: Sequence[Translation], what: str, **values: object) -> Iterator[None]:
    """Raise FluxForge's error for one of another library; what no row fits goes on as it is."""
    try:
        yield
    except FluxForgeError:
        raise
    except Exception as exc:
        error = translate(exc, table, what, **values)
        if error is None:
            raise
        try:
            raise error from exc
        finally:
            del error  # else it would hold itself, by this frame


def reason_of(error: BaseException) -> str:
    r"""Return why something failed, in the error's own words, on one line.

    Examples
    --------
    >>> reason_of(ConnectionRefusedError(111, "Connection refused"))
    'Connection refused'
    >>> reason_of(ValueError("first\nsecond")), reason_of(TimeoutError())
    ('first', 'TimeoutError')
    """
    text = (isinstance(error, OSError) and error.strerror) or str(error).strip()
    return printable(str(text).split("\n", 1)[0]) or type(error).__name__


def printable(text: str, longest: int = 300) -> str:
    r"""Escape what a terminal would obey, and cut what would fill it.

    Examples
    --------
    >>> print(printable("BTC\x1b[2J-USD"))
    BTC\x1b[2J-USD
    """
    if len(text) > longest:
        text = text[:longest] + "…"
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def redacted_url(url: str) -> str:
    """Return a URL without the parts that may hold secrets.

    Examples
    --------
    >>> redacted_url("wss://user:pass@host:8443/feed?token=1")
    'wss://host:8443/feed'
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return printable(parts._replace(netloc=host, query="", fragment="").geturl())
