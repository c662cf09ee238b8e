from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from fluxforge.errors import (
    AccessDeniedError,
    ConfigError,
    InvalidKeyError,
    StorageError,
    StorageUnavailableError,
)
from fluxforge.storage.s3 import S3Storage
from fluxforge.testing import StorageConformance, storage_machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluxforge.storage.base import StorageBackend
    from fluxforge.testing.s3_server import S3Server

pytestmark = pytest.mark.s3


class TestS3Storage(StorageConformance):
    @pytest.fixture
    def storage(self, make_s3: Callable[..., S3Storage], s3_server: S3Server) -> S3Storage:
        import s3fs

        self.make = make_s3
        self.raw: Any = s3fs.S3FileSystem(
            key=s3_server.access_key,
            secret=s3_server.secret_key,
            endpoint_url=s3_server.endpoint_url,
            use_listings_cache=False,
        )
        return make_s3()

    def put_raw(self, storage: StorageBackend, key: str, data: bytes) -> None:
        self.raw.pipe_file(f"{storage.base_path}/{key}", data)

    def get_raw(self, storage: StorageBackend, key: str) -> bytes:
        return bytes(self.raw.cat_file(f"{storage.base_path}/{key}"))

    def list_raw(self, storage: StorageBackend) -> list[str]:
        root = f"{storage.base_path}/"
        found = self.raw.find(root, detail=True).values()
        return sorted(file["name"].removeprefix(root) for file in found if file["type"] == "file")

    def reopen(self, storage: StorageBackend) -> StorageBackend:
        return self.make(prefix=storage.base_path.partition("/")[2])


def test_random_operations(make_s3: Callable[..., S3Storage]) -> None:
    run_state_machine_as_test(
        storage_machine(make_s3),
        settings=settings(
            max_examples=6,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


class TestListings:
    """Twenty pages or more with FLUXFORGE_LONG=1; without it two, of a hundred keys."""

    @pytest.mark.long
    def test_many_keys(
        self, make_s3: Callable[..., S3Storage], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage = make_s3()
        count = 20_000 if os.environ.get("FLUXFORGE_LONG") else 185
        call = storage._client.call_s3
        if count < 1000:
            monkeypatch.setattr(
                storage._client,
                "call_s3",
                lambda name, **words: call(
                    name, **words, **({"MaxKeys": 100} if "list" in name else {})
                ),
            )
        keys = [f"raw/ready/coinbase/{number:06d}" for number in range(count)]
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda key: storage.put_object(key, b""), keys))
        storage.put_object("raw/ready/coinbase/deeper/x", b"")
        storage.put_object("raw/ready/other/x", b"")
        assert storage.list_files("raw/ready/coinbase", recursive=False) == keys
        assert len(storage.list_entries()) == count + 2
        assert storage.list_folders("raw/ready") == ["coinbase", "other"]
        assert storage.list_folders("raw/ready/coinbase") == ["deeper"]
        assert storage.list_files("raw", "000177") == ["raw/ready/coinbase/000177"]

    def test_new_files_show_at_once(self, make_s3: Callable[..., S3Storage]) -> None:
        storage = make_s3()
        other = make_s3(prefix=storage.base_path.partition("/")[2])
        for number in range(5):
            assert len(storage.list_files("raw")) == number
            other.write_bytes(f"raw/{number}", b"")
            filesystem = storage.get_filesystem()
            assert len(filesystem.ls(storage.get_full_path("raw"))) == number + 1

    def test_a_consoles_folder_is_no_file(
        self, make_s3: Callable[..., S3Storage], s3_server: S3Server
    ) -> None:
        storage = make_s3()
        storage.get_filesystem().call_s3(
            "put_object",
            Bucket=s3_server.bucket,
            Key=storage.base_path.partition("/")[2] + "/raw/made by hand/",
            Body=b"",
        )
        assert storage.list_files() == []
        assert not storage.exists("raw")


class TestPrefixes:
    def test_prefixes_do_not_see_each_other(
        self, make_s3: Callable[..., S3Storage], s3_server: S3Server
    ) -> None:
        one, two = make_s3(prefix="tests/p/a"), make_s3(prefix="tests/p/ab")
        one.write_bytes("x", b"one")
        two.write_bytes("x", b"two")
        assert one.list_files() == ["x"]
        assert two.read_bytes("x") == b"two"
        assert one.get_full_path("x") == f"s3://{s3_server.bucket}/tests/p/a/x"
        assert one.base_path == f"{s3_server.bucket}/tests/p/a"
        outer = make_s3(prefix="tests/p")
        assert outer.list_files() == ["a/x", "ab/x"]
        assert outer.list_folders() == ["a", "ab"]

    def test_the_bucket_itself_may_be_the_root(
        self, make_s3: Callable[..., S3Storage], s3_server: S3Server
    ) -> None:
        storage = make_s3(prefix="")
        storage.write_bytes("at the root", b"x")
        assert storage.get_full_path("at the root") == f"s3://{s3_server.bucket}/at the root"
        assert "at the root" in storage.list_files(recursive=False)
        assert storage.read_bytes("at the root") == b"x"
        storage.delete("at the root")

    @pytest.mark.parametrize("prefix", ["../x", "/x", "a\\b"])
    def test_a_prefix_is_a_key(self, make_s3: Callable[..., S3Storage], prefix: str) -> None:
        with pytest.raises(InvalidKeyError):
            make_s3(prefix=prefix)


def test_a_file_replaced_while_it_is_read(
    make_s3: Callable[..., S3Storage], tmp_path: Path
) -> None:
    storage = make_s3()
    contents = [bytes([number]) * (9 << 20) for number in range(2)]
    storage.write_bytes("x", contents[0])
    with ThreadPoolExecutor(1) as pool:
        writes = pool.submit(lambda: [storage.write_bytes("x", contents[n % 2]) for n in range(8)])
        while not writes.done():
            assert storage.read_bytes("x") in contents
            assert storage.fetch("x", tmp_path).read_bytes() in contents
        writes.result()


async def test_it_works_inside_a_running_loop(make_s3: Callable[..., S3Storage]) -> None:
    storage = make_s3()
    storage.write_bytes("x", b"from the loop's own thread")
    assert storage.read_bytes("x") == b"from the loop's own thread"
    await asyncio.gather(
        *(asyncio.to_thread(storage.write_bytes, f"many/{number}", b"") for number in range(20))
    )
    assert len(storage.list_files("many")) == 20


class TestSettings:
    """What is wrong is said in one line that names what to change."""

    @pytest.mark.parametrize(
        ("changes", "error", "words"),
        [
            ({"bucket": "absent"}, StorageError, "no bucket 'absent' at http.*storage.base_dir"),
            ({"bucket": "Not_A_Bucket!"}, ConfigError, "is no bucket name"),
            ({"secret_access_key": "wrong"}, AccessDeniedError, "aws_secret_access_key"),
            ({"access_key_id": "wrong"}, AccessDeniedError, "aws_access_key_id"),
            ({"endpoint_url": "http://127.0.0.1:9"}, StorageUnavailableError, "cannot reach"),
        ],
    )
    def test_errors(
        self,
        make_s3: Callable[..., S3Storage],
        changes: dict[str, Any],
        error: type[Exception],
        words: str,
        tmp_path: Path,
    ) -> None:
        storage = make_s3(prefix="x", attempts=2, **changes)
        for call in (
            lambda: storage.read_bytes("x"),
            lambda: storage.write_bytes("x", b""),
            lambda: storage.list_files(),
            lambda: storage.exists("x"),
            lambda: storage.fetch("x", tmp_path),
        ):
            with pytest.raises(error, match=words) as raised:
                call()
            assert type(raised.value) is error
            assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"bucket": ""}, "needs a bucket"),
            ({"secret_access_key": None}, "go together"),
            ({"endpoint_url": "127.0.0.1:9000"}, "https://host:port"),
            ({"endpoint_url": "http://me:hunter2@127.0.0.1:9000"}, "no user or password"),
        ],
    )
    def test_contradictions(
        self, make_s3: Callable[..., S3Storage], changes: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(ConfigError, match=words) as raised:
            make_s3(**changes)
        assert "hunter2" not in str(raised.value)

    def test_credentials_may_come_from_the_environment(
        self,
        make_s3: Callable[..., S3Storage],
        s3_server: S3Server,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        none = {"access_key_id": None, "secret_access_key": None}
        with pytest.raises(AccessDeniedError, match="no usable AWS credentials"):
            make_s3(**none).list_files()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
        storage = make_s3(**none)
        storage.write_bytes("x", b"x")
        assert storage.list_files() == ["x"]
        options = storage.get_storage_options()
        assert options["AWS_ACCESS_KEY_ID"] == s3_server.access_key
        assert options["AWS_SECRET_ACCESS_KEY"] == s3_server.secret_key
        assert s3_server.secret_key not in repr(options)

    def test_without_s3fs(self) -> None:
        code = (
            "import sys; sys.modules['s3fs'] = None\n"
            "from fluxforge.errors import MissingExtraError\n"
            "try: import fluxforge.storage.s3\n"
            "except MissingExtraError as exc: print(exc)"
        )
        done = run_python(code)
        assert done.stdout.strip() == "S3 storage needs an optional package: pip install s3fs"


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


STORAGE = """
import json, sys
from fluxforge.storage.s3 import S3Storage
settings = json.loads(sys.argv[1])
storage = S3Storage(settings.pop("bucket"), settings.pop("prefix"), **settings)
"""


@pytest.fixture
def place(s3_server: S3Server, request: pytest.FixtureRequest) -> str:
    """Return what another process needs to make the same storage."""
    return json.dumps(
        {
            "bucket": s3_server.bucket,
            "prefix": f"tests/processes/{request.node.name}",
            "endpoint_url": s3_server.endpoint_url,
            "access_key_id": s3_server.access_key,
            "secret_access_key": s3_server.secret_key,
        }
    )


def open_place(place: str, **changes: Any) -> S3Storage:
    settings_ = json.loads(place) | changes
    return S3Storage(settings_.pop("bucket"), settings_.pop("prefix"), **settings_)


def test_a_process_ends_without_a_word(place: str) -> None:
    code = STORAGE + (
        "lease = storage.acquire_lease('active/x')\n"
        "storage.write_bytes('active/x', b'x', exclusive=True)\n"
        "storage.get_filesystem().ls(storage.get_full_path('active'))\n"
        "storage.read_bytes('y') if storage.exists('y') else None\n"
    )
    done = run_python(code, place)
    assert (done.stdout, done.stderr) == ("", "")


def test_of_several_processes_one_wins(place: str) -> None:
    code = STORAGE + (
        "from fluxforge.errors import FileExistsAlreadyError\n"
        "storage.exists('warm'); print('ready', flush=True); sys.stdin.readline()\n"
        "for number in range(4):\n"
        "    try: storage.write_bytes(f'claim/{number}', sys.argv[2].encode(), exclusive=True)\n"
        "    except FileExistsAlreadyError: print('lost')\n"
        "    else: print('won', number)\n"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, place, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    outputs = []
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        outputs.append(worker.communicate(timeout=60)[0])
        assert worker.returncode == 0
    won = [line.split()[1] for output in outputs for line in output.splitlines() if "won" in line]
    assert sorted(won) == ["0", "1", "2", "3"]
    storage = open_place(place)
    for number in range(4):
        winner = int(storage.read_bytes(f"claim/{number}"))
        assert f"won {number}" in outputs[winner]


class TestSecrets:
    """Nothing that prints holds a credential."""

    def test_nothing_shows_them(
        self,
        make_s3: Callable[..., S3Storage],
        s3_server: S3Server,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        logging.getLogger("s3fs").setLevel(logging.DEBUG)
        token = "token-that-no-log-may-hold"
        shown: list[str] = []
        cases: list[dict[str, Any]] = [
            {},
            {"secret_access_key": "secret-that-is-wrong"},
            {"endpoint_url": "http://127.0.0.1:9", "session_token": token},
        ]
        for changes in cases:
            storage = make_s3(attempts=2, **changes)
            shown += [repr(storage), str(storage), str(storage.get_filesystem())]
            shown += [repr(value) for value in vars(storage).values()]
            for call in (
                lambda storage=storage: storage.write_bytes("x", b"x"),
                lambda storage=storage: storage.list_files(),
                lambda storage=storage: storage.read_bytes("absent"),
                lambda storage=storage: storage.acquire_lease("x"),
                lambda storage=storage: storage.get_filesystem().ls(storage.get_full_path()),
            ):
                try:
                    call()
                except Exception:
                    shown.append(traceback.format_exc())
        shown.append(repr(s3_server))
        shown.append(caplog.text)
        assert "no bucket" not in caplog.text
        assert len(caplog.records) > 50
        assert sum("Traceback" in text for text in shown) > 10
        for secret in (s3_server.secret_key, token, "secret-that-is-wrong"):
            assert not [text for text in shown if secret in text]


class TestOtherLibraries:
    """Polars and deltalake with the options that the storage gives them."""

    def test_a_table_is_appended_to_from_threads(self, make_s3: Callable[..., S3Storage]) -> None:
        storage = make_s3(prefix="tests/tables")
        location = storage.get_full_path("processed/coinbase/trades")
        options = storage.get_storage_options()

        def append(number: int) -> None:
            frame = pl.DataFrame({"worker": [number] * 10, "price": [float(number)] * 10})
            for _ in range(20):
                try:
                    write_deltalake(
                        location, frame.to_arrow(), mode="append", storage_options=options
                    )
                    return
                except CommitFailedError:
                    continue

        append(0)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(append, range(1, 9)))
        table = DeltaTable(location, storage_options=options)
        assert table.version() == 8
        frame = pl.read_delta(location, storage_options=options)
        assert sorted(frame["worker"].unique()) == list(range(9))
        assert frame.height == 90
        lazy = pl.scan_parquet(f"{location}/*.parquet", storage_options=options)
        assert lazy.select(pl.col("price").sum()).collect().item() == frame["price"].sum()
        files = storage.list_files("processed/coinbase/trades", "*.parquet")
        assert len(files) == 9

    def test_arrow_reads_through_the_filesystem(self, make_s3: Callable[..., S3Storage]) -> None:
        import pyarrow.dataset as ds
        import pyarrow.parquet as pq

        storage = make_s3()
        sink = io.BytesIO()
        pq.write_table(pl.DataFrame({"x": [1, 2, 3]}).to_arrow(), sink)
        storage.write_bytes("processed/x.parquet", sink.getvalue())
        path = storage.get_full_path("processed").removeprefix("s3://")
        found = ds.dataset(path, filesystem=storage.get_filesystem(), format="parquet")
        assert found.to_table().column("x").to_pylist() == [1, 2, 3]
