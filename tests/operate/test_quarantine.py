"""What no table could take, seen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fluxforge import Lake
from tests.test_cli import run_command

if TYPE_CHECKING:
    from pathlib import Path

LINES = b'{"capture_ns":1786309548000000000,"conn":"A","data":{"channel":"weather"}}\n\xffoops\n'


def test_each_line_is_shown_with_its_reason(tmp_path: Path) -> None:
    lake = Lake(path=tmp_path)
    name = "segment_20260809T21_00001.ndjson"
    lake.storage.write_bytes(f"raw/ready/coinbase/{name}", LINES)
    assert lake.etl("coinbase").lines_quarantined == 2
    lines = lake.quarantine("coinbase")
    assert lines["line"].to_list() == [1, 2]
    assert lines["content"].to_list()[1] == "\\xffoops"
    base = f"storage.base_dir={tmp_path}"
    (listed,) = json.loads(run_command("quarantine", "list", "--json", base, cwd=tmp_path).stdout)
    assert (listed["source"], listed["lines"], len(listed["reasons"])) == ("coinbase", 2, 2)
    words = ("quarantine", "show", "coinbase", listed["file"], "--json", base)
    shown = json.loads(run_command(*words, cwd=tmp_path).stdout)
    assert [one["reason"] for one in shown] == lines["reason"].to_list()
    wrong = run_command("quarantine", "show", "coinbase", "nothing", base, cwd=tmp_path)
    assert wrong.returncode == 2
    assert lake.quarantine().height == 2
    assert Lake(path=tmp_path / "empty").quarantine().height == 0
