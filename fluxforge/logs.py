"""Log records as lines of text or JSON; what a venue sent cannot command a terminal."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from datetime import UTC, datetime

from fluxforge.errors import printable

LINE = "%(levelname)s %(name)s: %(message)s"


class TextFormatter(logging.Formatter):
    """One record a line, control characters escaped; further lines are tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        return "\n".join(printable(line, 10_000) for line in super().format(record).split("\n"))


class JsonFormatter(logging.Formatter):
    """One record a line, as a JSON object: ``time, level, logger, part, message``."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "part": self._part,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said)


class CountingHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes records to standard error, and counts warnings and errors."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record and write it."""
        if record.levelno >= logging.WARNING:
            self.counts["warnings" if record.levelno < logging.ERROR else "errors"] += 1
        super().emit(record)


def set_up_logs(level: int, *, as_json: bool = False, part: str = "") -> CountingHandler:
    """Send all log records to standard error; return the handler, which counts them."""
    root, handler = logging.getLogger(), CountingHandler()
    line = f"%(asctime)s {part}: {LINE}" if part else LINE
    handler.setFormatter(JsonFormatter(part) if as_json else TextFormatter(line))
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    return handler
