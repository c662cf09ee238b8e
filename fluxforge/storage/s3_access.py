"""How an S3 server is reached: by whom, with which retries and timeouts; no secret prints."""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import s3fs
from aiobotocore.session import AioSession
from botocore.handlers import add_expect_header
from botocore.loaders import create_loader

from fluxforge.errors import ConfigError

_CONNECTIONS = 32
_BACKOFF_SECONDS = 5.0

for _name in ("botocore.auth", "botocore.endpoint"):
    # At DEBUG these log signed headers, session tokens among them.
    if (_logger := logging.getLogger(_name)).level == logging.NOTSET:
        _logger.setLevel(logging.INFO)


@functools.cache
def _service_models() -> Any:
    """Return botocore's descriptions of S3: parsed once, they make each further client cheap."""
    return create_loader()


@dataclass(frozen=True)
class S3Access:
    """Where an S3 server is and who asks it; see :class:`fluxforge.storage.s3.S3Storage`."""

    region: str | None
    endpoint_url: str | None
    access_key_id: str | None = field(repr=False)
    secret_access_key: str | None = field(repr=False)
    session_token: str | None = field(repr=False)
    attempts: int = 5
    connect_timeout: float = 5.0
    read_timeout: float = 20.0

    def __post_init__(self) -> None:
        for name in ("region", "access_key_id", "secret_access_key", "session_token"):
            object.__setattr__(self, name, getattr(self, name) or None)
        environment = (os.environ.get(f"AWS_ENDPOINT_URL{end}") for end in ("_S3", ""))
        url = self.endpoint_url or next(filter(None, environment), None)
        object.__setattr__(self, "endpoint_url", url)
        parts = urlsplit(url or "https://aws")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("storage.s3.endpoint_url must be like https://host:port")
        if parts.username or parts.password:
            raise ConfigError(
                "storage.s3.endpoint_url must hold no user or password: set "
                "storage.s3.aws_access_key_id and aws_secret_access_key"
            )
        if parts.query or parts.fragment:
            raise ConfigError("storage.s3.endpoint_url ends with its path: leave out '?' and '#'")
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
    def longest(self) -> float:
        """The seconds after which a small request has failed, all attempts included."""
        return self.attempts * (self.connect_timeout + self.read_timeout + _BACKOFF_SECONDS)

    def hide(self, text: str) -> str:
        """Blot out every secret in a text."""
        for secret in (self.secret_access_key, self.session_token, self.access_key_id):
            text = text.replace(secret, "***") if secret else text
        return text

    def open(self) -> s3fs.S3FileSystem:
        """Return a filesystem with this access, which keeps no listings."""
        session = AioSession()
        session.register_component("data_loader", _service_models())
        # aiohttp would wait without limit for a "100 Continue" that some servers never send.
        session.unregister("before-call.s3", add_expect_header)
        return s3fs.S3FileSystem(
            session=session,
            key=self.access_key_id,
            secret=self.secret_access_key,
            token=self.session_token,
            endpoint_url=self.endpoint_url,
            client_kwargs={"region_name": self.region} if self.region else {},
            config_kwargs={
                "connect_timeout": self.connect_timeout,
                "read_timeout": self.read_timeout,
                "max_pool_connections": _CONNECTIONS,
                "retries": {"mode": "standard", "total_max_attempts": self.attempts},
                "s3": {"addressing_style": "path" if self.endpoint_url else "auto"},
                # Other servers than AWS know no trailing checksums; the signature covers the body.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
            skip_instance_cache=True,
            use_listings_cache=False,
        )

    def options(self, region: str) -> dict[str, str]:
        """Return what Polars and deltalake need to know, except for the credentials."""
        options = {
            "AWS_REGION": region,
            "AWS_CONDITIONAL_PUT": "etag",
            # Polars would wait for ever by itself; deltalake knows only the first of them.
            "connect_timeout": f"{self.connect_timeout:g}s",
            "read_timeout": f"{self.read_timeout:g}s",
        }
        if self.endpoint_url:
            options["AWS_ENDPOINT_URL"] = self.endpoint_url
            options["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] = "false"
            if self.endpoint_url.startswith("http://"):
                options["AWS_ALLOW_HTTP"] = "true"
        return options

    async def credentials(self, session: Any) -> dict[str, str]:
        """Return who asks, as of now, under the names that other libraries have for it."""
        found = (self.access_key_id, self.secret_access_key, self.session_token)
        if not self.access_key_id and (credentials := await session.get_credentials()):
            frozen = await credentials.get_frozen_credentials()
            found = frozen.access_key, frozen.secret_key, frozen.token
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        return {name: value for name, value in zip(names, found, strict=True) if value}
