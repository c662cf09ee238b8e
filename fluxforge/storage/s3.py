"""Storage in an S3 bucket, or in anything that speaks the same protocol.

The server must honour ``If-None-Match: *`` on puts, on completed uploads and on copies: exclusive
writes and moves rest on it. AWS and SeaweedFS do. Before another server holds anything of value,
let it pass :class:`fluxforge.testing.StorageConformance`.
"""

from __future__ import annotations

import io
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluxforge.errors import (
    ConfigError,
    FileExistsAlreadyError,
    FileMissingError,
    FluxForgeError,
    MissingExtraError,
)
from fluxforge.layout import join_key
from fluxforge.retry import RetryPolicy
from fluxforge.storage.base import StorageBackend, StorageOptions, StoredFile
from fluxforge.storage.disk import translated
from fluxforge.storage.objects import LEASE_SECONDS

try:
    from fsspec.asyn import sync

    from fluxforge.storage.s3_access import S3Access
    from fluxforge.storage.s3_errors import EmptyRangeError, SendAgainError, translate_s3
except ImportError as exc:
    raise MissingExtraError("S3 storage", "s3fs") from exc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

PART_BYTES = 8 << 20
"""A content of two such parts or more is uploaded in parts."""

_CONCURRENT_PARTS = 4
_CHUNK = 1 << 20
_SLOWEST_BYTES_PER_SECOND = 128 << 10
_WRITER = "fluxforge-writer"
_NEVER = datetime.fromtimestamp(0, UTC)


class S3Storage(StorageBackend):
    """Files in a bucket, below an optional prefix.

    Parameters
    ----------
    bucket
        The bucket; it must exist. It is an attribute too.
    prefix
        Where in the bucket the root is; empty: the bucket's own root.
    region
        The bucket's region; None: what the environment says, or where AWS finds the bucket.
    endpoint_url
        Another server than AWS, as ``https://host:port``; None: ``AWS_ENDPOINT_URL_S3`` or
        ``AWS_ENDPOINT_URL`` of the environment, where set.
    access_key_id, secret_access_key, session_token
        Who asks; None: the environment, the shared AWS files, or this machine's role.
    lease_seconds
        How long a lease outlives a holder that died without releasing it.
    attempts
        How often a request that gets no answer, or "try again", is sent in all.
    connect_timeout, read_timeout
        How many seconds one attempt waits for a connection, and for any part of the answer.

    Raises
    ------
    ConfigError
        If the settings contradict each other.
    """

    backend_type = "s3"

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
        lease_seconds: float = LEASE_SECONDS,
        attempts: int = 5,
        connect_timeout: float = 5.0,
        read_timeout: float = 20.0,
    ) -> None:
        super().__init__(lease_seconds)
        if not bucket:
            raise ConfigError("S3 needs a bucket: set storage.base_dir to bucket or bucket/prefix")
        self._access = S3Access(
            region, endpoint_url, access_key_id, secret_access_key, session_token,
            attempts, connect_timeout, read_timeout,
        )  # fmt: skip
        self.bucket = bucket
        self._prefix = join_key(prefix)
        self.base_path = join_key(bucket, self._prefix)
        self.server = self._access.endpoint_url or ""
        self._client = self._access.open()
        self._client.retries = 1  # those of botocore are enough

    def __reduce__(self) -> tuple[Any, ...]:
        access = self._access
        again = partial(S3Storage, region=access.region, endpoint_url=access.endpoint_url)
        return again, (self.bucket, self._prefix)

    # Requests

    def _call(self, what: str, request: Callable[..., Any], *args: Any, **parameters: Any) -> Any:
        """Make a request about `what`, with FluxForge's errors."""

        def attempt() -> Any:
            try:
                return request(*args, **{"timeout": self._access.longest, **parameters})
            except FluxForgeError:
                raise
            except Exception as exc:
                raise translate_s3(exc, what, self.bucket, self._access) from exc

        policy = RetryPolicy(first=0.5, cap=5, attempts=self._access.attempts, seconds=30)
        return policy.call(attempt, retry_on=SendAgainError)

    def _send(self, operation: str, key: str, **parameters: Any) -> Any:
        """Send one of botocore's requests about an object."""
        place = {"Bucket": self.bucket, "Key": self._object_key(key)}
        return self._call(key, self._client.call_s3, operation, **place, **parameters)

    def _object_key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _limit(self, size: int) -> float:
        return self._access.longest + size / _SLOWEST_BYTES_PER_SECOND

    def _create(self, key: str, send: Callable[[dict[str, str]], object]) -> None:
        """Make an object, by a request with the metadata that `send` is given.

        Where an answer was lost, the same request is sent again and finds the first one's doing: a
        taken key, or an upload that is gone. The metadata tell whose object it is.
        """
        writer = uuid.uuid4().hex
        try:
            send({_WRITER: writer})
        except (FileExistsAlreadyError, FileMissingError):
            try:
                found = self._send("head_object", key)
            except FileMissingError:
                found = {}
            if found.get("Metadata", {}).get(_WRITER) != writer:
                raise

    # Objects

    def get_object(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        if end is not None and end <= start:
            return b""
        content = io.BytesIO()
        with suppress(EmptyRangeError):
            self._receive(key, content, f"bytes={start}-{'' if end is None else end - 1}")
        return content.getvalue()

    def download(self, key: str, path: Path) -> None:
        with translated(str(path)), path.open("wb") as file, suppress(EmptyRangeError):
            self._receive(key, file)

    def _receive(self, key: str, sink: BinaryIO, byte_range: str = "bytes=0-") -> None:
        """Write an object to `sink` from one answer: it is of one version, and whole."""
        wanted = {"Bucket": self.bucket, "Key": self._object_key(key), "Range": byte_range}

        def receive(timeout: float) -> None:
            sink.seek(0)
            sink.truncate()
            reply = self._client.call_s3("get_object", timeout=timeout, **wanted)
            limit = self._limit(reply["ContentLength"])
            sync(self._client.loop, _copy, reply["Body"], sink, timeout=limit)

        self._call(key, receive)

    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> None:
        path = f"{self.bucket}/{self._object_key(key)}"
        if isinstance(content, Path):
            size, send = content.stat().st_size, self._client.put_file
            ends: tuple[object, object] = (str(content), path)
        else:
            size, send = len(content), self._client.pipe_file
            ends = (path, content)
        options: dict[str, Any] = {
            "mode": "create" if exclusive else "overwrite",
            "chunksize": max(PART_BYTES, size // 9_000),  # S3 takes 10,000 parts
            "max_concurrency": _CONCURRENT_PARTS,
            "timeout": self._limit(size),
        }
        self._create(key, lambda writer: self._call(key, send, *ends, Metadata=writer, **options))

    def copy_object(self, source: str, destination: str) -> None:
        how = {
            "CopySource": {"Bucket": self.bucket, "Key": self._object_key(source)},
            "MetadataDirective": "REPLACE",
            "IfNoneMatch": "*",
        }
        try:
            self._create(
                destination,
                lambda writer: self._send("copy_object", destination, Metadata=writer, **how),
            )
        except FileMissingError as exc:
            raise FileMissingError(f"there is no file {source}") from exc

    def delete_object(self, key: str) -> None:
        self._send("delete_object", key)

    def scan(
        self, path: str, *, recursive: bool = True, name_prefix: str = ""
    ) -> Iterator[StoredFile]:
        skip = len(self._object_key(""))
        wanted = {
            "Bucket": self.bucket,
            "Prefix": self._object_key(f"{path}/" if path else "") + name_prefix,
            "Delimiter": "" if recursive else "/",
        }
        more = True
        while more:
            page = self._call(path, self._client.call_s3, "list_objects_v2", **wanted)
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):  # what consoles make to show a folder
                    modified = entry["LastModified"].astimezone(UTC)
                    yield StoredFile(entry["Key"][skip:], entry["Size"], modified)
            for entry in page.get("CommonPrefixes", []):
                yield StoredFile(entry["Prefix"][skip:], 0, _NEVER)
            more = page.get("IsTruncated", False)
            wanted["ContinuationToken"] = page.get("NextContinuationToken", "")

    # For other libraries

    def get_storage_options(self) -> dict[str, str]:
        """Return the options under which Polars and deltalake open :meth:`get_full_path`.

        Credentials that the environment or a role supplies are looked up now; ask again before
        they expire.
        """
        self._client.connect()
        session, loop = self._client.session, self._client.loop
        who: dict[str, str] = self._call("", sync, loop, self._access.credentials, session)
        return StorageOptions(self._access.options(self._region) | who)

    @cached_property
    def _region(self) -> str:
        """The bucket's region: other libraries do not follow a redirection to it."""
        if self._access.region:
            return self._access.region
        found = ""
        if not self._access.endpoint_url:
            answer = self._call("", self._client.call_s3, "head_bucket", Bucket=self.bucket)
            found = answer.get("BucketRegion", "")
        configured = str(self._client.s3.meta.region_name or "").removeprefix("aws-global")
        return found or configured or "us-east-1"

    def get_filesystem(self) -> Any:
        """Return an s3fs filesystem with this storage's access, which keeps no listings."""
        return self._shared

    @cached_property
    def _shared(self) -> Any:
        return self._access.open()


async def _copy(body: Any, sink: BinaryIO) -> None:
    async with body:
        async for chunk in body.iter_chunks(_CHUNK):
            with translated(str(getattr(sink, "name", "memory"))):
                sink.write(chunk)
