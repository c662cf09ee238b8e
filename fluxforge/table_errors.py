"""What can go wrong between here and a table, in FluxForge's words.

``deltalake`` and Polars reach S3 through a client of their own. It sends most requests again by
itself, but not each: an answer that is cut short where it expects an error or a listing ends the
whole call. What may succeed when it is tried again is a :class:`StorageUnavailableError`.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fluxforge.errors import (
    AccessDeniedError,
    CommitConflictError,
    FluxForgeError,
    StorageFullError,
    StorageUnavailableError,
    TableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_DRAWING = re.compile("\x1b\\[[0-9;]*m|\u21b3")
_FULL_DISK = re.compile(r"No space left|quota exceeded|os error (28|112)\b", re.IGNORECASE)
_DENIED = re.compile(r"necessary privileges|status code: 40[13]\b")
_TRANSIENT = re.compile(
    r"HTTP error|response body|error sending request|timed out"
    r"|status code: (408|425|429|500|502|503|504|509)\b"
)
_LONGEST = 300


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the errors of deltalake into FluxForge's.

    Raises
    ------
    CommitConflictError
        If another commit came first.
    StorageUnavailableError
        If the storage gave no whole answer: whether a commit has arrived is then unknown.
    StorageFullError, AccessDeniedError, TableError
        If trying again would change nothing.
    """
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except FluxForgeError:
        raise
    except CommitFailedError as exc:
        raise CommitConflictError(f"{what}: another commit came first") from exc
    except (DeltaError, OSError, ValueError) as exc:
        raise table_error(what, exc) from exc


def table_error(what: str, exc: Exception) -> FluxForgeError:
    r"""Return what to raise for an error of deltalake or Polars.

    Examples
    --------
    >>> table_error("s3://lake/t", OSError("Generic error\n  \u21b3 operation timed out"))
    StorageUnavailableError('s3://lake/t: the storage gave no whole answer (operation timed out): try again later')
    >>> table_error("/lake/t", OSError("Generic error\n  No space left (os error 28)"))
    StorageFullError('no space left for /lake/t: free some and run the same again')
    """  # noqa: E501
    lines = [line.strip() for line in _DRAWING.sub("", str(exc)).splitlines()]
    lines = [line for line in lines if line] or [type(exc).__name__]
    message = ": ".join(lines)
    if _FULL_DISK.search(message):
        return StorageFullError(f"no space left for {what}: free some and run the same again")
    if _DENIED.search(message):
        return AccessDeniedError(
            f"no permission for {what}: grant s3:GetObject, s3:PutObject, s3:DeleteObject and "
            "s3:ListBucket to these credentials, or use others"
        )
    if _TRANSIENT.search(message):
        brief = lines[-1].rpartition(" - ")[2][:_LONGEST]
        return StorageUnavailableError(
            f"{what}: the storage gave no whole answer ({brief}): try again later"
        )
    return TableError(f"{what}: {message[:_LONGEST]}")
