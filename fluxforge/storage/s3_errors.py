"""What can go wrong between here and an S3 server, in FluxForge's words.

One table says what each error becomes. Every message names what to change, and none holds a
credential.
"""

from __future__ import annotations

import asyncio
from traceback import clear_frames
from typing import TYPE_CHECKING

from aiohttp import ClientError as AioHttpError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from fluxforge.errors import (
    AccessDeniedError,
    ConfigError,
    FileExistsAlreadyError,
    FileMissingError,
    FluxForgeError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
    Translation,
    reason_of,
    translate,
)

if TYPE_CHECKING:
    from fluxforge.storage.s3_access import S3Access


class SendAgainError(StorageUnavailableError):
    """A request that botocore does not send again by itself, although that is right."""


class EmptyRangeError(StorageError):
    """The object ends before the range begins."""


_PERMISSIONS = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "DeleteObject": "s3:DeleteObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
}
_NO_NAME = "{bucket!r} is no bucket name: change storage.base_dir"
_BUSY = "{server} is too busy for {what} ({reason}): try again later"
_NO_ANSWER = "{server} gave no whole answer for {what} ({reason}): try again later"


def _answer(raised: type[FluxForgeError], message: str, *answers: str | int) -> Translation:
    """Make the row for some of S3's names of errors, or HTTP statuses."""

    def fits(error: boto.ClientError) -> bool:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code in answers or status in answers

    return Translation(boto.ClientError, raised, message, fits)


S3_ERRORS = [
    _answer(
        StorageError,
        "there is no bucket {bucket!r} at {server}: create it, or change storage.base_dir",
        "NoSuchBucket",
    ),
    _answer(ConfigError, _NO_NAME, "InvalidBucketName"),
    _answer(FileMissingError, "there is no file {what}", 404),
    _answer(FileExistsAlreadyError, "{what} exists already", 412),
    _answer(EmptyRangeError, "{what} ends before the range", 416),
    _answer(
        AccessDeniedError,
        "{server} does not know this access key id: change storage.s3.aws_access_key_id or "
        "AWS_ACCESS_KEY_ID",
        "InvalidAccessKeyId",
    ),
    _answer(
        AccessDeniedError,
        "{server} does not accept this secret key: change storage.s3.aws_secret_access_key or "
        "AWS_SECRET_ACCESS_KEY",
        "SignatureDoesNotMatch",
    ),
    _answer(
        AccessDeniedError,
        "{server} does not accept the session token any more: renew the credentials, or change "
        "storage.s3.aws_session_token or AWS_SESSION_TOKEN",
        *("ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"),
    ),
    _answer(
        AccessDeniedError,
        "this machine's clock is not that of {server}: set the clock",
        "RequestTimeTooSkewed",
    ),
    _answer(
        AccessDeniedError,
        "no permission for {what} in bucket {bucket!r} at {server}: grant {permission} to these "
        "credentials, or use others",
        *(401, 403),
    ),
    _answer(
        StorageFullError,
        "{server} has no space left for {what}: free some",
        *(507, "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"),
    ),
    _answer(
        ConfigError,
        "the bucket {bucket!r} is in another region: change storage.s3.region ({reason})",
        *("PermanentRedirect", "AuthorizationHeaderMalformed"),
    ),
    _answer(
        StorageUnavailableError,
        _BUSY,
        *(500, 502, 503, 504, "SlowDown", "Throttling", "ThrottlingException"),
    ),
    _answer(
        SendAgainError,
        _BUSY,
        *(408, 425, 429, 509, "ConditionalRequestConflict", "IncompleteBody"),
        *("OperationAborted", "RequestTimeout", "XAmzContentSHA256Mismatch"),
    ),
    Translation(
        boto.ClientError, StorageError, "{server} refuses the request for {what}: {reason}"
    ),
    Translation(
        (
            *(boto.NoCredentialsError, boto.PartialCredentialsError),
            *(boto.CredentialRetrievalError, boto.UnauthorizedSSOTokenError),
        ),
        AccessDeniedError,
        "no usable AWS credentials were found: set storage.s3.aws_access_key_id and "
        "aws_secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this "
        "machine a role",
    ),
    Translation(boto.ParamValidationError, ConfigError, _NO_NAME),
    Translation(
        boto.SSLError,
        StorageError,
        "no secure connection to {server}: check that storage.s3.endpoint_url has the right scheme "
        "and the server a valid certificate ({reason})",
    ),
    Translation(
        (boto.ConnectTimeoutError, boto.EndpointConnectionError),
        StorageUnavailableError,
        "cannot reach {server}: check storage.s3.endpoint_url and the network",
    ),
    Translation(
        (AioHttpError, boto.IncompleteReadError, boto.ResponseStreamingError, ResponseParserError),
        SendAgainError,  # a throttled answer is not always XML
        _NO_ANSWER,
    ),
    Translation(
        (boto.HTTPClientError, boto.ConnectionError, asyncio.TimeoutError, OSError),
        StorageUnavailableError,
        _NO_ANSWER,
    ),
    Translation(
        (boto.BotoCoreError, ValueError), ConfigError, "the S3 settings do not work: {reason}"
    ),
    Translation(Exception, StorageError, "{what}: {reason}"),
]
"""From the first row that fits; see :func:`fluxforge.errors.translate`."""


def translate_s3(error: Exception, what: str, bucket: str, access: S3Access) -> FluxForgeError:
    """Return what to raise for what s3fs or botocore raised; no secret is in it."""
    link: BaseException | None = error
    while link is not None:  # frames hold errors, which hold frames, and both what was to be sent
        clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    cause = error.__cause__ if isinstance(error.__cause__, boto.ClientError) else error
    values = {
        "bucket": bucket,
        "server": access.server,
        "permission": _PERMISSIONS.get(getattr(cause, "operation_name", ""), "s3:PutObject"),
        "reason": access.hide(reason_of(cause)),
    }
    return translate(cause, S3_ERRORS, what or bucket, **values) or StorageError(values["reason"])
