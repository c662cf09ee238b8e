"""The files of a Delta log: their names, and the little of their content that a copy must know.

A log is a folder of numbered commits, each a file of JSON lines that add and remove data files.
A checkpoint holds everything up to its version, so that readers need not begin at the first.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fluxforge.storage.base import StoredFile

LOG = "_delta_log"
LAST_CHECKPOINT = "_last_checkpoint"

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet")
_MOVE = "MOVE TABLE"
_NOBODY = 99  # a version of the format that nobody reads or writes


def commit_name(version: int) -> str:
    """Name the commit of a version.

    Examples
    --------
    >>> commit_name(7)
    '00000000000000000007.json'
    """
    return f"{version:020}.json"


@dataclass(frozen=True)
class TableLog:
    """What a listing of a table's log shows.

    Attributes
    ----------
    commits
        The commits, by version, ascending.
    checkpoints
        The files of each checkpoint that is whole, by version, ascending.
    """

    commits: Mapping[int, StoredFile]
    checkpoints: Mapping[int, tuple[StoredFile, ...]]

    @classmethod
    def of(cls, files: Iterable[StoredFile]) -> TableLog:
        """Sort the files of a log folder; those of other kinds are left out."""
        commits: dict[int, StoredFile] = {}
        checkpoints: dict[int, list[StoredFile]] = {}
        parts: dict[int, int] = {}
        for file in files:
            if match := _COMMIT.fullmatch(file.name):
                commits[int(match[1])] = file
            elif match := _CHECKPOINT.fullmatch(file.name):
                checkpoints.setdefault(int(match[1]), []).append(file)
                parts[int(match[1])] = int(match[3] or 1)
        return cls(
            commits=dict(sorted(commits.items())),
            checkpoints={
                version: tuple(files)
                for version, files in sorted(checkpoints.items())
                if len(files) == parts[version]
            },
        )

    def until(self, version: int) -> TableLog:
        """Return the log as it was when this version was the newest."""
        return TableLog(
            {number: file for number, file in self.commits.items() if number <= version},
            {number: files for number, files in self.checkpoints.items() if number <= version},
        )

    @property
    def newest(self) -> int:
        """The greatest version that has a commit; -1 where there is none."""
        return max(self.commits, default=-1)

    @property
    def oldest(self) -> int:
        """The least version that has a commit; 0 where there is none."""
        return min(self.commits, default=0)


@dataclass(frozen=True)
class CommitFiles:
    """The data files that one commit adds and removes, relative to the table."""

    added: frozenset[str]
    removed: frozenset[str]

    @classmethod
    def parse(cls, data: bytes) -> CommitFiles:
        r"""Read a commit.

        Raises
        ------
        ValueError
            If it is not one.

        Examples
        --------
        >>> sorted(CommitFiles.parse(b'{"add":{"path":"a%20b.parquet"}}\n').added)
        ['a b.parquet']
        """
        paths: dict[str, set[str]] = {"add": set(), "remove": set()}
        for line in data.splitlines():
            for kind, action in json.loads(line).items() if line.strip() else ():
                if kind in paths:
                    paths[kind].add(unquote(action["path"]))
        return cls(frozenset(paths["add"]), frozenset(paths["remove"]))


def closing_commit(destination: str) -> bytes:
    """Return a commit after which no program reads or writes the table any more.

    It asks for a version of the format that does not exist, which every reader and writer must
    refuse. Whoever is about to commit finds the place taken and refuses too.
    """
    actions = (
        {"commitInfo": {"operation": _MOVE, "operationParameters": {"to": destination}}},
        {"protocol": {"minReaderVersion": _NOBODY, "minWriterVersion": _NOBODY}},
    )
    return b"".join(json.dumps(action).encode() + b"\n" for action in actions)


def moved_to(data: bytes) -> str | None:
    """Return where a table is being moved if this is its closing commit, else None.

    Examples
    --------
    >>> moved_to(closing_commit("s3://lake/processed/coinbase/ticker"))
    's3://lake/processed/coinbase/ticker'
    >>> moved_to(b'{"commitInfo":{"operation":"WRITE"}}') is None
    True
    """
    try:
        info = json.loads(data.split(b"\n", 1)[0]).get("commitInfo", {})
        if info.get("operation") == _MOVE:
            return str(info["operationParameters"]["to"])
    except (ValueError, KeyError, AttributeError):
        return None
    return None
