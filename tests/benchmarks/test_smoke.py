"""Every line of the benchmarks can be measured; nothing here judges a time."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import groups


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of ArcticDB over pandas
@pytest.mark.parametrize(
    "name",
    ["reading", "growth", "etl", "small", "capture", pytest.param("s3", marks=pytest.mark.s3)],
)
def test_every_line_can_be_measured(name: str) -> None:
    found = list(groups(1, small=True)[name]())
    assert found
    for line in found:
        assert line.values
        assert str(line).startswith(f"| {line.name} | {line.target} |")
