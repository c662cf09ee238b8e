"""Secrets that do not print: not in a repr, a log, a notebook's output, an error or a YAML dump.

The value itself stays usable: it is a string with its real content wherever bytes are made of it
or it is joined to other text, which is all that signing a request does.
"""

from __future__ import annotations

from typing import Any

from omegaconf import Container, DictConfig, OmegaConf, StringNode
from omegaconf._utils import OmegaConfDumper

from fluxforge.config.schema import SECRET_KEYS

MASK = "***"


class Secret(str):
    """Text that shows as ``***``.

    Examples
    --------
    >>> key = Secret("hunter2")
    >>> key, f"{key}", str(key)
    ('***', '***', '***')
    >>> key.reveal()
    'hunter2'
    """

    __slots__ = ()

    def reveal(self) -> str:
        """Return the real text, as a plain string."""
        return str.__str__(self)[:]

    def __repr__(self) -> str:
        return repr(MASK)

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)


class _SecretNode(StringNode):
    """A configuration leaf that keeps its :class:`Secret` as it is."""

    def _validate_and_convert_impl(self, value: Any) -> str:
        return value if isinstance(value, Secret) else Secret(value)

    def __repr__(self) -> str:
        return repr(self._value())


def _dump_masked(dumper: Any, _: Secret) -> Any:
    return dumper.represent_str(MASK)


OmegaConfDumper.add_representer(Secret, _dump_masked)


def hide_secrets(node: DictConfig) -> None:
    """Replace every secret below `node`, in place, by one that does not print."""
    for key in list(node.keys()):
        value = node[key]
        if isinstance(value, DictConfig):
            hide_secrets(value)
        elif key in SECRET_KEYS and value is not None:
            secret = value if isinstance(value, Secret) else Secret(value)
            node._set_item_impl(key, _SecretNode(secret, key=key, parent=node))  # noqa: SLF001


def reveal(value: Any) -> Any:
    """Return the real text of a setting that may be a secret."""
    return value.reveal() if isinstance(value, Secret) else value


def revealed(settings: Any) -> Any:
    """Return settings as plain containers with real texts, to be merged and hidden again."""
    if isinstance(settings, Container):
        settings = OmegaConf.to_container(settings, resolve=True)
    if isinstance(settings, dict):
        return {key: revealed(value) for key, value in settings.items()}
    return reveal(settings)
