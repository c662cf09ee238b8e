"""A coroutine that says so where it was not awaited."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class Awaited(Coroutine[Any, Any, T]):
    """Runs a coroutine function once it is awaited; until then it is only a promise to."""

    def __init__(self, call: str, start: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._call = call
        self._start = start
        self._running: Coroutine[Any, Any, T] | None = None
        self._closed = False

    def _coroutine(self) -> Coroutine[Any, Any, T]:
        if self._running is None:
            self._running = self._start()
        return self._running

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine().__await__()

    def send(self, value: Any) -> Any:
        """Run it on."""
        return self._coroutine().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error inside."""
        return self._coroutine().throw(*error)

    def close(self) -> None:
        """End it."""
        self._closed = True
        if self._running is not None:
            self._running.close()

    def __repr__(self) -> str:
        if self._running is None:
            return f"nothing has been started: write 'await {self._call}'"
        return repr(self._running)

    def __del__(self) -> None:
        if self._running is None and not self._closed:
            message = f"{self._call} was not awaited: nothing has been done"
            warnings.warn(message, RuntimeWarning, stacklevel=2)


def awaited(
    call: str,
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Let a coroutine method's result tell how it is called, where it is not awaited."""

    def decorate(
        method: Callable[P, Coroutine[Any, Any, T]],
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        @wraps(method)
        def promise(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
            return Awaited(call, lambda: method(*args, **kwargs))

        return promise

    return decorate
