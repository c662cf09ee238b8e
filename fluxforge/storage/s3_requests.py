"""Requests to one S3 bucket: each sent again while that can help, each error in our own words.

These coroutines run on the event loop that s3fs keeps in a thread of its own, so that they can be
waited for from any thread, with or without a running loop.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import math
import random
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from fluxforge.errors import FileMissingError, FluxForgeError
from fluxforge.storage.objects import ObjectReplacedError, Piece
from fluxforge.storage.s3_errors import (
    ErrorTranslator,
    error_code,
    http_status,
    is_transient,
    was_never_sent,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

PART_BYTES = 8 << 20
"""A content of more than two such parts is uploaded in parts; at most 10,000 are allowed."""

_MAX_PARTS = 9_000
_CONCURRENT_PARTS = 4
_SLOWEST_BYTES_PER_SECOND = 128 << 10
_WRITER = "fluxforge-writer"
_RANGE_NOT_SATISFIABLE = 416
_NOT_FOUND = 404
_PRECONDITION_FAILED = 412


@dataclass(frozen=True)
class Patience:
    """How long to go on before an operation fails.

    Attributes
    ----------
    delays
        Seconds to wait before each further attempt, give or take half.
    give_up_seconds
        No attempt begins later than this after the first.
    connect_seconds, read_seconds
        How long one attempt waits for a connection, and for any part of the answer.
    """

    delays: tuple[float, ...] = (0.2, 0.6, 1.8, 5.0)
    give_up_seconds: float = 30.0
    connect_seconds: float = 5.0
    read_seconds: float = 20.0


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes
    ----------
    fields
        What botocore made of it.
    body
        The object's content, for a read.
    settled
        False if an earlier attempt went unanswered and may still be carried out.
    """

    fields: dict[str, Any]
    body: bytes
    settled: bool


class RequestFailedError(Exception):
    """The last attempt's error as it came, and whether any attempt is in doubt."""

    def __init__(self, cause: Exception, *, settled: bool) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.settled = settled

    @property
    def status(self) -> int:
        """The HTTP status of a refusal, or 0."""
        return http_status(self.cause) if isinstance(self.cause, ClientError) else 0

    @property
    def code(self) -> str:
        """S3's name of a refusal, or nothing."""
        return error_code(self.cause) if isinstance(self.cause, ClientError) else ""


class S3Requests:
    """The operations on one bucket, for :class:`fluxforge.storage.s3.S3Storage`.

    Parameters
    ----------
    connect
        Returns the client; it is asked each time, since a closed one is replaced.
    bucket
        The bucket.
    errors
        Words the errors.
    patience
        How long to go on.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Any]],
        bucket: str,
        errors: ErrorTranslator,
        patience: Patience,
    ) -> None:
        self._connect = connect
        self._bucket = bucket
        self._errors = errors
        self._patience = patience

    async def get_range(self, key: str, start: int, end: int, version: str) -> Piece:
        """Read a range; see :meth:`ObjectStorage.get_range`."""
        wanted: dict[str, Any] = {"Key": key, "Range": f"bytes={start}-{end - 1}"}
        if version:
            wanted["IfMatch"] = version
        try:
            reply = await self._send("get_object", size=end - start, **wanted)
        except RequestFailedError as failure:
            if failure.status == _RANGE_NOT_SATISFIABLE:  # it ends before, or is empty
                return Piece(b"", 0, version)
            if failure.status == _PRECONDITION_FAILED:
                raise ObjectReplacedError(f"{key} was replaced while it was read") from failure
            raise self._translated(failure, "get_object", key) from failure.cause
        size = reply.fields.get("ContentRange", "").rpartition("/")[2]
        total = int(size) if size.isdigit() else len(reply.body)
        return Piece(reply.body, total, str(reply.fields.get("ETag", "")))

    async def delete(self, key: str) -> None:
        """Delete an object, if it is there."""
        try:
            await self._run("delete_object", key=key, Key=key)
        except FileMissingError:
            return

    async def bucket_region(self) -> str:
        """Return where AWS keeps the bucket; empty where the server does not say."""
        reply = await self._run("head_bucket", key="")
        return str(reply.fields.get("BucketRegion") or "")

    async def page(self, prefix: str, delimiter: str, token: dict[str, Any]) -> dict[str, Any]:
        """Return one page of a listing."""
        reply = await self._run(
            "list_objects_v2", key=prefix, Prefix=prefix, Delimiter=delimiter, **token
        )
        return reply.fields

    async def copy(self, source: str, destination: str) -> None:
        """Copy within the bucket, never over another object."""
        writer = uuid.uuid4().hex
        try:
            await self._send(
                "copy_object",
                Key=destination,
                CopySource={"Bucket": self._bucket, "Key": source},
                IfNoneMatch="*",
                MetadataDirective="REPLACE",
                Metadata={_WRITER: writer},
            )
        except RequestFailedError as failure:
            if await self._is_own(failure, destination, writer):
                return
            about = destination if failure.status == _PRECONDITION_FAILED else source
            raise self._translated(failure, "copy_object", about) from failure.cause

    async def put(self, key: str, content: bytes | Path, *, exclusive: bool) -> bool:
        """Store an object; see :meth:`ObjectStorage.put_object`."""
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        if size > 2 * PART_BYTES:
            return await self._put_parts(key, content, size, exclusive=exclusive)
        data = await asyncio.to_thread(content.read_bytes) if isinstance(content, Path) else content
        writer = uuid.uuid4().hex
        extra: dict[str, Any] = {"IfNoneMatch": "*"} if exclusive else {}
        try:
            reply = await self._send(
                "put_object",
                size=len(data),
                Key=key,
                Body=data,
                ContentMD5=_md5(data),
                Metadata={_WRITER: writer},
                **extra,
            )
        except RequestFailedError as failure:
            if await self._is_own(failure, key, writer):
                return False
            raise self._translated(failure, "put_object", key) from failure.cause
        return reply.settled

    async def _put_parts(
        self, key: str, content: bytes | Path, size: int, *, exclusive: bool
    ) -> bool:
        writer = uuid.uuid4().hex
        begun = await self._run(
            "create_multipart_upload", key=key, Key=key, Metadata={_WRITER: writer}
        )
        upload = {"Key": key, "UploadId": begun.fields["UploadId"]}
        extra: dict[str, Any] = {"IfNoneMatch": "*"} if exclusive else {}
        try:
            parts = await self._upload_parts(key, upload, content, size)
            reply = await self._send(
                "complete_multipart_upload", **upload, MultipartUpload={"Parts": parts}, **extra
            )
        except RequestFailedError as failure:
            if await self._is_own(failure, key, writer):
                return False
            await self._abort(upload)
            raise self._translated(failure, "put_object", key) from failure.cause
        except BaseException:
            await self._abort(upload)
            raise
        return reply.settled

    async def _upload_parts(
        self, key: str, upload: dict[str, Any], content: bytes | Path, size: int
    ) -> list[dict[str, Any]]:
        step = max(PART_BYTES, math.ceil(size / _MAX_PARTS))
        starts = range(0, size, step)
        done: list[dict[str, Any]] = []
        for first in range(0, len(starts), _CONCURRENT_PARTS):
            uploads = [
                self._upload_part(key, upload, number + 1, content, starts[number], step)
                for number in range(first, min(first + _CONCURRENT_PARTS, len(starts)))
            ]
            results = await asyncio.gather(*uploads, return_exceptions=True)
            for result in results:  # all have ended: nothing is sent after the upload is aborted
                if isinstance(result, BaseException):
                    raise result
                done.append(result)
        return done

    async def _upload_part(
        self,
        key: str,
        upload: dict[str, Any],
        number: int,
        content: bytes | Path,
        start: int,
        size: int,
    ) -> dict[str, Any]:
        data = await asyncio.to_thread(_slice, content, start, size)
        reply = await self._run(
            "upload_part",
            key=key,
            size=len(data),
            PartNumber=number,
            Body=data,
            ContentMD5=_md5(data),
            **upload,
        )
        return {"PartNumber": number, "ETag": reply.fields["ETag"]}

    async def _abort(self, upload: dict[str, Any]) -> None:
        try:
            await self._run("abort_multipart_upload", key=upload["Key"], **upload)
        except FluxForgeError as exc:
            logger.warning("an upload of %s could not be aborted: %s", upload["Key"], exc)

    async def _is_own(self, failure: RequestFailedError, key: str, writer: str) -> bool:
        """Tell whether an earlier attempt, whose answer was lost, had been carried out."""
        if failure.status not in (_NOT_FOUND, _PRECONDITION_FAILED):
            return False
        try:
            reply = await self._run("head_object", key=key, Key=key)
        except FileMissingError:
            return False
        return bool(reply.fields.get("Metadata", {}).get(_WRITER) == writer)

    async def _run(self, operation: str, *, key: str, size: int = 0, **parameters: Any) -> Reply:
        """Send a request whose errors need no closer look."""
        try:
            return await self._send(operation, size=size, **parameters)
        except RequestFailedError as failure:
            raise self._translated(failure, operation, key) from failure.cause

    def _translated(self, failure: RequestFailedError, operation: str, key: str) -> FluxForgeError:
        return self._errors.translate(failure.cause, operation, key)

    async def _send(self, operation: str, *, size: int = 0, **parameters: Any) -> Reply:
        """Send a request until it is answered for good, or patience ends.

        `size` is how many bytes travel either way; it lengthens the time that one attempt may take.
        """
        settled = True
        delays = iter(self._patience.delays)
        last = time.monotonic() + self._patience.give_up_seconds
        seconds = self._patience.connect_seconds + self._patience.read_seconds
        seconds += size / _SLOWEST_BYTES_PER_SECOND
        while True:
            try:
                async with asyncio.timeout(seconds):
                    fields, body = await self._attempt(operation, parameters)
                return Reply(fields, body, settled)
            except Exception as exc:
                again = is_transient(exc)
                settled = settled and (not again or was_never_sent(exc))
                delay = next(delays, None)
                if delay is None or not again or time.monotonic() > last:
                    raise RequestFailedError(exc, settled=settled) from exc
                logger.debug("%s is sent again after %s", operation, type(exc).__name__)
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311

    async def _attempt(
        self, operation: str, parameters: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        client = await self._connect()
        fields = await getattr(client, operation)(Bucket=self._bucket, **parameters)
        body = b""
        if "Body" in fields:
            async with fields["Body"] as stream:
                body = await stream.read()
            if len(body) != fields.get("ContentLength", len(body)):
                raise ConnectionResetError(f"{len(body)} of {fields['ContentLength']} bytes came")
        return fields, body


def _slice(content: bytes | Path, start: int, size: int) -> bytes:
    if isinstance(content, bytes):
        return content[start : start + size]
    with content.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _md5(data: bytes) -> str:
    """Return what lets the server refuse a body that was damaged on its way."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
