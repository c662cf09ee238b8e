"""Writing to an object store while it answers, and into the spool while it does not.

A thread of its own, the carrier, does all that the object store is asked for. :meth:`Relay.append`
gives it a batch and waits a moment. Where the store fails or takes too long, the spool takes over:

- A batch that was being appended may be in the store or may not. It keeps its place: the carrier
  goes on trying to append it to the same part of the same journal, which settles the question. A
  note of it goes into the spool meanwhile, so that it is durable whatever happens.
- Every later batch goes into a segment of the spool.

When the store answers again, the carrier settles that batch, closes its segment, ships the closed
segments of the spool, and takes batches again. Nothing needs an order across segments: each line
carries its connection, its time and its number.

A collector that ends during an outage, or is killed, leaves notes and segments to the next one on
this machine, whose carrier settles and ships them.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from fluxforge.errors import JournalFencedError, StorageError, StorageUnavailableError
from fluxforge.ingestion.backoff import Backoff
from fluxforge.ingestion.segment_writer import FENCED_TRIES, Batch, SegmentWriter
from fluxforge.ingestion.spool.health import StoreHealth
from fluxforge.ingestion.spool.shipping import Shipper
from fluxforge.ingestion.spool.spool import Note, Place, Spool
from fluxforge.storage.object_journal import ObjectJournal

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluxforge.ingestion.claims import SegmentFolders
    from fluxforge.storage import Journal
    from fluxforge.storage.objects import ObjectStorage

logger = logging.getLogger(__name__)

T = TypeVar("T")

TAKEOVER_SECONDS = 3.0
"""How long an append may take before the spool takes over."""

CLOSE_PATIENCE_SECONDS = 10.0
"""How long a store that does not answer is waited for at the end."""

RETRY_SECONDS = 5.0
"""The longest pause between two attempts at a store that does not answer."""


@dataclass(eq=False)
class _Delivery:
    """A batch that the carrier has.

    Attributes
    ----------
    batch
        What to append.
    place
        Where; None until the first attempt begins.
    is_kept
        Whether the spool has it too, or is about to: it must not go to another place then.
    note
        That copy.
    is_done, is_stored
        Whether its outcome is known, and what it is.
    """

    batch: Batch
    place: Place | None = None
    is_kept: bool = False
    note: Note | None = None
    is_done: bool = False
    is_stored: bool = False


class Relay:
    """Makes batches durable, in the store or in the spool.

    Everything but the properties is called from one thread at a time.

    Parameters
    ----------
    store, folders
        Where segments belong.
    segments
        Writes to the store; only the carrier touches it.
    spool
        Where lines wait.
    source_name
        The exchange; for messages.

    Attributes
    ----------
    left_frames
        Frames that :meth:`close` had to leave in the spool.
    """

    def __init__(
        self,
        store: ObjectStorage,
        folders: SegmentFolders,
        segments: SegmentWriter,
        spool: Spool,
        source_name: str,
    ) -> None:
        self.left_frames = 0
        self._store = store.get_full_path()
        self._segments = segments
        self._spool = spool
        self._shipper = Shipper(store, folders, spool, source_name)
        self._source_name = source_name
        self._takes_everything = False
        self._backoff = Backoff(cap=RETRY_SECONDS)

        self._changed = threading.Condition()  # guards what follows
        self._carrier: threading.Thread | None = None
        self._delivery: _Delivery | None = None
        self._spooling = False  # whether new batches go into the spool
        self._health = StoreHealth(source_name, self._store, spool.path)
        self._in_bulk = False  # whether the carrier is at what may rightly take its time
        self._awake = False
        self._finishing = False
        self._finished = False
        self._leaving = False

    @property
    def segments(self) -> int:
        """Segments put into the ready folder, those from the spool included."""
        return self._segments.segments + self._shipper.segments

    # The caller's side

    def append(self, batch: Batch) -> None:
        """Make a batch durable.

        Raises
        ------
        SpoolFullError
            If the store does not answer and the spool is full.
        StorageError
            If the store refuses for a reason that does not pass by itself, or the spool's disk
            does. After any error only the same batch may follow; it will be there once.
        """
        match self._hand_over(batch):
            case None:
                self._spool.append(batch, bounded=not self._takes_everything)
            case Place() as place:
                self._keep(batch, place)
            case "stored":
                pass

    def _hand_over(self, batch: Batch) -> Literal["stored"] | Place | None:
        """Give a batch to the carrier, and wait a moment.

        Returns
        -------
        "stored", Place or None
            A place is where it may be, or may come to be: the spool keeps it, with a note of that
            place. None: it is nowhere, and the spool's to take.
        """
        with self._changed:
            if not self._start():
                return None
            if not self._takes_everything:
                self._health.raise_refusal()
            if self._delivery is None and not self._spooling:
                self._delivery = _Delivery(batch)
                self._wake()
            delivery = self._delivery
            if delivery is None or delivery.batch is not batch:
                return None  # the store does not answer, and an earlier batch waits for it
            self._changed.wait_for(
                lambda: delivery.is_done or self._spooling or self._health.refusal,
                TAKEOVER_SECONDS,
            )
            if delivery.is_done:
                self._delivery = None
                return "stored" if delivery.is_stored else None
            if not self._takes_everything:
                self._health.raise_refusal()  # the carrier goes on; the same batch comes again
            self._begin_spooling()
            if delivery.place is None:
                self._delivery = None  # taken back: nothing of it was sent
                return None
            delivery.is_kept = True
            return delivery.place

    def _keep(self, batch: Batch, place: Place) -> None:
        """Write a note of a batch whose outcome is open, or was a moment ago."""
        note = self._spool.write_note(place, batch.data, bounded=not self._takes_everything)
        with self._changed:
            delivery = self._delivery
            if delivery is not None and delivery.is_done:
                self._delivery = None
                self._put_away(note, stored=delivery.is_stored)
            elif delivery is not None:
                delivery.note = note

    def _begin_spooling(self) -> None:
        if self._spooling:
            return
        self._spooling = True
        if self._in_bulk:
            logger.info("%s: holding frames in %s for a while", self._source_name, self._spool.path)
        else:
            self._health.be_late(TAKEOVER_SECONDS)

    def take_everything(self) -> None:
        """Let the spool's bound and the store's refusals not count any more, until the close.

        What is still in memory is less than what the bound allows by far, and would be lost.
        """
        self._takes_everything = True

    def tend(self) -> None:
        """Rotate where it is due, and ship what waits, though nothing new has come."""
        self._spool.tend()
        with self._changed:
            if (self._carrier is not None or self._spool.size) and self._start():
                self._wake()

    def rotate(self) -> None:
        """Close the segments of the store and of the spool, and ship all that waits.

        Raises
        ------
        StorageError
            If the store does not answer, or refuses; all is durable, and is tried again.
        """
        self._finished = False
        self._spool.rotate()
        with self._changed:
            if not self._start():
                raise StorageUnavailableError(f"{self._store} does not answer")
            self._finishing, self._health.refusal = True, None
            self._wake()
            began = time.monotonic()
            try:
                while not self._finished:
                    self._health.raise_refusal()
                    self._changed.wait(self._health.time_left(began, CLOSE_PATIENCE_SECONDS))
            finally:
                self._finishing = False

    def close(self) -> None:
        """Ship all that waits and end; a store that does not answer is no error.

        What cannot be shipped stays in the spool, for the next capture on this machine.

        Raises
        ------
        StorageError
            If the store refuses for a reason that does not pass by itself, or the spool's disk
            does; nothing is lost.
        """
        try:
            self.rotate()
        except StorageUnavailableError as exc:
            self._tell_what_is_left(exc)
        except BaseException as exc:
            self._tell_what_is_left(exc)
            raise
        finally:
            self._leave()
        if self._carrier is not None and self._finished:
            self._carrier.join()
            self._spool.remove_if_empty()

    def abandon(self) -> None:
        """Let go of everything; what is durable is found by the next recovery."""
        self._leave()
        self._spool.abandon()

    def _leave(self) -> None:
        with self._changed:
            self._leaving = True
            self._takes_everything = False
            delivery, self._delivery = self._delivery, None
            if delivery is not None and delivery.note is not None:
                delivery.note.lease.release()
            self._changed.notify_all()

    def _tell_what_is_left(self, error: BaseException) -> None:
        with suppress(StorageError):  # the count matters less than the error
            self.left_frames = self._spool.count_frames()
        logger.warning(
            "%s: %s; %s frames wait in %s, and the next capture on this machine stores them",
            self._source_name,
            error,
            f"{self.left_frames:,}",
            self._spool.path,
        )

    def _start(self) -> bool:
        """Make sure that there is a carrier; not while one that was let go is still at a call."""
        if self._carrier is not None and self._carrier.is_alive():
            return not self._leaving
        self._leaving = self._spooling = False
        self._health.forget()
        self._carrier = threading.Thread(
            target=self._carry, name=f"{self._source_name} carrier", daemon=True
        )
        self._carrier.start()
        return True

    def _wake(self) -> None:
        self._awake = True
        self._changed.notify_all()

    # The carrier's side

    def _carry(self) -> None:
        """Do what there is to do, until this is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._awake or self._leaving)
                if self._leaving:
                    break
                self._awake = False
            try:
                while not self._leaving and self._step():
                    pass
            except Exception as exc:  # whatever it is, the caller has to hear of it
                self._fail(exc)
            else:
                with self._changed:
                    self._finished = self._finishing and not self._awake
                    self._changed.notify_all()
        self._segments.abandon()

    def _step(self) -> bool:
        """Do what is most urgent; False where there is nothing to do."""
        delivery = self._delivery
        if delivery is not None and delivery.place is not None and not delivery.is_done:
            self._deliver(delivery)
        elif self._end_segment():
            self._at_length(self._segments.seal_ended)
        elif self._at_length(self._shipper.ship_next):
            pass
        elif self._spool.is_open and (self._health.is_failing or not self._spooling):
            self._spool.rotate()
            return True  # and see whether it can be shipped
        elif self._spooling:
            self._end_spooling()
            return True
        elif delivery is not None and not delivery.is_done:
            self._deliver(delivery)
        else:
            return False
        self._succeed()
        return True

    def _at_length(self, work: Callable[[], T]) -> T:
        """Do what may take long without anything being wrong."""
        self._in_bulk = True
        try:
            return work()
        finally:
            self._in_bulk = False

    def _end_segment(self) -> bool:
        """End the store's segment where it is time; tell whether one is to be closed."""
        if self._finishing:
            self._segments.end()
        elif self._spooling:
            if self._segments.has_content:
                self._segments.end()
        else:
            self._segments.rotate_if_due()
        return self._segments.has_ended

    def _end_spooling(self) -> None:
        """Take batches again; the last segment of the spool is shipped before them."""
        with self._changed:
            self._spooling = False

    def _deliver(self, delivery: _Delivery) -> None:
        for _ in range(FENCED_TRIES):
            if delivery.place is None and not self._claim(delivery, self._segments.open()):
                return
            if self._segments.try_append(delivery.batch.data):
                self._complete(delivery, stored=True)
                return
            with self._changed:
                if not delivery.is_kept:
                    delivery.place = None  # and on to a new segment
                    continue
            self._complete(delivery, stored=False)
            return
        raise JournalFencedError(
            f"{self._source_name}: {FENCED_TRIES} segments in a row were taken over by another "
            "collector: look whether two machines' clocks disagree"
        )

    def _claim(self, delivery: _Delivery, journal: Journal) -> bool:
        """Settle where a batch goes; False if it was taken back meanwhile."""
        if not isinstance(journal, ObjectJournal):
            raise TypeError(f"{journal!r} has no numbered parts")
        with self._changed:
            if delivery is not self._delivery:
                return False
            delivery.place = Place(journal.key, journal.next_part)
            return True

    def _complete(self, delivery: _Delivery, *, stored: bool) -> None:
        with self._changed:
            delivery.is_done, delivery.is_stored = True, stored
            if delivery is self._delivery and delivery.note is not None:
                self._delivery = None
                self._put_away(delivery.note, stored=stored)
            self._changed.notify_all()

    def _put_away(self, note: Note, *, stored: bool) -> None:
        """Remove the note of a batch that is stored; leave another's to the carrier to ship."""
        if stored:
            with suppress(StorageError):  # then it is settled once more
                self._spool.drop_note(note)
        note.lease.release()

    def _succeed(self) -> None:
        with self._changed:
            self._health.succeed()
            self._backoff.reset()
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        """Tell the caller, and wait before the next attempt."""
        with self._changed:
            self._health.fail(error)
            self._spooling = self._spooling or isinstance(error, StorageUnavailableError)
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._leaving or (self._finishing and self._awake),
                self._backoff.next_delay(),
            )
            self._awake = True
