from __future__ import annotations

import gc
import sys
import time
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ServerDisconnectedError
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)

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
from fluxforge.storage.s3 import S3Storage
from fluxforge.storage.s3_access import S3Access
from fluxforge.storage.s3_errors import SendAgainError, translate_s3

SECRET = "hunter2-the-secret"
ENDPOINT = "https://objects.example:9000"


def refused(code: str, status: int, operation: str = "GetObject") -> ClientError:
    response: dict[str, Any] = {
        "Error": {"Code": code, "Message": f"about {SECRET}\nand more"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, operation)  # type: ignore[arg-type]


TRANSLATIONS: list[tuple[Exception, type[FluxForgeError], str]] = [
    (refused("NoSuchBucket", 404), StorageError, "storage.base_dir"),
    (refused("NoSuchKey", 404), FileMissingError, "raw/x"),
    (refused("404", 404, "HeadObject"), FileMissingError, "raw/x"),
    (refused("PreconditionFailed", 412, "PutObject"), FileExistsAlreadyError, "raw/x"),
    (refused("InvalidAccessKeyId", 403), AccessDeniedError, "aws_access_key_id"),
    (refused("SignatureDoesNotMatch", 403), AccessDeniedError, "aws_secret_access"),
    (refused("ExpiredToken", 400), AccessDeniedError, "aws_session_token"),
    (refused("RequestTimeTooSkewed", 403), AccessDeniedError, "clock"),
    (refused("AccessDenied", 403), AccessDeniedError, "s3:GetObject"),
    (refused("AccessDenied", 403, "ListObjectsV2"), AccessDeniedError, "s3:ListBucket"),
    (refused("AccessDenied", 403, "CopyObject"), AccessDeniedError, "s3:PutObject"),
    (refused("AccessDenied", 403, "DeleteObject"), AccessDeniedError, "s3:DeleteObject"),
    (refused("403", 403, "HeadObject"), AccessDeniedError, "s3:GetObject"),
    (refused("PermanentRedirect", 301), ConfigError, "storage.s3.region"),
    (refused("AuthorizationHeaderMalformed", 400), ConfigError, "s3.region"),
    (refused("InvalidBucketName", 400), ConfigError, "storage.base_dir"),
    (refused("XMinioStorageFull", 507, "PutObject"), StorageFullError, "no space"),
    (refused("SlowDown", 503, "PutObject"), StorageUnavailableError, "later"),
    (refused("InternalError", 500, "PutObject"), StorageUnavailableError, "later"),
    (refused("EntityTooLarge", 400, "PutObject"), StorageError, "refuses the request"),
    (NoCredentialsError(), AccessDeniedError, "AWS_ACCESS_KEY_ID"),
    (
        CredentialRetrievalError(provider="role", error_msg=SECRET),
        AccessDeniedError,
        "role",
    ),
    (
        EndpointConnectionError(endpoint_url=ENDPOINT),
        StorageUnavailableError,
        "endpoint_url",
    ),
    (ReadTimeoutError(endpoint_url=ENDPOINT), StorageUnavailableError, "later"),
    (ServerDisconnectedError(), StorageUnavailableError, "later"),
    (ClientPayloadError(SECRET), StorageUnavailableError, "later"),
    (TimeoutError(), StorageUnavailableError, "later"),
    (SSLError(endpoint_url=ENDPOINT, error=SECRET), StorageError, "certificate"),
    (ValueError(f"Invalid endpoint: {SECRET}"), ConfigError, "settings"),
]


def translate(error: Exception) -> FluxForgeError:
    access = S3Access("us-east-1", ENDPOINT, "key", SECRET, None, 5, 5, 20)
    assert SECRET not in repr(access)
    return translate_s3(error, "raw/x", "lake", access)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    TRANSLATIONS,
    ids=[f"{type(case[0]).__name__}-{case[2]}" for case in TRANSLATIONS],
)
def test_each_error_says_what_to_change(
    error: Exception, kind: type[FluxForgeError], words: str
) -> None:
    translated = translate(error)
    kinds = {kind, SendAgainError} if kind is StorageUnavailableError else {kind}
    assert type(translated) in kinds
    assert words in str(translated)
    assert SECRET not in str(translated)
    assert "\n" not in str(translated)


def test_what_s3fs_made_of_an_error_is_seen_through() -> None:
    error = OSError(22, "Invalid")
    error.__cause__ = refused("PreconditionFailed", 412)
    assert type(translate(error)) is FileExistsAlreadyError


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (refused("SlowDown", 503), True),
        (refused("", 502), True),
        (refused("ConditionalRequestConflict", 409), True),
        (refused("PreconditionFailed", 412), False),
        (refused("AccessDenied", 403), False),
        (refused("NoSuchKey", 404), False),
        (ReadTimeoutError(endpoint_url=ENDPOINT), True),
        (ConnectTimeoutError(endpoint_url=ENDPOINT), True),
        (EndpointConnectionError(endpoint_url=ENDPOINT), True),
        (SSLError(endpoint_url=ENDPOINT, error="x"), False),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (NoCredentialsError(), False),
        (ValueError("x"), False),
    ],
)
def test_what_is_worth_another_try(error: Exception, transient: bool) -> None:
    assert isinstance(translate(error), StorageUnavailableError) == transient


def test_what_could_not_be_sent_is_free_at_once() -> None:
    # nothing listens on port 9
    where: dict[str, Any] = {"access_key_id": "a", "secret_access_key": "b", "attempts": 1}
    storage = S3Storage("bucket", endpoint_url="http://127.0.0.1:9", **where)
    gc.disable()
    try:
        data = bytes(1_000_000)
        before, until = sys.getrefcount(data), time.monotonic() + 20
        with suppress(StorageUnavailableError):
            storage.write_bytes("raw/x", data)
        while sys.getrefcount(data) > before:  # the thread that sent it may not be done yet
            assert time.monotonic() < until, "something holds it"
            time.sleep(0.01)
    finally:
        gc.enable()
