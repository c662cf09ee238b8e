"""Secrets that do not print: not in a repr, a log, a notebook's output, an error, JSON or YAML.

A secret is a string of three asterisks to whoever looks at it. Only :func:`reveal` gives the real
text; what signs requests asks for it, and nothing else does.
"""

from __future__ import annotations

from typing import Any

from omegaconf import Container, DictConfig, StringNode, ValueNode
from omegaconf._utils import OmegaConfDumper
from omegaconf.errors import ValidationError

from fluxforge.config.schema import SECRET_KEYS

MASK = "***"


class Secret(str):
    """Text that is ``***`` wherever it goes. Two are equal if their real texts are.

    Examples
    --------
    >>> key = Secret("hunter2")
    >>> key, f"{key}", str(key), "-".join([key, key])
    ('***', '***', '***', '***-***')
    >>> key.reveal()
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


class _SecretNode(StringNode):
    """A configuration leaf that makes a :class:`Secret` of whatever text is put into it."""

    def _validate_and_convert_impl(self, value: Any) -> str:
        if isinstance(value, bytes | list | tuple | dict | Container):
            raise ValidationError("a secret must be text")  # never quoted
        return Secret(str(value))

    def _set_value(self, value: Any, flags: dict[str, bool] | None = None) -> None:
        if type(value) is str and "${" not in value:  # else it refers to another setting
            value = Secret(value)
        super()._set_value(value, flags)

    def __deepcopy__(self, memo: dict[int, Any]) -> _SecretNode:
        copied = _SecretNode()
        self._deepcopy_impl(copied, memo)
        return copied


def _dump_masked(dumper: Any, _: Secret) -> Any:
    return dumper.represent_str(MASK)


OmegaConfDumper.add_representer(Secret, _dump_masked)


def hide_secrets(node: DictConfig) -> None:
    """Make every secret below `node` one that does not print, now and when it is set later."""
    for name in list(node.keys()):
        key = str(name)
        child = node._get_node(key)  # noqa: SLF001 -- the leaf itself, not what it refers to
        if isinstance(child, DictConfig):
            if not child._is_interpolation() and not child._is_none():  # noqa: SLF001
                hide_secrets(child)
        elif key in SECRET_KEYS and isinstance(child, ValueNode):
            hidden = _SecretNode(child._value(), key=key, parent=node)  # noqa: SLF001
            node._set_item_impl(key, hidden)  # noqa: SLF001


def reveal(value: Any) -> Any:
    """Return the real text of a setting that may be a secret."""
    return value.reveal() if isinstance(value, Secret) else value
