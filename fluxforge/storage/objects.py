"""What a storage implements, four methods on whole objects; and leases, made of them.

A lease is an object that says who holds a key, and until when.

It is created exclusively beside its key and rewritten while its holder lives. A holder that
dies stops rewriting it, and it lapses. Clocks of two machines may differ and a lapsed lease may be
replaced twice, so a lease only saves work: what must happen once is decided elsewhere, by names
that are created exclusively and by commits.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from fluxforge.errors import FileExistsAlreadyError, FileMissingError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""How long a lease outlives a holder that died without releasing it."""

_RENEWALS_PER_LEASE = 4
_ACQUIRE_ATTEMPTS = 5


@dataclass(frozen=True, order=True)
class StoredFile:
    """One file in a listing: its key, its size in bytes, and when it was last written (UTC)."""

    key: str
    size: int
    modified: datetime

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rsplit("/", 1)[-1]


class ObjectStore(ABC):
    """Objects under valid keys, reserved names included."""

    @abstractmethod
    def get_object(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of one version of `key`, as :meth:`read_bytes` does."""

    @abstractmethod
    def put_object(self, key: str, content: bytes | Path, *, exclusive: bool = False) -> None:
        """Store some bytes or a local file, as :meth:`write_bytes` does."""

    @abstractmethod
    def delete_object(self, key: str) -> None:
        """Delete a file; deleting what is not there is no error."""

    @abstractmethod
    def scan(
        self, path: str, *, recursive: bool = True, name_prefix: str = ""
    ) -> Iterator[StoredFile]:
        """Yield what is below `path` and goes on with `name_prefix`, in any order.

        Reserved names are included. Where it is not recursive, each folder directly below `path`
        is an entry too, whose key ends with ``/``.
        """


def lease_key(key: str) -> str:
    """Return the reserved key beside `key` that a lease on it lives under.

    >>> lease_key("raw/active/coinbase/segment_20251203T14_00001.ndjson")
    'raw/active/coinbase/.segment_20251203T14_00001.ndjson.lease'
    """
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}.{name}.lease"


class Lease(ABC):
    """A claim on a key that ends with its holder: released, or lapsed once the holder is dead."""

    key: str

    @abstractmethod
    def release(self) -> None:
        """Give the key back. Releasing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class ObjectLease(Lease):
    """A claim that its :class:`LeaseKeeper` renews until it is released."""

    def __init__(self, keeper: LeaseKeeper, key: str) -> None:
        self.key = key
        self.token = uuid.uuid4().hex
        self.expires_ns = 0
        self.lock = threading.Lock()  # a renewal must not follow the release
        self.released = False
        self._keeper = keeper

    def release(self) -> None:
        self._keeper.release(self)


class LeaseKeeper:
    """The leases that one storage holds, and the one thread that renews them."""

    def __init__(self, objects: ObjectStore, seconds: float) -> None:
        self._objects = objects
        self._seconds = seconds
        self._held: dict[str, ObjectLease] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def acquire(self, key: str) -> ObjectLease | None:
        """Claim a key; None while another living holder has it."""
        lease = ObjectLease(self, key)
        for _ in range(_ACQUIRE_ATTEMPTS):
            try:
                self._write(lease, exclusive=True)
            except FileExistsAlreadyError:
                holder, expires_ns = self._read(key)
                if holder is not None and expires_ns > time.time_ns():
                    return None
                if holder is not None:  # lapsed; otherwise released since
                    self._objects.delete_object(lease_key(key))
                continue
            if not self._is_held(lease):
                return None  # another one replaced the same lapsed lease
            self._keep(lease)
            return lease
        return None

    def release(self, lease: ObjectLease) -> None:
        """Stop renewing a lease, and remove it if it is still this holder's."""
        with self._changed:
            self._held.pop(lease.token, None)
            self._changed.notify_all()
        with lease.lock:
            if lease.released:
                return
            lease.released = True
            try:
                if self._is_held(lease):
                    self._objects.delete_object(lease_key(lease.key))
            except StorageError as exc:
                logger.warning("the lease on %s is left to lapse: %s", lease.key, exc)

    def _keep(self, lease: ObjectLease) -> None:
        with self._changed:
            self._held[lease.token] = lease
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._renew_all, name="fluxforge-leases", daemon=True
                )
                self._thread.start()

    def _renew_all(self) -> None:
        due = time.monotonic() + self._seconds / _RENEWALS_PER_LEASE
        while True:
            with self._changed:
                if not self._held:
                    self._thread = None
                    return
                if (wait := due - time.monotonic()) > 0:
                    self._changed.wait(wait)
                    continue
                leases = list(self._held.values())
            due = time.monotonic() + self._seconds / _RENEWALS_PER_LEASE
            for lease in leases:
                self._renew(lease)

    def _renew(self, lease: ObjectLease) -> None:
        with lease.lock:
            if lease.released:
                return
            try:
                if lease.expires_ns <= time.time_ns() and not self._is_held(lease):
                    logger.warning("the lease on %s lapsed and went to another holder", lease.key)
                    lease.released = True
                    with self._changed:
                        self._held.pop(lease.token, None)
                    return
                self._write(lease, exclusive=False)
            except Exception as exc:  # whatever it is, the other leases need this thread
                logger.warning("the lease on %s could not be renewed: %s", lease.key, exc)

    def _is_held(self, lease: ObjectLease) -> bool:
        return self._read(lease.key)[0] == lease.token

    def _write(self, lease: ObjectLease, *, exclusive: bool) -> None:
        expires_ns = time.time_ns() + int(self._seconds * 1e9)
        owner = f"{socket.gethostname()}/{os.getpid()}"
        content = {"owner": owner, "token": lease.token, "expires_ns": expires_ns}
        data = json.dumps(content).encode()
        self._objects.put_object(lease_key(lease.key), data, exclusive=exclusive)
        lease.expires_ns = expires_ns

    def _read(self, key: str) -> tuple[str | None, int]:
        """Return a lease's token and end; one that cannot be read counts as lapsed."""
        try:
            content = json.loads(self._objects.get_object(lease_key(key)))
            return str(content["token"]), int(content["expires_ns"])
        except FileMissingError:
            return None, 0
        except (ValueError, KeyError, TypeError):
            return "", 0
