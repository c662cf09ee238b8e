"""Tokens for Coinbase, where a key is in the environment.

Market data needs none; the venue recommends it for a more reliable connection.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from fluxforge.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME_VARIABLE = "COINBASE_API_KEY_NAME"
KEY_VARIABLE = "COINBASE_API_PRIVATE_KEY"

_LIFETIME_SECONDS = 120
_BAD_KEY = (
    f"{KEY_VARIABLE} is not a key that Coinbase gives out: an EC P-256 or Ed25519 private key as "
    "PEM, or an Ed25519 key as base64"
)


@dataclass(frozen=True)
class Signer:
    """Makes a fresh token for each message; its key shows nowhere."""

    key_name: str
    algorithm: str
    _key: Any = field(repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self | None:
        r"""Read the key from the environment; None if there is none.

        A key as PEM may have its line ends written as ``\n``.

        Raises
        ------
        ConfigError
            If only half of the settings is there, or the key is unreadable.
        MissingExtraError
            If there is a key, but not the package that signs.
        """
        name, secret = environ.get(NAME_VARIABLE, ""), environ.get(KEY_VARIABLE, "")
        if not name and not secret:
            return None
        if not name or not secret:
            there, missing = (
                (NAME_VARIABLE, KEY_VARIABLE) if name else (KEY_VARIABLE, NAME_VARIABLE)
            )
            raise ConfigError(f"{there} is set but {missing} is not: set both, or neither")
        try:
            import jwt  # noqa: F401
            from cryptography.hazmat.primitives.asymmetric import ec, ed25519
        except ImportError as exc:
            raise MissingExtraError("signing in to Coinbase", "'pyjwt[crypto]'") from exc
        key = _load_key(secret)
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return cls(name, "EdDSA", key)
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":
            return cls(name, "ES256", key)
        raise ConfigError(_BAD_KEY)

    def token(self) -> str:
        """Return a token that is valid for two minutes, for one message."""
        import jwt

        now = int(time.time())
        claims = {"sub": self.key_name, "iss": "cdp", "nbf": now, "exp": now + _LIFETIME_SECONDS}
        headers = {"kid": self.key_name, "nonce": secrets.token_hex()}
        return jwt.encode(claims, self._key, algorithm=self.algorithm, headers=headers)


def _load_key(secret: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = secret.replace("\\n", "\n").strip()
    # The cause is left out of these errors: it could quote a part of the key.
    try:
        if text.startswith("-----BEGIN"):
            return load_pem_private_key(text.encode(), password=None)
        raw = base64.b64decode(text, validate=True)
        if len(raw) not in (32, 64):
            raise ConfigError(_BAD_KEY)
        return Ed25519PrivateKey.from_private_bytes(raw[:32])
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error):
        raise ConfigError(_BAD_KEY) from None
