"""What can go wrong between here and an S3 server, in FluxForge's words.

One function tells whether sending a request again can help, one turns the error into ours. Every
message names what to change, and none holds a credential.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
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
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_TRANSIENT = (
    HTTPClientError,
    ConnectionError,
    IncompleteReadError,
    ResponseStreamingError,
    ResponseParserError,  # a throttled answer is not always XML
    AioHttpError,
    asyncio.TimeoutError,
    OSError,
)
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504, 509}
_TRANSIENT_CODES = {
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "XAmzContentSHA256Mismatch",
}
_FULL_CODES = {"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"}
_MISSING_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    UnauthorizedSSOTokenError,
)
_PERMISSIONS = {
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "list_objects_v2": "s3:ListBucket",
    "delete_object": "s3:DeleteObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
}


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may succeed when it is sent again."""
    if isinstance(error, ClientError):
        return error_code(error) in _TRANSIENT_CODES or http_status(error) in _TRANSIENT_STATUS
    return isinstance(error, _TRANSIENT) and not isinstance(error, SSLError)


def was_never_sent(error: BaseException) -> bool:
    """Tell whether the server can have seen nothing of the request."""
    return isinstance(error, (ConnectTimeoutError, EndpointConnectionError))


def error_code(error: ClientError) -> str:
    """Return S3's name of an error; a plain number where the answer had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def http_status(error: ClientError) -> int:
    """Return the HTTP status of an error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@dataclass(frozen=True)
class ErrorTranslator:
    """Turns errors into FluxForge's, for one bucket.

    Attributes
    ----------
    bucket
        The bucket that is asked.
    server
        The server as a person knows it: an endpoint's URL, or ``AWS``.
    secrets
        What must not show in any message.
    """

    bucket: str
    server: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def translate(self, error: Exception, operation: str, key: str) -> FluxForgeError:
        """Return what to raise for an error of one request."""
        if isinstance(error, FluxForgeError):
            return error
        if isinstance(error, ClientError):
            return self._refused(error, operation, key)
        if isinstance(error, _MISSING_CREDENTIALS):
            return AccessDeniedError(
                "no usable AWS credentials were found: set storage.s3.aws_access_key_id and "
                "aws_secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give "
                "this machine a role"
            )
        if isinstance(error, ParamValidationError):
            return ConfigError(f"{self.bucket!r} is no bucket name: change storage.base_dir")
        if isinstance(error, SSLError):
            return StorageError(
                f"no secure connection to {self.server}: check that storage.s3.endpoint_url has "
                f"the right scheme and the server a valid certificate ({self._brief(error)})"
            )
        if was_never_sent(error):
            return StorageUnavailableError(
                f"cannot reach {self.server}: check storage.s3.endpoint_url and the network"
            )
        if is_transient(error):
            return StorageUnavailableError(
                f"{self.server} gave no whole answer for {key or self.bucket} "
                f"({self._brief(error)}): try again later"
            )
        if isinstance(error, (BotoCoreError, ValueError)):
            return ConfigError(f"the S3 settings do not work: {self._brief(error)}")
        return StorageError(f"{key or self.bucket}: {self._brief(error)}")

    def _refused(self, error: ClientError, operation: str, key: str) -> FluxForgeError:
        code, status, what = error_code(error), http_status(error), key or self.bucket
        if code == "NoSuchBucket":
            return StorageError(
                f"there is no bucket {self.bucket!r} at {self.server}: create it, or change "
                "storage.base_dir"
            )
        if code == "InvalidBucketName":
            return ConfigError(f"{self.bucket!r} is no bucket name: change storage.base_dir")
        if code in ("NoSuchKey", "404") or (status == HTTPStatus.NOT_FOUND and not code):
            return FileMissingError(f"there is no file {what}")
        if code == "PreconditionFailed" or status == HTTPStatus.PRECONDITION_FAILED:
            return FileExistsAlreadyError(f"{what} exists already")
        if denied := self._denied(code, status, operation, what):
            return denied
        if code in _FULL_CODES or status == HTTPStatus.INSUFFICIENT_STORAGE:
            return StorageFullError(f"{self.server} has no space left for {what}: free some")
        if code in ("PermanentRedirect", "AuthorizationHeaderMalformed"):
            return ConfigError(
                f"the bucket {self.bucket!r} is in another region: change storage.s3.region "
                f"({self._brief(error)})"
            )
        if is_transient(error):
            return StorageUnavailableError(
                f"{self.server} is too busy for {what} ({code or status}): try again later"
            )
        return StorageError(f"{self.server} refuses {operation} of {what}: {self._brief(error)}")

    def _denied(self, code: str, status: int, operation: str, what: str) -> FluxForgeError | None:
        if code == "InvalidAccessKeyId":
            return AccessDeniedError(
                f"{self.server} does not know this access key id: change "
                "storage.s3.aws_access_key_id or AWS_ACCESS_KEY_ID"
            )
        if code == "SignatureDoesNotMatch":
            return AccessDeniedError(
                f"{self.server} does not accept this secret key: change "
                "storage.s3.aws_secret_access_key or AWS_SECRET_ACCESS_KEY"
            )
        if code in (
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidToken",
            "TokenRefreshRequired",
        ):
            return AccessDeniedError(
                f"{self.server} does not accept the session token any more: renew the "
                "credentials, or change storage.s3.aws_session_token or AWS_SESSION_TOKEN"
            )
        if code == "RequestTimeTooSkewed":
            return AccessDeniedError(
                f"this machine's clock is not that of {self.server}: set the clock"
            )
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            permission = _PERMISSIONS.get(operation, "s3:PutObject")
            return AccessDeniedError(
                f"no permission for {what} in bucket {self.bucket!r} at {self.server}: grant "
                f"{permission} to these credentials, or use others"
            )
        return None

    def _brief(self, error: Exception) -> str:
        """Return an error's own text on one line, without any credential."""
        text = " ".join(str(error).split()) or type(error).__name__
        return scrub(text, self.secrets)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Blot out every secret in a text.

    Examples
    --------
    >>> scrub("key=hunter2 is wrong", ["hunter2"])
    'key=*** is wrong'
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text
