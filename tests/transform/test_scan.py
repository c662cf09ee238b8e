"""A segment's bytes, looked at beside the parser."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxforge.transform import scan
from fluxforge.transform.scan import Scan

if TYPE_CHECKING:
    from pathlib import Path

VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='ab":,e-1{}]\\ '),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz"), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.text("abc"), VALUES, max_size=3)), st.integers(1, 40))
def test_what_is_counted_is_what_is_there(
    tmp_path: Path, lines: list[dict[str, object]], chunk: int
) -> None:
    path = tmp_path / "segment"
    content = "\n".join(json.dumps(line, separators=(",", ":")) for line in lines).encode()
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_CHUNK", chunk)
        found = Scan.of(path)
    assert found.digest == hashlib.sha256(content).hexdigest()[:32]
    assert (found.size, found.lines) == (len(content), len(lines))
    assert found.keys == content.count(b'":')
    assert Scan.of(path) == found


@pytest.mark.parametrize(
    ("line", "doubtful"),
    [
        ('{"id":"1e-1234-5","n":1e-12,"m":[1e-99,2]}', False),
        ('{"n":1e-400}', True),
        ('{"n":[2.5E-309 ]}', True),
        ('{"n":[1,]}', True),
        ('{"n":1 ,\t }', True),
        ('{"n":", }"}', True),  # it is read again with care, which tells the difference
    ],
)
def test_what_the_parser_lets_pass_is_doubtful_wherever_it_stands(
    tmp_path: Path, line: str, doubtful: bool
) -> None:
    path = tmp_path / "segment"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_CHUNK", 64)
        for before in range(80):
            path.write_text(f'{{"pad":"{"x" * before}"}}\n{line}\n')
            assert Scan.of(path).doubtful is doubtful, before
