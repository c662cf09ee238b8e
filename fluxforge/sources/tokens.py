"""Tokens for venues that let a client sign in with a key of its own: JWTs, one a message.

Market data needs none; some venues recommend it for a more reliable connection.
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

_LIFETIME_SECONDS = 120


@dataclass(frozen=True)
class Signer:
    """Makes a fresh token for each message; its key shows nowhere."""

    key_name: str
    issuer: str
    algorithm: str
    _key: Any = field(repr=False)

    @classmethod
    def from_environment(
        cls, prefix: str, issuer: str, environ: Mapping[str, str] = os.environ
    ) -> Self | None:
        r"""Read ``<prefix>_KEY_NAME`` and ``<prefix>_PRIVATE_KEY``; None if neither is set.

        A key as PEM may have its line ends written as ``\n``.
        """
        variables = (f"{prefix}_KEY_NAME", f"{prefix}_PRIVATE_KEY")
        given = {name: environ.get(name, "") for name in variables}
        missing = [name for name, text in given.items() if not text]
        if len(missing) == 2:
            return None
        for name in missing:
            there = next(other for other in given if other != name)
            raise ConfigError(f"{there} is set but {name} is not: set both, or neither")
        try:
            import jwt  # noqa: F401

            loaded = _load_key(given[variables[1]])
        except ImportError as exc:
            raise MissingExtraError(f"signing in with {variables[1]}", "'pyjwt[crypto]'") from exc
        if loaded is None:
            raise ConfigError(
                f"{variables[1]} is not a key that can sign: an EC P-256 or Ed25519 private key "
                "as PEM, or an Ed25519 key as base64"
            )
        return cls(given[variables[0]], issuer, *loaded)

    def token(self) -> str:
        """Return a token that is valid for two minutes, for one message."""
        import jwt

        now = int(time.time())
        claims: dict[str, object] = {"sub": self.key_name, "iss": self.issuer}
        claims |= {"nbf": now, "exp": now + _LIFETIME_SECONDS}
        headers = {"kid": self.key_name, "nonce": secrets.token_hex()}
        return jwt.encode(claims, self._key, algorithm=self.algorithm, headers=headers)


def _load_key(secret: str) -> tuple[str, Any] | None:
    """Return a key and its algorithm; None where it is no key, without a word of what it holds."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = secret.replace("\\n", "\n").strip()
    try:
        if text.startswith("-----BEGIN"):
            key: Any = load_pem_private_key(text.encode(), password=None)
        else:
            raw = base64.b64decode(text, validate=True)
            key = ed25519.Ed25519PrivateKey.from_private_bytes(raw[:32] if len(raw) == 64 else raw)
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error):
        return None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA", key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":
        return "ES256", key
    return None
