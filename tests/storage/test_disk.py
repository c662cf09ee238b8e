from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from fluxforge.errors import (
    AccessDeniedError,
    FileExistsAlreadyError,
    FileMissingError,
    StorageError,
    StorageFullError,
    TableError,
)
from fluxforge.storage.disk import (
    LockFile,
    rename_exclusively,
    sync_directory,
    sync_file,
    translated,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, FileMissingError),
        (errno.EEXIST, FileExistsAlreadyError),
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EFBIG, StorageFullError),
        (errno.EACCES, AccessDeniedError),
        (errno.EPERM, AccessDeniedError),
        (errno.EROFS, AccessDeniedError),
        (errno.EIO, StorageError),
        (errno.ESTALE, StorageError),
    ],
)
def test_the_systems_errors_become_our_own(number: int, kind: type[StorageError]) -> None:
    original = OSError(number, os.strerror(number))
    with pytest.raises(kind, match="raw/x") as caught, translated("raw/x"):
        raise original
    assert type(caught.value) is kind
    assert caught.value.__cause__ is original


def test_an_error_of_our_own_passes_as_it_is() -> None:
    original = TableError("x")
    with pytest.raises(TableError) as caught, translated("raw/x"):
        raise original
    assert caught.value is original


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), translated("raw/x"):
        raise ZeroDivisionError


def test_syncing_works_on_files_and_folders(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.write(b"abc")
        sync_file(file)
    sync_directory(tmp_path)
    assert (tmp_path / "x").read_bytes() == b"abc"


class TestRename:
    def test_it_moves(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"1")
        rename_exclusively(tmp_path / "a", tmp_path / "b")
        assert not (tmp_path / "a").exists()
        assert (tmp_path / "b").read_bytes() == b"1"

    def test_it_never_replaces(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"1")
        (tmp_path / "b").write_bytes(b"2")
        with pytest.raises(FileExistsError):
            rename_exclusively(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "a").read_bytes() == b"1"
        assert (tmp_path / "b").read_bytes() == b"2"

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows renames in one step")
    def test_a_rename_that_a_crash_cut_short_is_completed(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"1")
        os.link(tmp_path / "a", tmp_path / "b")
        rename_exclusively(tmp_path / "a", tmp_path / "b")
        assert not (tmp_path / "a").exists()
        assert (tmp_path / "b").read_bytes() == b"1"

    def test_a_source_that_is_gone_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            rename_exclusively(tmp_path / "a", tmp_path / "b")

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows renames in one step")
    @pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
    def test_a_disk_without_hard_links(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(number, "no links here")

        monkeypatch.setattr(os, "link", refuse)  # no such disk can be mounted in a test
        (tmp_path / "a").write_bytes(b"1")
        rename_exclusively(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "b").read_bytes() == b"1"
        (tmp_path / "c").write_bytes(b"3")
        with pytest.raises(FileExistsError):
            rename_exclusively(tmp_path / "c", tmp_path / "b")
        assert (tmp_path / "b").read_bytes() == b"1"

    def test_of_many_that_rename_to_one_name_one_wins(self, tmp_path: Path) -> None:
        script = textwrap.dedent("""
            import sys
            from pathlib import Path
            from fluxforge.storage.disk import rename_exclusively
            me, rounds, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
            for number in range(rounds):
                source = folder / f"{me}-{number}"
                source.write_text(me)
                try:
                    rename_exclusively(source, folder / f"target-{number}")
                except FileExistsError:
                    source.unlink()
        """)
        rounds = 200
        workers = [
            subprocess.Popen([sys.executable, "-c", script, str(me), str(rounds), str(tmp_path)])
            for me in range(3)
        ]
        assert [worker.wait(timeout=60) for worker in workers] == [0, 0, 0]
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == sorted(f"target-{number}" for number in range(rounds))


HOLDER = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from fluxforge.storage.disk import LockFile
    lock = LockFile.acquire(Path(sys.argv[1]))
    print("held" if lock else "refused", flush=True)
    time.sleep(60 if lock else 0)
""")


class TestLockFile:
    def test_one_holder_at_a_time(self, tmp_path: Path) -> None:
        path = tmp_path / ".lease"
        lock = LockFile.acquire(path)
        assert lock is not None
        assert LockFile.acquire(path) is None
        lock.release()
        again = LockFile.acquire(path)
        assert again is not None
        again.release()

    def test_releasing_twice_takes_nobody_elses_lock(self, tmp_path: Path) -> None:
        path = tmp_path / ".lease"
        first = LockFile.acquire(path)
        assert first is not None
        first.release()
        second = LockFile.acquire(path)
        assert second is not None
        first.release()
        assert LockFile.acquire(path) is None
        second.release()

    def test_nothing_is_left_behind(self, tmp_path: Path) -> None:
        lock = LockFile.acquire(tmp_path / ".lease")
        assert lock is not None
        lock.release()
        assert list(tmp_path.iterdir()) == []

    def test_a_living_process_keeps_it_and_a_killed_one_loses_it(self, tmp_path: Path) -> None:
        path = tmp_path / ".lease"
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None
            try:
                assert holder.stdout.readline().strip() == "held"
                assert LockFile.acquire(path) is None
            finally:
                holder.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
                holder.wait(timeout=30)
        lock = LockFile.acquire(path)  # the file is still there: only its lock is gone
        assert lock is not None
        lock.release()

    def test_a_file_that_somebody_removed_is_locked_anew(self, tmp_path: Path) -> None:
        path = tmp_path / ".lease"
        lock = LockFile.acquire(path)
        assert lock is not None
        if sys.platform != "win32":
            path.unlink()
            other = LockFile.acquire(path)
            assert other is not None
            other.release()
        lock.release()

    def test_a_missing_folder_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            LockFile.acquire(tmp_path / "nowhere" / ".lease")

    def test_never_two_holders_under_contention(self, tmp_path: Path) -> None:
        script = textwrap.dedent("""
            import os, sys
            from pathlib import Path
            from fluxforge.storage.disk import LockFile
            folder, taken = Path(sys.argv[1]), 0
            while taken < 150:
                lock = LockFile.acquire(folder / ".lease")
                if lock is None:
                    continue
                handle = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)  # fails for a second
                os.close(handle)
                os.unlink(folder / "inside")
                lock.release()
                taken += 1
        """)
        workers = [
            subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(3)
        ]
        assert [worker.wait(timeout=90) for worker in workers] == [0, 0, 0]
