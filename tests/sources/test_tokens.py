from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import traceback

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from fluxforge.errors import ConfigError, MissingExtraError
from fluxforge.sources.base import Subscription
from fluxforge.sources.coinbase import SOURCE
from fluxforge.sources.tokens import Signer

NAME_VARIABLE, KEY_VARIABLE = "COINBASE_API_KEY_NAME", "COINBASE_API_PRIVATE_KEY"
NAME = "organizations/11/apiKeys/22"
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def pem(key: Key) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def raw_ed25519(key: ed25519.Ed25519PrivateKey) -> str:
    seed = key.private_bytes_raw()
    return base64.b64encode(seed + key.public_key().public_bytes_raw()).decode()


def read(environ: dict[str, str]) -> Signer | None:
    return Signer.from_environment("COINBASE_API", "cdp", environ)


EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    ("secret", "key", "algorithm"),
    [
        (pem(EC_KEY), EC_KEY, "ES256"),
        (pem(EC_KEY).replace("\n", "\\n"), EC_KEY, "ES256"),
        (pem(ED_KEY), ED_KEY, "EdDSA"),
        (raw_ed25519(ED_KEY), ED_KEY, "EdDSA"),
    ],
    ids=["pem", "escaped-pem", "ed25519-pem", "ed25519-raw"],  # keys are new in each process
)
def test_each_message_has_a_fresh_token_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
    secret: str,
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    algorithm: str,
) -> None:
    monkeypatch.setenv(NAME_VARIABLE, NAME)
    monkeypatch.setenv(KEY_VARIABLE, secret)
    before = int(time.time())
    messages = [
        json.loads(text)
        for text in SOURCE.session(Subscription(("BTC-USD",), ("heartbeats", "level2"))).opening()
    ]
    after = int(time.time())
    assert [message["channel"] for message in messages] == ["heartbeats", "level2"]
    nonces = set()
    for message in messages:
        header = jwt.get_unverified_header(message["jwt"])
        assert header["alg"] == algorithm
        assert header["kid"] == NAME
        nonces.add(header["nonce"])
        claims = jwt.decode(message["jwt"], key.public_key(), algorithms=[algorithm])
        assert set(claims) == {"sub", "iss", "nbf", "exp"}
        assert (claims["sub"], claims["iss"]) == (NAME, "cdp")
        assert before <= claims["nbf"] <= after
        assert claims["exp"] == claims["nbf"] + 120
    assert len(nonces) == 2


def test_the_key_shows_nowhere() -> None:
    secret = pem(EC_KEY)
    signer = read({NAME_VARIABLE: NAME, KEY_VARIABLE: secret})
    middle = secret.splitlines()[1]
    assert signer is not None
    assert middle not in repr(signer)
    assert "PrivateKey" not in repr(signer)
    for broken in (secret[:60] + "?" + secret[61:], middle, middle + "é"):
        with pytest.raises(ConfigError) as error:
            read({NAME_VARIABLE: NAME, KEY_VARIABLE: broken})
        shown = "".join(traceback.format_exception(error.value))
        assert middle not in shown
        assert KEY_VARIABLE in str(error.value)


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)]
)
def test_other_kinds_of_key_are_refused(key: Key) -> None:
    with pytest.raises(ConfigError, match="EC P-256 or Ed25519"):
        read({NAME_VARIABLE: NAME, KEY_VARIABLE: pem(key)})


def test_half_a_setting_is_refused_and_none_is_fine() -> None:
    assert read({}) is None
    with pytest.raises(ConfigError, match=f"{NAME_VARIABLE} is set but {KEY_VARIABLE} is not"):
        read({NAME_VARIABLE: NAME})
    with pytest.raises(ConfigError, match=f"{KEY_VARIABLE} is set but {NAME_VARIABLE} is not"):
        read({KEY_VARIABLE: "secret"})


def test_the_extra_is_asked_for_only_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    assert read({}) is None
    with pytest.raises(MissingExtraError, match=r"pip install 'pyjwt\[crypto\]'"):
        read({NAME_VARIABLE: NAME, KEY_VARIABLE: pem(EC_KEY)})


def test_the_source_loads_neither_signing_nor_network_libraries() -> None:
    code = (
        "import sys, fluxforge.sources.coinbase\n"
        "print([m for m in ('jwt', 'cryptography', 'websockets', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
