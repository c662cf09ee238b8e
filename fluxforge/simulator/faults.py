"""Faults that the local exchange can be asked for: what venues and networks do on a bad day.

One fault is written ``KIND@FRAME`` or ``KIND@FRAME:AMOUNT``; several are separated by commas.
``FRAME`` counts the frames of a connection from 0, the extra ones of faults not included; for
``refuse`` it counts requests: handshakes and REST calls.
:data:`FAULTS_HELP` lists the kinds.

Each fault happens once: on the first connection that gets to its frame, and not on those that
follow. Write it twice to have it twice. In a replay, extra frames have no sequence number, so that
the recorded numbers stay whole; from the market model they take the next one.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from fluxforge.errors import UsageError

NONJSON_FRAME = "upstream connect error\nor disconnect/reset before headers"
BINARY_FRAME = b"\x00\xff\xfe\x80 not text"

# What follows the colon ("" for nothing), what it is if left out, and what happens.
_KINDS: dict[str, tuple[str, float, str]] = {
    "refuse": (
        "requests",
        1,
        "answer request N (a handshake or REST call) and those after it with 503",
    ),
    "drop": ("", 0, "cut the connection without a closing handshake"),
    "skip": ("frames", 1, "omit frame N and those after it, so that their numbers are missing"),
    "silence": ("seconds", 0, "send nothing for this long"),
    "burst": ("frames", 0, "send this many frames from N on at once, regardless of the rate"),
    "malformed": ("", 0, "an extra frame: JSON that is cut off after a closing brace"),
    "nonjson": ("", 0, "an extra frame: two lines of text that are not JSON"),
    "binary": ("", 0, "an extra frame: bytes that are not UTF-8, in a binary message"),
    "unknown": ("", 0, "an extra frame: well-formed, of an unknown channel"),
    "large": ("megabytes", 6, "an extra frame: a valid book snapshot of that size"),
}
_FAULT = re.compile(r"([a-z]+)@(\d+)(?::(\d+(?:\.\d+)?))?")


def _usage(kind: str) -> str:
    unit, default, _ = _KINDS[kind]
    unit = unit.upper()
    return f"{kind}@N" + (f"[:{unit}]" if unit and default else f":{unit}" if unit else "")


FAULTS_HELP = "\n\n".join(
    (
        "Faults, separated by commas; N counts the frames of a connection from 0:",
        *(f"{_usage(kind)}: {what}" for kind, (_, _, what) in _KINDS.items()),
    )
)
"""The kinds of fault, one paragraph each, for the command line."""


@dataclass(frozen=True)
class Fault:
    """One fault: what happens, before which frame of a connection, and how much of it."""

    kind: str
    frame: int
    amount: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read one fault; a UsageError says where it does not follow the grammar.

        >>> Fault.parse("skip@120:3")
        Fault(kind='skip', frame=120, amount=3.0)
        >>> Fault.parse("dorp@5")
        Traceback (most recent call last):
        ...
        fluxforge.errors.UsageError: fault 'dorp@5': no such kind, did you mean 'drop'?
        """
        kind = text.partition("@")[0]
        if kind not in _KINDS:
            near = difflib.get_close_matches(kind, _KINDS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(_KINDS)}"
            raise UsageError(f"fault {text!r}: no such kind, {hint}")
        match = _FAULT.fullmatch(text)
        if match is None:
            raise UsageError(f"fault {text!r}: write it as {kind}@FRAME or {kind}@FRAME:AMOUNT")
        unit, default, _ = _KINDS[kind]
        if match[3] and not unit:
            raise UsageError(f"fault {text!r} takes no amount: {kind}@{match[2]}")
        if unit and not default and not match[3]:
            raise UsageError(f"fault {text!r} needs a number of {unit}: {kind}@{match[2]}:5")
        amount = float(match[3] or default)
        if unit in ("frames", "requests") and (amount < 1 or amount != int(amount)):
            raise UsageError(f"fault {text!r}: the number of {unit} is a whole one above 0")
        return cls(kind, int(match[2]), amount)


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Read a comma list of faults; an empty text has none."""
    return tuple(Fault.parse(part.strip()) for part in text.split(",") if part.strip())


class FaultPlan:
    """The faults that are still to happen, shared by all connections of an exchange."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self._waiting = [fault for fault in faults if fault.kind != "refuse"]
        self._refusals = [fault for fault in faults if fault.kind == "refuse"]

    def take(self, frame: int) -> list[Fault]:
        """Return what happens before this frame of a connection, and strike it off."""
        due = list(dict.fromkeys(fault for fault in self._waiting if fault.frame == frame))
        for fault in due:
            self._waiting.remove(fault)
        return due

    def refuses(self, request: int) -> bool:
        """Tell whether a request, counted from 0, is turned away."""
        return any(fault.frame <= request < fault.frame + fault.amount for fault in self._refusals)
