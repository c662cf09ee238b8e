from __future__ import annotations

import inspect

import pytest

from fluxforge import errors
from fluxforge.etl.report import SegmentsFailedError

TREE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_one_except_clause_catches_everything(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.FluxForgeError)
    assert kind.__doc__


def test_the_tree_drawn_in_the_module_names_every_error() -> None:
    drawn = set((errors.__doc__ or "").split())
    assert {kind.__name__ for kind in TREE} <= drawn


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_a_wrong_request_exits_with_2_and_failed_work_with_1(
    kind: type[errors.FluxForgeError],
) -> None:
    assert kind.exit_code == (2 if issubclass(kind, errors.UsageError) else 1)


def test_a_missing_extra_says_what_to_install() -> None:
    error = errors.MissingExtraError("reading S3", "s3")
    assert "pip install 'fluxforge[s3]'" in str(error)


def test_failed_segments_are_a_segment_error() -> None:
    assert issubclass(SegmentsFailedError, errors.SegmentError)
