"""Writers of segments, under the name that they have had from the first."""

from typing import NoReturn

from fluxforge.errors import UsageError
from fluxforge.ingestion.log_writer import LogWriter

__all__ = ["LogWriter", "S3LogWriter"]


class S3LogWriter:
    """What :class:`LogWriter` was for S3; it says so."""

    def __init__(self, *_: object, **__: object) -> NoReturn:
        raise UsageError(
            "S3LogWriter is LogWriter now, on any storage: "
            "LogWriter(storage=create_storage_backend(config), …)"
        )
