"""Whether an object store answers, and what there is to say about it."""

from __future__ import annotations

import logging
import time

from fluxforge.errors import StorageError, StorageUnavailableError

logger = logging.getLogger(__name__)


class StoreHealth:
    """What is known of a store from what became of the requests to it.

    Parameters
    ----------
    source_name, store, spool
        The exchange, the place that is asked and the one that stands in; for messages.

    Attributes
    ----------
    refusal
        An error that waiting does not cure, until a request succeeds.
    """

    def __init__(self, source_name: str, store: str, spool: str) -> None:
        self.refusal: Exception | None = None
        self._source_name = source_name
        self._store = store
        self._spool = spool
        self._failing_since: float | None = None
        self._answered_at = 0.0

    @property
    def is_failing(self) -> bool:
        """Whether the store failed, or was late, since it last did what it was asked for."""
        return self._failing_since is not None

    def succeed(self) -> None:
        """Take note of something that the store has done."""
        self._answered_at = time.monotonic()
        if self._failing_since is not None:
            logger.warning(
                "%s: %s answers again after %.1f s, nothing lost",
                self._source_name,
                self._store,
                self._answered_at - self._failing_since,
            )
        self.forget()

    def fail(self, error: Exception) -> None:
        """Take note of an error; all but a store that does not answer are refusals."""
        self._begin_to_fail(str(error))
        if not isinstance(error, StorageUnavailableError):
            self.refusal = error

    def be_late(self, seconds: float) -> None:
        """Take note of a request that takes longer than it should."""
        self._begin_to_fail(f"{self._store} takes more than {seconds:g} s")

    def _begin_to_fail(self, reason: str) -> None:
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            logger.warning("%s: %s; holding frames in %s", self._source_name, reason, self._spool)

    def forget(self) -> None:
        """Hope for the best again."""
        self._failing_since = self.refusal = None

    def raise_refusal(self) -> None:
        """Raise what the store refused with, if it does."""
        refusal = self.refusal
        if isinstance(refusal, StorageError):
            raise type(refusal)(str(refusal)) from refusal
        if refusal is not None:
            raise refusal

    def time_left(self, began: float, patience: float) -> float | None:
        """Return how long to wait; without limit for a store that works, however slowly.

        Parameters
        ----------
        began
            When the wait began, by the monotonic clock.
        patience
            Seconds that it may take, counted anew whenever the store does something.

        Raises
        ------
        StorageUnavailableError
            If the time is over.
        """
        if self._failing_since is None:
            return None
        left = max(began, self._answered_at) + patience - time.monotonic()
        if left <= 0:
            raise StorageUnavailableError(f"{self._store} does not answer")
        return left
