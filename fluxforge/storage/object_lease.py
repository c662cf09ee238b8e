"""Leases on an object store: objects that say who holds a key, and until when.

A lease is created exclusively beside its key and rewritten while its holder lives. A holder that
dies stops rewriting it, and it lapses. Clocks of two machines may differ and a lapsed lease may be
replaced twice, so a lease only saves work: what must happen once is decided elsewhere, by a
journal's numbered parts and by commits.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from fluxforge.errors import FileExistsAlreadyError, FileMissingError, StorageError
from fluxforge.storage.base import Lease, lease_key

if TYPE_CHECKING:
    from fluxforge.storage.objects import ObjectStorage

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""How long a lease outlives a holder that died without releasing it."""

_RENEWALS_PER_LEASE = 4
_ACQUIRE_ATTEMPTS = 5


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
    """The leases that one storage holds, and the one thread that renews them.

    Parameters
    ----------
    storage
        Where the leases lie.
    seconds
        How long each lease lasts after it was last renewed.
    """

    def __init__(self, storage: ObjectStorage, seconds: float) -> None:
        self._storage = storage
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
                holder = self._read(key)
                if holder is None:
                    continue  # released since
                if holder["expires_ns"] > time.time_ns():
                    return None
                self._storage.delete_object(lease_key(key))
                continue
            holder = self._read(key)
            if holder is None or holder["token"] != lease.token:
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
                holder = self._read(lease.key)
                if holder is not None and holder["token"] == lease.token:
                    self._storage.delete_object(lease_key(lease.key))
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
                if lease.expires_ns <= time.time_ns() and self._is_lost(lease):
                    logger.warning("the lease on %s lapsed and went to another holder", lease.key)
                    lease.released = True
                    with self._changed:
                        self._held.pop(lease.token, None)
                    return
                self._write(lease, exclusive=False)
            except Exception as exc:  # whatever it is, the other leases need this thread
                logger.warning("the lease on %s could not be renewed: %s", lease.key, exc)

    def _is_lost(self, lease: ObjectLease) -> bool:
        holder = self._read(lease.key)
        return holder is None or holder["token"] != lease.token

    def _write(self, lease: ObjectLease, *, exclusive: bool) -> None:
        expires_ns = time.time_ns() + int(self._seconds * 1e9)
        content = {
            "owner": f"{socket.gethostname()}/{os.getpid()}",
            "token": lease.token,
            "expires_ns": expires_ns,
        }
        data = json.dumps(content).encode()
        self._storage.put_object(lease_key(lease.key), data, exclusive=exclusive)
        lease.expires_ns = expires_ns

    def _read(self, key: str) -> dict[str, Any] | None:
        """Return what a lease says; one that cannot be read counts as lapsed."""
        try:
            data = self._storage.read_object(lease_key(key))
        except FileMissingError:
            return None
        try:
            content = json.loads(data)
            return {"token": str(content["token"]), "expires_ns": int(content["expires_ns"])}
        except (ValueError, KeyError, TypeError):
            return {"token": "", "expires_ns": 0}
