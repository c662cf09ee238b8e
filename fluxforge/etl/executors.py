"""Groups of segments on an executor, or in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluxforge.errors import FluxForgeError, SegmentError
from fluxforge.etl.work import GroupRows, SegmentGroup, transform_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor


def outcomes(
    groups: Sequence[SegmentGroup], executor: Executor | None
) -> Iterator[tuple[SegmentGroup, GroupRows | Exception]]:
    """Yield what each group became: its rows, or what is wrong with it or with its worker."""
    for group, result in [(group, _start(group, executor)) for group in groups]:
        try:
            yield group, result()
        except SegmentError as exc:
            yield group, exc
        except FluxForgeError:
            raise
        except Exception as exc:
            if executor is None:
                raise
            # Each executor has errors of its own for a worker that died.
            reason = str(exc) or type(exc).__name__
            message = f"the executor lost it ({reason}): start workers anew, and run it again"
            yield group, FluxForgeError(message)


def _start(group: SegmentGroup, executor: Executor | None) -> Callable[[], GroupRows]:
    if executor is None:
        return lambda: transform_group(group)
    try:
        return executor.submit(transform_group, group).result
    except Exception as exc:
        error = exc  # a pool that is broken for good; it is told in turn

        def lost() -> GroupRows:
            raise error

        return lost
