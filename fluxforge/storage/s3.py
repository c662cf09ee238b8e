"""Storage in an S3 bucket, or in anything that speaks the same protocol.

The server must honour ``If-None-Match: *`` on puts, on completed uploads and on copies: exclusive
writes, journals and moves rest on it. AWS and SeaweedFS do. Before another server holds anything
of value, let it pass :class:`fluxforge.testing.StorageConformance`.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fluxforge.errors import ConfigError, MissingExtraError
from fluxforge.layout import join_key
from fluxforge.storage.base import StoredFile
from fluxforge.storage.lease import LEASE_SECONDS
from fluxforge.storage.objects import ObjectStorage, Piece

try:
    import s3fs
    from aiobotocore.httpsession import AIOHTTPSession
    from aiobotocore.session import AioSession
    from botocore.handlers import add_expect_header
    from botocore.loaders import create_loader
    from fsspec.asyn import sync

    from fluxforge.storage.s3_errors import ErrorTranslator
    from fluxforge.storage.s3_requests import Patience, S3Requests
except ImportError as exc:
    raise MissingExtraError("S3 storage", "s3fs") from exc

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

_DEFAULT_REGION = "us-east-1"
_CONNECTIONS = 32
_NEVER = datetime.fromtimestamp(0, UTC)

for _name in ("botocore.auth", "botocore.endpoint"):
    # At DEBUG these log signed headers, session tokens among them.
    if (_logger := logging.getLogger(_name)).level == logging.NOTSET:
        _logger.setLevel(logging.INFO)


class _SendOnceSession(AIOHTTPSession):  # type: ignore[misc]  # it has no type hints
    """Sends each request once.

    aiohttp repeats some by itself when a connection breaks, and then nobody knows that the first
    may have been carried out. Where an aiohttp has no such switch, setting it does no harm.
    """

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        session._retry_connection = False  # noqa: SLF001
        return session


@functools.cache
def _service_models() -> Any:
    """Return botocore's descriptions of S3: parsed once, they make each further client cheap."""
    return create_loader()


@dataclass(frozen=True)
class S3Access:
    """Where an S3 server is and who asks it; what is secret does not print."""

    region: str | None
    endpoint_url: str | None
    access_key_id: str | None = field(repr=False)
    secret_access_key: str | None = field(repr=False)
    session_token: str | None = field(repr=False)

    def __post_init__(self) -> None:
        if self.endpoint_url is not None:
            parts = urlsplit(self.endpoint_url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ConfigError("storage.s3.endpoint_url must be like https://host:port")
            if parts.username or parts.password:
                raise ConfigError(
                    "storage.s3.endpoint_url must hold no user or password: set "
                    "storage.s3.aws_access_key_id and aws_secret_access_key"
                )
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ConfigError(
                "storage.s3.aws_access_key_id and aws_secret_access_key go together: set both or "
                "neither"
            )

    @property
    def server(self) -> str:
        """The server as a person knows it."""
        return self.endpoint_url or "AWS"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no text may hold."""
        texts = (self.secret_access_key, self.session_token, self.access_key_id)
        return tuple(text for text in texts if text)


class S3Storage(ObjectStorage):
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
        Another server than AWS, as ``https://host:port``.
    access_key_id, secret_access_key, session_token
        Who asks; None: the environment, the shared AWS files, or this machine's role.
    lease_seconds
        How long a lease outlives a holder that died without releasing it.
    patience
        How long an operation goes on against a server that is slow or fails.

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
        patience: Patience | None = None,
    ) -> None:
        super().__init__(lease_seconds)
        if not bucket:
            raise ConfigError("S3 needs a bucket: set storage.base_dir to bucket or bucket/prefix")
        self._access = S3Access(
            region or None,
            endpoint_url or None,
            access_key_id or None,
            secret_access_key or None,
            session_token or None,
        )
        self.bucket = bucket
        self._prefix = join_key(prefix)
        self.base_path = join_key(bucket, self._prefix)
        self._patience = patience or Patience()
        self._filesystem = self._make_filesystem(attempts=1)  # retries are this module's own
        errors = ErrorTranslator(bucket, self._access.server, self._access.secrets)
        self._requests = S3Requests(self._filesystem.set_session, bucket, errors, self._patience)
        self._shared: Any = None
        self._found_region: str | None = None

    def _make_filesystem(self, attempts: int) -> Any:
        access = self._access
        session = AioSession()
        session.register_component("data_loader", _service_models())
        # aiohttp would wait without limit for a "100 Continue" that some servers never send.
        session.unregister("before-call.s3", add_expect_header)
        return s3fs.S3FileSystem(
            session=session,
            key=access.access_key_id,
            secret=access.secret_access_key,
            token=access.session_token,
            endpoint_url=access.endpoint_url,
            client_kwargs={"region_name": access.region} if access.region else {},
            config_kwargs={
                "connect_timeout": self._patience.connect_seconds,
                "read_timeout": self._patience.read_seconds,
                "max_pool_connections": _CONNECTIONS,
                "http_session_cls": _SendOnceSession,
                "retries": {"mode": "standard", "total_max_attempts": attempts},
                "s3": {"addressing_style": "path" if access.endpoint_url else "auto"},
                # Other servers than AWS know no trailing checksums; uploads carry an MD5 instead.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
            skip_instance_cache=True,
            use_listings_cache=False,
        )

    # Names

    def _object_key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    # Objects

    def _wait(
        self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kw: Any
    ) -> Any:
        return sync(self._filesystem.loop, function, *args, **kw)

    def get_range(self, key: str, start: int, end: int, version: str = "") -> Piece:
        piece: Piece = self._wait(
            self._requests.get_range, self._object_key(key), start, end, version
        )
        return piece

    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> bool:
        return bool(
            self._wait(self._requests.put, self._object_key(key), content, exclusive=exclusive)
        )

    def copy_object(self, source: str, destination: str) -> None:
        self._wait(self._requests.copy, self._object_key(source), self._object_key(destination))

    def delete_object(self, key: str) -> None:
        self._wait(self._requests.delete, self._object_key(key))

    def scan(
        self, path: str, *, recursive: bool = True, name_prefix: str = ""
    ) -> Iterator[StoredFile]:
        prefix = self._folder(path) + name_prefix
        skip = len(self._folder(""))
        for page in self._pages(prefix, "" if recursive else "/"):
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):  # what consoles make to show a folder
                    modified = entry["LastModified"].astimezone(UTC)
                    yield StoredFile(entry["Key"][skip:], entry["Size"], modified)
            for entry in page.get("CommonPrefixes", []):
                yield StoredFile(entry["Prefix"][skip:], 0, _NEVER)

    def _folder(self, path: str) -> str:
        folder = join_key(self._prefix, path)
        return f"{folder}/" if folder else ""

    def _pages(self, prefix: str, delimiter: str) -> Iterator[dict[str, Any]]:
        token: dict[str, Any] = {}
        while True:
            page = self._wait(self._requests.page, prefix, delimiter, token)
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    # For other libraries

    def get_storage_options(self) -> dict[str, str]:
        """Return the options under which Polars and deltalake open :meth:`get_full_path`.

        Credentials that the environment or a role supplies are looked up now; ask again before
        they expire.
        """
        options = {
            "AWS_REGION": self._wait(self._region),
            "AWS_CONDITIONAL_PUT": "etag",
            # Polars would wait for ever by itself; deltalake knows only the first of them.
            "connect_timeout": f"{self._patience.connect_seconds:g}s",
            "read_timeout": f"{self._patience.read_seconds:g}s",
        }
        if self._access.endpoint_url:
            options["AWS_ENDPOINT_URL"] = self._access.endpoint_url
            options["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] = "false"
            if self._access.endpoint_url.startswith("http://"):
                options["AWS_ALLOW_HTTP"] = "true"
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        for name, value in zip(names, self._wait(self._credentials), strict=True):
            if value:
                options[name] = value
        return options

    async def _region(self) -> str:
        """Return the bucket's region: other libraries do not follow a redirection to it."""
        if self._access.region:
            return self._access.region
        if self._found_region is None:
            client = await self._filesystem.set_session()
            found = "" if self._access.endpoint_url else await self._requests.bucket_region()
            configured = str(client.meta.region_name or "")
            known = configured if configured != "aws-global" else ""
            self._found_region = found or known or _DEFAULT_REGION
        return self._found_region

    async def _credentials(self) -> tuple[str | None, str | None, str | None]:
        """Return who asks, as of now."""
        access = self._access
        if access.access_key_id:
            return access.access_key_id, access.secret_access_key, access.session_token
        await self._filesystem.set_session()
        credentials = await self._filesystem.session.get_credentials()
        if credentials is None:
            return None, None, None
        frozen = await credentials.get_frozen_credentials()
        return frozen.access_key, frozen.secret_key, frozen.token

    def get_filesystem(self) -> Any:
        """Return an s3fs filesystem with this storage's access, which keeps no listings."""
        if self._shared is None:
            self._shared = self._make_filesystem(attempts=4)
        return self._shared
