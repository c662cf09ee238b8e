"""What can go wrong between here and an S3 server, in FluxForge's words.

One table says what each error becomes. Every message names what to change, and none holds a
credential.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import ClientError as AioHttpError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  (botocore's own, the parent of all its connection errors)
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ResponseStreamingError,
    SSLError,
    UnauthorizedSSOTokenError,
)
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
    from collections.abc import Callable

    from fluxforge.storage.s3_access import S3Access


class SendAgainError(StorageUnavailableError):
    """A request that botocore does not send again by itself, although that is right."""


class EmptyRangeError(StorageError):
    """The object ends before the range begins."""


def _answered(*wanted: str | int) -> Callable[[ClientError], bool]:
    """Test for one of S3's names of errors, or for an HTTP status."""

    def fits(error: ClientError) -> bool:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code in wanted or status in wanted

    return fits


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

S3_ERRORS = [
    Translation(
        ClientError,
        StorageError,
        "there is no bucket {bucket!r} at {server}: create it, or change storage.base_dir",
        _answered("NoSuchBucket"),
    ),
    Translation(ClientError, ConfigError, _NO_NAME, _answered("InvalidBucketName")),
    Translation(ClientError, FileMissingError, "there is no file {what}", _answered(404)),
    Translation(ClientError, FileExistsAlreadyError, "{what} exists already", _answered(412)),
    Translation(ClientError, EmptyRangeError, "{what} ends before the range", _answered(416)),
    Translation(
        ClientError,
        AccessDeniedError,
        "{server} does not know this access key id: change storage.s3.aws_access_key_id or "
        "AWS_ACCESS_KEY_ID",
        _answered("InvalidAccessKeyId"),
    ),
    Translation(
        ClientError,
        AccessDeniedError,
        "{server} does not accept this secret key: change storage.s3.aws_secret_access_key or "
        "AWS_SECRET_ACCESS_KEY",
        _answered("SignatureDoesNotMatch"),
    ),
    Translation(
        ClientError,
        AccessDeniedError,
        "{server} does not accept the session token any more: renew the credentials, or change "
        "storage.s3.aws_session_token or AWS_SESSION_TOKEN",
        _answered("ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"),
    ),
    Translation(
        ClientError,
        AccessDeniedError,
        "this machine's clock is not that of {server}: set the clock",
        _answered("RequestTimeTooSkewed"),
    ),
    Translation(
        ClientError,
        AccessDeniedError,
        "no permission for {what} in bucket {bucket!r} at {server}: grant {permission} to these "
        "credentials, or use others",
        _answered(401, 403),
    ),
    Translation(
        ClientError,
        StorageFullError,
        "{server} has no space left for {what}: free some",
        _answered(507, "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"),
    ),
    Translation(
        ClientError,
        ConfigError,
        "the bucket {bucket!r} is in another region: change storage.s3.region ({reason})",
        _answered("PermanentRedirect", "AuthorizationHeaderMalformed"),
    ),
    Translation(
        ClientError,
        StorageUnavailableError,
        _BUSY,
        _answered(500, 502, 503, 504, "SlowDown", "Throttling", "ThrottlingException"),
    ),
    Translation(
        ClientError,
        SendAgainError,
        _BUSY,
        _answered(
            *(408, 425, 429, 509),
            "ConditionalRequestConflict",
            "IncompleteBody",
            "OperationAborted",
            "RequestTimeout",
            "XAmzContentSHA256Mismatch",
        ),
    ),
    Translation(ClientError, StorageError, "{server} refuses the request for {what}: {reason}"),
    Translation(
        (
            NoCredentialsError,
            PartialCredentialsError,
            CredentialRetrievalError,
            UnauthorizedSSOTokenError,
        ),
        AccessDeniedError,
        "no usable AWS credentials were found: set storage.s3.aws_access_key_id and "
        "aws_secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this "
        "machine a role",
    ),
    Translation(ParamValidationError, ConfigError, _NO_NAME),
    Translation(
        SSLError,
        StorageError,
        "no secure connection to {server}: check that storage.s3.endpoint_url has the right scheme "
        "and the server a valid certificate ({reason})",
    ),
    Translation(
        (ConnectTimeoutError, EndpointConnectionError),
        StorageUnavailableError,
        "cannot reach {server}: check storage.s3.endpoint_url and the network",
    ),
    Translation(
        (AioHttpError, IncompleteReadError, ResponseStreamingError, ResponseParserError),
        SendAgainError,  # a throttled answer is not always XML
        _NO_ANSWER,
    ),
    Translation(
        (HTTPClientError, ConnectionError, asyncio.TimeoutError, OSError),
        StorageUnavailableError,
        _NO_ANSWER,
    ),
    Translation((BotoCoreError, ValueError), ConfigError, "the S3 settings do not work: {reason}"),
    Translation(Exception, StorageError, "{what}: {reason}"),
]
"""From the first row that fits; see :func:`fluxforge.errors.translate`."""


def translate_s3(error: Exception, what: str, bucket: str, access: S3Access) -> FluxForgeError:
    """Return what to raise for what s3fs or botocore raised; no secret is in it."""
    cause = error.__cause__ if isinstance(error.__cause__, ClientError) else error
    values = {
        "bucket": bucket,
        "server": access.server,
        "permission": _PERMISSIONS.get(getattr(cause, "operation_name", ""), "s3:PutObject"),
        "reason": access.hide(reason_of(cause)),
    }
    return translate(cause, S3_ERRORS, what or bucket, **values) or StorageError(values["reason"])
