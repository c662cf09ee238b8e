"""Faults that the local exchange can be asked for: what venues and networks do on a bad day.

One fault is written ``KIND@FRAME`` or ``KIND@FRAME:AMOUNT``; several are separated by commas.
``FRAME`` counts the frames of a connection from 0, the extra ones of faults not included.

=================  =============================================================================
``drop@N``         cut the connection before frame N, without a closing handshake
``skip@N[:K]``     never send frame N, nor those after it, K in all (1): their numbers are missing
``silence@N:S``    send nothing for S seconds before frame N
``burst@N:K``      send the K frames from N on at once, whatever the rate
``malformed@N``    an extra frame before N: JSON that was cut off after a closing brace
``nonjson@N``      an extra frame before N: two lines of text that are no JSON
``binary@N``       an extra frame before N: bytes that are no UTF-8, in a binary message
``unknown@N``      an extra frame before N: well-formed, of a channel that nobody knows
``large@N[:MB]``   an extra frame before N: a valid book snapshot of MB megabytes (6)
=================  =============================================================================

Each fault happens once: on the first connection that gets to its frame, and not on those that
follow. Written twice, it happens on two. Extra frames of ``unknown`` and ``large`` take the next
number of the connection where the exchange runs its own market; in a replay the recorded numbers
stand, and extra frames have none.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal, get_args

from fluxforge.errors import UsageError

FaultKind = Literal[
    "drop",
    "skip",
    "silence",
    "burst",
    "malformed",
    "nonjson",
    "binary",
    "unknown",
    "large",
]

NONJSON_FRAME = "upstream connect error\nor disconnect/reset before headers"
BINARY_FRAME = b"\x00\xff\xfe\x80 not text"

_FAULT = re.compile(r"([a-z]+)@(\d+)(?::(\d+(?:\.\d+)?))?")
_DEFAULT_AMOUNTS = {"skip": 1.0, "large": 6.0}
_AMOUNT_NEEDED = {"silence": "seconds", "burst": "a number of frames"}
_WHOLE = ("skip", "burst")


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes
    ----------
    kind
        What happens.
    frame
        Before which frame of a connection, counted from 0.
    amount
        Frames for ``skip`` and ``burst``, seconds for ``silence``, megabytes for ``large``; 0 for
        the kinds that have none.
    """

    kind: FaultKind
    frame: int
    amount: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read one fault.

        Raises
        ------
        UsageError
            If it does not follow the grammar; the message says where.

        Examples
        --------
        >>> Fault.parse("skip@120:3")
        Fault(kind='skip', frame=120, amount=3.0)
        >>> Fault.parse("dorp@5")
        Traceback (most recent call last):
        ...
        fluxforge.errors.UsageError: fault 'dorp@5': no such kind, did you mean 'drop'?
        """
        kinds: tuple[FaultKind, ...] = get_args(FaultKind)
        kind = next((name for name in kinds if name == text.partition("@")[0]), None)
        if kind is None:
            near = difflib.get_close_matches(text.partition("@")[0], kinds, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(kinds)}"
            raise UsageError(f"fault {text!r}: no such kind, {hint}")
        match = _FAULT.fullmatch(text)
        if match is None:
            raise UsageError(f"fault {text!r}: write it as {kind}@FRAME or {kind}@FRAME:AMOUNT")
        amount = float(match[3]) if match[3] else _DEFAULT_AMOUNTS.get(kind, 0.0)
        if kind in _AMOUNT_NEEDED and not match[3]:
            example = f"{kind}@{match[2]}:5"
            raise UsageError(f"fault {text!r} needs {_AMOUNT_NEEDED[kind]}: {example}")
        if match[3] and kind not in (*_DEFAULT_AMOUNTS, *_AMOUNT_NEEDED):
            raise UsageError(f"fault {text!r} takes no amount: {kind}@{match[2]}")
        if kind in _WHOLE and (amount < 1 or amount != int(amount)):
            raise UsageError(f"fault {text!r}: the number of frames is a whole one above 0")
        return cls(kind, int(match[2]), amount)


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Read a comma list of faults; an empty text has none.

    Raises
    ------
    UsageError
        If one of them does not follow the grammar.

    Examples
    --------
    >>> [fault.kind for fault in parse_faults("drop@500, nonjson@20")]
    ['drop', 'nonjson']
    """
    return tuple(Fault.parse(part.strip()) for part in text.split(",") if part.strip())


class FaultPlan:
    """The faults that are still to happen, shared by all connections of an exchange."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self._waiting = list(faults)

    def take(self, frame: int) -> list[Fault]:
        """Return what happens before this frame of a connection, and strike it off."""
        if not self._waiting:
            return []
        due = list(dict.fromkeys(fault for fault in self._waiting if fault.frame == frame))
        for fault in due:
            self._waiting.remove(fault)
        return due
