"""Secrets that do not print: not in a repr, a log, a notebook's output, an error, JSON or YAML."""

from __future__ import annotations

from typing import Any

import yaml

MASK = "***"
SECRET_KEYS = frozenset({"aws_access_key_id", "aws_secret_access_key", "aws_session_token"})
"""Keys whose values are never shown."""


class Secret(str):
    """Text that is ``***`` wherever it goes; only :func:`reveal` gives the real text.

    Two secrets are equal if their real texts are.

    Examples
    --------
    >>> key = Secret("hunter2")
    >>> key, f"{key}", str(key), "-".join([key, key])
    ('***', '***', '***', '***-***')
    >>> reveal(key)
    'hunter2'
    """

    __slots__ = ("_text",)
    _text: str

    def __new__(cls, text: str) -> Secret:
        """Hide a text; what is hidden already stays as it is."""
        if isinstance(text, Secret):
            return text
        secret = super().__new__(cls, MASK)
        secret._text = text
        return secret

    def reveal(self) -> str:
        """Return the real text, as a plain string."""
        return self._text

    def __str__(self) -> str:
        return self  # so that a conversion to text keeps the secret, and keeps it one

    def __repr__(self) -> str:
        return repr(MASK)

    def __eq__(self, other: object) -> bool:
        return bool(self._text == reveal(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._text)


for _kind in (yaml.representer.SafeRepresenter, yaml.representer.Representer):
    _kind.add_multi_representer(Secret, lambda dumper, _: dumper.represent_str(MASK))


def hide(settings: Any, *, everything: bool = False) -> Any:
    """Return plain settings with the texts under secret keys, or all texts, as secrets."""
    if isinstance(settings, dict):
        return {
            key: hide(value, everything=everything or key in SECRET_KEYS)
            for key, value in settings.items()
        }
    if isinstance(settings, list):
        return [hide(value, everything=everything) for value in settings]
    return Secret(settings) if everything and isinstance(settings, str) else settings


def reveal(settings: Any) -> Any:
    """Return settings with the real text of each secret in them."""
    if isinstance(settings, dict):
        return {key: reveal(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [reveal(value) for value in settings]
    return settings.reveal() if isinstance(settings, Secret) else settings
