from __future__ import annotations

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
from fluxforge.storage.s3_errors import ErrorTranslator, is_transient, was_never_sent

SECRET = "hunter2-the-secret"
ENDPOINT = "https://objects.example:9000"


def refused(code: str, status: int, message: str = "") -> ClientError:
    response: dict[str, Any] = {
        "Error": {"Code": code, "Message": message or f"about {SECRET}\nand more"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "GetObject")  # type: ignore[arg-type]


TRANSLATIONS: list[tuple[Exception, str, type[FluxForgeError], str]] = [
    (refused("NoSuchBucket", 404), "get_object", StorageError, "storage.base_dir"),
    (refused("NoSuchKey", 404), "get_object", FileMissingError, "raw/x"),
    (refused("404", 404), "head_object", FileMissingError, "raw/x"),
    (refused("PreconditionFailed", 412), "put_object", FileExistsAlreadyError, "raw/x"),
    (refused("InvalidAccessKeyId", 403), "get_object", AccessDeniedError, "aws_access_key_id"),
    (refused("SignatureDoesNotMatch", 403), "get_object", AccessDeniedError, "aws_secret_access"),
    (refused("ExpiredToken", 400), "get_object", AccessDeniedError, "aws_session_token"),
    (refused("RequestTimeTooSkewed", 403), "get_object", AccessDeniedError, "clock"),
    (refused("AccessDenied", 403), "get_object", AccessDeniedError, "s3:GetObject"),
    (refused("AccessDenied", 403), "list_objects_v2", AccessDeniedError, "s3:ListBucket"),
    (refused("AccessDenied", 403), "copy_object", AccessDeniedError, "s3:PutObject"),
    (refused("AccessDenied", 403), "delete_object", AccessDeniedError, "s3:DeleteObject"),
    (refused("403", 403), "head_object", AccessDeniedError, "s3:GetObject"),
    (refused("PermanentRedirect", 301), "get_object", ConfigError, "storage.s3.region"),
    (refused("AuthorizationHeaderMalformed", 400), "get_object", ConfigError, "s3.region"),
    (refused("InvalidBucketName", 400), "get_object", ConfigError, "storage.base_dir"),
    (refused("XMinioStorageFull", 507), "put_object", StorageFullError, "no space"),
    (refused("SlowDown", 503), "put_object", StorageUnavailableError, "later"),
    (refused("InternalError", 500), "put_object", StorageUnavailableError, "later"),
    (refused("EntityTooLarge", 400), "put_object", StorageError, "refuses put_object"),
    (NoCredentialsError(), "get_object", AccessDeniedError, "AWS_ACCESS_KEY_ID"),
    (
        CredentialRetrievalError(provider="role", error_msg=SECRET),
        "get_object",
        AccessDeniedError,
        "role",
    ),
    (
        EndpointConnectionError(endpoint_url=ENDPOINT),
        "get_object",
        StorageUnavailableError,
        "endpoint_url",
    ),
    (ReadTimeoutError(endpoint_url=ENDPOINT), "get_object", StorageUnavailableError, "later"),
    (ServerDisconnectedError(), "get_object", StorageUnavailableError, "later"),
    (ClientPayloadError(SECRET), "get_object", StorageUnavailableError, "later"),
    (TimeoutError(), "get_object", StorageUnavailableError, "later"),
    (SSLError(endpoint_url=ENDPOINT, error=SECRET), "get_object", StorageError, "certificate"),
    (ValueError(f"Invalid endpoint: {SECRET}"), "get_object", ConfigError, "settings"),
]


@pytest.mark.parametrize(
    ("error", "operation", "kind", "words"),
    TRANSLATIONS,
    ids=[f"{type(case[0]).__name__}-{case[3]}" for case in TRANSLATIONS],
)
def test_each_error_says_what_to_change(
    error: Exception, operation: str, kind: type[FluxForgeError], words: str
) -> None:
    translated = ErrorTranslator("lake", ENDPOINT, (SECRET,)).translate(error, operation, "raw/x")
    assert type(translated) is kind
    assert words in str(translated)
    assert SECRET not in str(translated)
    assert "\n" not in str(translated)


def test_our_own_errors_pass() -> None:
    own = FileMissingError("gone")
    assert ErrorTranslator("lake", ENDPOINT).translate(own, "get_object", "x") is own


@pytest.mark.parametrize(
    ("error", "transient", "never_sent"),
    [
        (refused("SlowDown", 503), True, False),
        (refused("", 502), True, False),
        (refused("ConditionalRequestConflict", 409), True, False),
        (refused("PreconditionFailed", 412), False, False),
        (refused("AccessDenied", 403), False, False),
        (refused("NoSuchKey", 404), False, False),
        (ReadTimeoutError(endpoint_url=ENDPOINT), True, False),
        (ConnectTimeoutError(endpoint_url=ENDPOINT), True, True),
        (EndpointConnectionError(endpoint_url=ENDPOINT), True, True),
        (SSLError(endpoint_url=ENDPOINT, error="x"), False, False),
        (ConnectionResetError(), True, False),
        (TimeoutError(), True, False),
        (NoCredentialsError(), False, False),
        (ValueError("x"), False, False),
    ],
)
def test_what_is_worth_another_try(error: Exception, transient: bool, never_sent: bool) -> None:
    assert is_transient(error) == transient
    assert was_never_sent(error) == never_sent


def test_a_translator_shows_no_secrets() -> None:
    assert SECRET not in repr(ErrorTranslator("lake", ENDPOINT, (SECRET,)))
