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
    EXHAUSTED,
    AccessDeniedError,
    CommitConflictError,
    FluxForgeError,
    StorageFullError,
    StorageUnavailableError,
    TableError,
    Translation,
    printable,
    translate,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_DRAWING = re.compile("\x1b\\[[0-9;]*m|\u21b3|\n\\s*0: .*", re.DOTALL)  # colours and backtraces
_TABLE = (
    Translation(
        Exception,
        CommitConflictError,
        "{what}: another commit came first",
        lambda exc: type(exc).__name__ == "CommitFailedError",
    ),
    Translation(
        Exception,
        StorageFullError,
        "no space left for {what}: free some and run the same again",
        r"No space left|quota exceeded|os error (28|112)\b",
    ),
    Translation(
        Exception,
        AccessDeniedError,
        "no permission for {what}: grant s3:GetObject, s3:PutObject, s3:DeleteObject and "
        "s3:ListBucket to these credentials, or use others",
        r"necessary privileges|status code: 40[13]\b",
    ),
    Translation(
        Exception,
        StorageUnavailableError,
        "{what}: the storage gave no whole answer ({brief}): try again later",
        r"HTTP error|response body|error sending request|timed out"
        r"|status code: (408|425|429|500|502|503|504|509)\b",
    ),
    *EXHAUSTED,
)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the errors of deltalake into FluxForge's; see :func:`table_error`."""
    from deltalake.exceptions import DeltaError

    try:
        yield
    except FluxForgeError:
        raise
    except (DeltaError, OSError, ValueError) as exc:
        raise table_error(what, exc) from exc
    except BaseException as exc:
        if type(exc).__name__ != "PanicException":  # of Rust, for which the log is to blame
            raise
        raise table_error(what, exc) from exc


def table_error(what: str, exc: BaseException) -> FluxForgeError:
    r"""Return what to raise for an error of deltalake or Polars.

    After a :class:`StorageUnavailableError` it is in doubt whether a commit has arrived.

    Examples
    --------
    >>> table_error("s3://lake/t", OSError("Generic error\n  \u21b3 operation timed out"))
    StorageUnavailableError('s3://lake/t: the storage gave no whole answer (operation timed out): try again later')
    >>> table_error("/lake/t", OSError("Generic error\n  No space left (os error 28)"))
    StorageFullError('no space left for /lake/t: free some and run the same again')
    """  # noqa: E501
    lines = [line.strip() for line in _DRAWING.sub("", str(exc)).splitlines()]
    lines = [line for line in lines if line] or [type(exc).__name__]
    brief = printable(lines[-1].rpartition(" - ")[2])
    error = translate(exc, _TABLE, what, brief=brief)
    return error or TableError(f"{what}: {printable(': '.join(lines))}")
