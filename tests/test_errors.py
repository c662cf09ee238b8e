from __future__ import annotations

import gc
import inspect
import weakref
from contextlib import suppress

import pytest

from fluxforge import errors
from fluxforge.etl.report import SegmentsFailedError

TREE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
    and issubclass(kind, Exception)
    and not issubclass(kind, Warning)
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
    error = errors.MissingExtraError("reading S3", "s3fs")
    assert str(error) == "reading S3 needs an optional package: pip install s3fs"


def test_failed_segments_are_a_segment_error() -> None:
    assert issubclass(SegmentsFailedError, errors.SegmentError)


class TestTranslations:
    TABLE = (
        errors.Translation(FileNotFoundError, errors.FileMissingError, "there is no file {what}"),
        errors.Translation(OSError, errors.StorageFullError, "{what} is full", "No space left"),
        errors.Translation(
            (OSError, ValueError),
            errors.AccessDeniedError,
            "no permission for {what} in {bucket} ({reason})",
            lambda error: getattr(error, "errno", None) == 13,
        ),
    )

    @pytest.mark.parametrize(
        ("error", "kind", "message"),
        [
            (FileNotFoundError(2, "No such file"), errors.FileMissingError, "there is no file a/b"),
            (OSError("Generic:\n no space left"), errors.StorageFullError, "a/b is full"),
            (
                PermissionError(13, "Permission denied"),
                errors.AccessDeniedError,
                "no permission for a/b in lake (Permission denied)",
            ),
        ],
    )
    def test_the_first_row_that_fits_decides(
        self, error: Exception, kind: type[Exception], message: str
    ) -> None:
        with (
            pytest.raises(kind) as caught,
            errors.translated(self.TABLE, "a/b", bucket="lake"),
        ):
            raise error
        assert str(caught.value) == message
        assert caught.value.__cause__ is error

    @pytest.mark.parametrize("error", [ValueError("odd"), errors.TableError("ours")])
    def test_what_no_row_fits_and_what_is_ours_already_goes_on_as_it_is(
        self, error: Exception
    ) -> None:
        with (
            pytest.raises(type(error)) as caught,
            errors.translated(self.TABLE, "a/b", bucket="lake"),
        ):
            raise error
        assert caught.value is error

    def test_what_a_failed_function_held_is_free_at_once(self) -> None:
        held: list[weakref.ref[set[int]]] = []

        def fail() -> None:
            lines = {1}
            held.append(weakref.ref(lines))
            with errors.translated(self.TABLE, "a/b"):
                raise FileNotFoundError(2, "No such file")

        gc.disable()
        try:
            with suppress(errors.FileMissingError):
                fail()
            assert held[0]() is None
        finally:
            gc.enable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pl\u00e4in text", "pl\u00e4in text"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\r\nb\x00", "a\\r\\nb\\x00"),
        ("\u202egnirts", "\\u202egnirts"),
        ("\udcff", "\\udcff"),
    ],
)
def test_no_text_can_steer_a_terminal(text: str, shown: str) -> None:
    assert errors.printable(text) == shown


def test_no_text_can_fill_a_terminal() -> None:
    assert len(errors.printable("x" * 10_000)) == 301
    assert len(errors.reason_of(ValueError("x" * 10_000))) == 301


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert str(errors.UsageError("BTC\x1b[2J\x00\nand more")) == "BTC\\x1b[2J\\x00\nand more"
