"""What venues answer over REST: their instruments, kept for a day; and calls within limits."""

from __future__ import annotations

import difflib
import json
import time
import urllib.error
import urllib.request
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from fluxforge.errors import ConfigError, ConnectionFailedError, redacted_url
from fluxforge.ingestion.websocket import is_loopback
from fluxforge.retry import RetryPolicy
from fluxforge.segments.spool import default_spool_dir
from fluxforge.sources.rest import Instrument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from fluxforge.sources import Source
    from fluxforge.sources.rest import Calls

T = TypeVar("T")

_SECONDS = 10.0
_DAY_SECONDS = 86_400.0
BUSY_CODES = (408, 418, 425, 429)
_NEAR = 5


class _BusyError(Exception):
    """The venue has no answer just now."""


class RestClient:
    """Makes a venue's calls one after another, within its limits.

    Parameters
    ----------
    source, address
        The venue, and where its calls go.
    policy
        How often to try again while it does not answer.
    """

    def __init__(
        self,
        source: Source,
        address: str,
        policy: RetryPolicy = RetryPolicy(first=1.0, seconds=60.0),  # noqa: B008 -- immutable
    ) -> None:
        self._source, self._address, self._policy = source, address, policy
        self._free_at = 0.0

    def run(self, calls: Calls[T], keep: Callable[[bytes], object] = len) -> T:
        """Make calls to their end, and return what they end in; `keep` is given each answer."""
        try:
            path = next(calls)
            while True:
                text, answer = self._policy.call(
                    lambda path=path: self._get(path),  # type: ignore[misc]
                    retry_on=_BusyError,
                )
                keep(text)
                path = calls.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        except _BusyError as exc:
            raise ConnectionFailedError(
                f"{redacted_url(self._address)} does not answer: {exc}"
            ) from exc
        except (KeyError, TypeError, IndexError) as exc:
            raise ConnectionFailedError(
                f"{redacted_url(self._address)} answers in another form than {self._source.name}"
            ) from exc

    def _get(self, path: str) -> tuple[bytes, Any]:
        time.sleep(max(0.0, self._free_at - time.monotonic()))
        self._free_at = time.monotonic() + 1 / self._source.limits.rest_per_second
        try:
            text = http_get(f"{self._address}{path}")
            answer = json.loads(text)
        except urllib.error.HTTPError as exc:
            said = exc.read(300).decode(errors="replace").strip() or exc.reason
            if exc.code in BUSY_CODES or exc.code >= 500:
                raise _BusyError(said) from exc
            raise ConnectionFailedError(f"{self._source.name} refuses {path}: {said}") from exc
        except (OSError, ValueError) as exc:
            raise _BusyError(str(exc)) from exc
        complaint = self._source.complaint(answer)
        if complaint is not None:
            if "limit" in complaint.lower() or "too many" in complaint.lower():
                raise _BusyError(complaint)
            raise ConnectionFailedError(f"{self._source.name} refuses {path}: {complaint}")
        return text, answer


def http_get(url: str) -> bytes:
    """Return what a REST call answers; OSError where there is no answer, or a refusal."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"{redacted_url(url)} is not a web address")
    with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 -- checked
        content: bytes = answer.read()
        return content


def state_dir(spool_dir: str | Path | None) -> Path:
    """Return where this machine remembers instruments and what has been backfilled."""
    from pathlib import Path

    return Path(spool_dir) / "rest" if spool_dir else default_spool_dir().parent / "rest"


def list_instruments(
    source: Source, address: str, kept_in: Path, policy: RetryPolicy | None = None
) -> list[Instrument]:
    """Return the venue's instruments, from its own list, which is kept for a day."""
    place = urlsplit(address).netloc.replace(":", "_")
    kept = kept_in / f"instruments-{source.name}-{place}.json"
    try:
        if time.time() - kept.stat().st_mtime < _DAY_SECONDS:
            return [Instrument(**one) for one in json.loads(kept.read_bytes())]
    except (OSError, ValueError, TypeError):
        pass  # there is none, or one of another version
    client = RestClient(source, address, policy) if policy else RestClient(source, address)
    found = sorted(client.run(source.listing()), key=lambda one: (one.market, one.symbol))
    kept.parent.mkdir(parents=True, exist_ok=True)
    written = kept.with_name(f"{kept.name}.{time.time_ns()}")
    written.write_text(json.dumps([asdict(one) for one in found]), encoding="utf-8")
    written.replace(kept)
    return found


def known_instruments(source: Source, address: str, spool_dir: str | None) -> list[Instrument]:
    """Return the venue's instruments if one call tells them; of this machine, always anew."""
    once = RetryPolicy(attempts=1)
    if is_loopback(address):
        return RestClient(source, address, once).run(source.listing())
    return list_instruments(source, address, state_dir(spool_dir), once)


def check_products(
    source: Source, products: Sequence[str], instruments: Iterable[Instrument]
) -> None:
    """Refuse products that the venue does not have."""
    known = {(one.market, one.symbol): one for one in instruments}
    for product in products:
        market, symbol = source.split(product)
        if (market, symbol) in known:
            continue
        names = [name for place, name in known if place == market]
        alike = [name for name in names if symbol and name.startswith(symbol[:3])]
        near = difflib.get_close_matches(symbol, names, _NEAR, 0.7) or alike[:_NEAR]
        hint = f"did you mean {', '.join(near)}?" if near else "see 'fluxforge instruments'"
        raise ConfigError(f"{source.name} has no product {product!r}: {hint}")
