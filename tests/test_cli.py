"""The command as people run it: real processes, real sockets, real signals."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import psutil
import pytest
import typer
import yaml

import fluxforge
from fluxforge import Lake
from fluxforge.cli import app
from fluxforge.segments import read_segment
from fluxforge.simulator import local_exchange
from tests.support import commands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Recorded

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(fluxforge.__file__).resolve().parent.parent),
    "PYTHONUTF8": "1",
}
PATIENCE = 60.0
BOOKKEEPING = ("segments", "sequences")

posix_signals = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for others")
needs_mount = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0,
    reason="a small disk of its own needs Linux and root",
)


class Program:
    """``fluxforge`` over one lake."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder = folder
        self.lake = folder / "lake"
        self.settings = (f"storage.base_dir={self.lake}", *settings)

    def with_exchange(self, url: str) -> Program:
        return Program(self.folder, *self.settings[1:], f"ingestion.sources.coinbase.url={url}")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run_command(*words, *self.settings, cwd=self.folder)

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    def start(self, *words: str) -> Any:
        return started(*words, *self.settings, cwd=self.folder)

    def content(self, state: str) -> list[bytes]:
        """The whole lines of all segments in a state."""
        lines: list[bytes] = []
        for path in sorted((self.lake / "raw" / state / "coinbase").glob("segment_*")):
            with suppress(FileNotFoundError):  # it has just moved on
                lines += path.read_bytes().splitlines(keepends=True)
        return [line for line in lines if line.endswith(b"\n")]

    def lines(self, state: str) -> int:
        return len(self.content(state))


def run_command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return commands.run(
        [sys.executable, "-m", "fluxforge", *words],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
    )


@contextmanager
def started(*words: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    process = commands.Popen(
        [sys.executable, "-m", "fluxforge", *words],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def exchange(cwd: Path, *words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with started("exchange", *words, cwd=cwd) as process:
        yield process.stdout.readline().strip(), process


def wait_until(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > until:
            pytest.fail("it did not happen")
        time.sleep(0.02)


def wait_for_line(stream: Any, words: str) -> str:
    for line in stream:
        if words in line:
            return line
    pytest.fail(f"the output ended without {words!r}")


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, words: str) -> None:
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.startswith("fluxforge: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


# From a recording to tables


@pytest.fixture(params=["model", "five-channels", "reconnect"])
def replayed(request: pytest.FixtureRequest) -> Recorded:
    if request.param == "model":
        return request.getfixturevalue("recording")
    read = request.getfixturevalue("recorded")
    return read(request.getfixturevalue("captures") / "coinbase" / f"{request.param}.ndjson.zst")


GOLDEN = {
    "five-channels": (1030, 1, {"candles": 204, "orderbook": 74_193, "ticker": 160, "trades": 279}),
    "reconnect": (1839, 2, {"orderbook": 99_947}),
}


def test_a_recording_reaches_the_tables_whole(program: Program, replayed: Recorded) -> None:
    frames, connections, rows = GOLDEN.get(
        replayed.path.name.partition(".")[0],
        (replayed.count, len(replayed.frames), replayed.rows),
    )
    words = ("--replay", str(replayed.path), "--once", "--rate", "0")
    with exchange(program.folder, *words) as (url, server):
        collector = program.with_exchange(url)
        # What the recording's acknowledgements name: of anything else it would be told.
        products = "[BTC-USD]" if "reconnect" in replayed.path.name else "[BTC-USD, ETH-USD]"
        wanted = f"ingestion.sources.coinbase.products={products}"
        captured = collector.json("ingest", "coinbase", "--frames", str(frames), wanted)
        assert ended(server) == (0, "", "")
    segments = sorted((program.lake / "raw" / "ready" / "coinbase").iterdir())
    assert captured == {
        "frames": frames,
        "bytes": sum(path.stat().st_size for path in segments),
        "segments": len(segments),
        "connections": connections,
        "gaps": 0,
    }
    stored: dict[str, list[bytes]] = {}
    for envelope in chain.from_iterable(map(read_segment, segments)):
        stored.setdefault(envelope.conn, []).append(envelope.frame)
    assert list(stored.values()) == list(replayed.frames.values())

    assert program.json("etl") == {
        "segments": len(segments),
        "lines_read": frames,
        "lines_taken": frames,
        "lines_quarantined": 0,
        "rows": rows,
    }
    lake = Lake(overrides=program.settings)
    tables = lake.tables().filter(~pl.col("channel").is_in(BOOKKEEPING))
    assert dict(tables.select("channel", "rows").iter_rows()) == rows
    assert lake.gaps("coinbase").is_empty()
    assert lake.verify().ok
    assert list(program.lake.glob("raw/*/coinbase/segment_*")) == []
    if "candles" in rows:
        candles = lake.scan("coinbase", "candles", raw=True).collect()
        keys = candles.n_unique(["symbol", "start"])
        assert lake.scan("coinbase", "candles").collect().height == keys
        assert candles.height == rows["candles"]
    if "five-channels" in replayed.path.name:
        assert keys == 200


@pytest.fixture
def filled(filled_lake: Lake, tmp_path: Path) -> Program:
    """Return a lake with tables, for commands that only read."""
    return Program(tmp_path, f"storage.base_dir={filled_lake.config.storage.base_dir}")


def test_json_of_the_readers(filled: Program, filled_lake: Lake) -> None:
    tables = filled.json("tables")
    assert all({"source", "channel", "rows", "files", "bytes"} <= set(one) for one in tables)
    rows = filled_lake.tables().select("channel", "rows").rows()
    assert [(one["channel"], one["rows"]) for one in tables] == rows
    verified = filled.json("verify")
    assert (verified["ok"], verified["problems"]) == (True, [])
    assert filled.json("gaps", "coinbase") == []
    query = "SELECT 1 AS one, NULL AS none, max(ts_event) < now() AS past FROM coinbase.trades"
    assert filled.json("sql", query) == [{"one": 1, "none": None, "past": True}]


def test_text_is_for_people(filled: Program) -> None:
    done = filled.run("sql", "SELECT 1234567 AS trade_id, symbol FROM coinbase.ticker")
    assert "│ 1234567  ┆ BTC-USD │" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_of_the_pipe_may_leave_early(filled: Program) -> None:
    with filled.start("sql", "SELECT * FROM coinbase.orderbook") as process:
        assert process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        assert ended(process) == (0, None, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_to_a_full_disk(filled: Program) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fluxforge", "tables", *filled.settings],
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "fluxforge: the output cannot be written: No space left on device\n"


# Every command takes the same arguments


def every_command() -> Iterator[tuple[str, Any]]:
    commands = typer.main.get_command(app).commands
    for name, one in commands.items():
        below = getattr(one, "commands", None)
        yield from (
            ((f"{name} {part}", two) for part, two in below.items()) if below else [(name, one)]
        )


@pytest.mark.parametrize(("name", "command"), list(every_command()))
def test_every_command_takes_the_common_options(name: str, command: Any) -> None:
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert {"-c", "--config", "--config-dir", "--json", "-v", "--log-format", "settings"} <= flags
    usage = typer.Context(command, info_name=f"fluxforge {name}").get_usage()
    arguments = usage.partition(f"fluxforge {name} ")[2]
    assert re.fullmatch(
        r"(\[SOURCE\] |([A-Z]+ )+|OLD\.yaml )?\[KEY=VALUE\]\.\.\. \[OPTIONS\]", arguments
    )


def test_the_usage_of_a_command_begins_with_what_it_is_given(tmp_path: Path) -> None:
    done = run_command("etl", "--help", cwd=tmp_path)
    assert done.stdout.splitlines()[0].startswith("Usage: fluxforge etl [SOURCE] [KEY=VALUE]...")


def test_help_tells_every_fault_with_examples(tmp_path: Path) -> None:
    text = " ".join(run_command("exchange", "--help", cwd=tmp_path).stdout.split())
    for words in ("drop@500 cuts the connection", "silence@N:SECONDS", "skip@N[:FRAMES]"):
        assert words in text


def test_arguments_may_come_in_any_order(program: Program) -> None:
    (program.lake / "raw").mkdir(parents=True)
    words = ("etl.threads=1", "coinbase", "-v", "--json", "etl.memory_limit_mb=512")
    done = run_command("etl", *words, *program.settings, cwd=program.folder)
    assert (done.returncode, json.loads(done.stdout)["segments"]) == (0, 0)


def test_a_capture_says_more_where_asked(program: Program) -> None:
    with a_market() as served:
        words = ("ingest", "coinbase", "--frames", "20", "--json", "-v")
        done = program.with_exchange(served.url).run(*words)
    assert "INFO fluxforge.ingestion" in done.stderr
    assert f"connected to {served.url}" in done.stderr


def test_a_number_is_a_duration_in_seconds(program: Program) -> None:
    with a_market(rate=100) as served:
        report = program.with_exchange(served.url).run("ingest", "--duration", "1", "--json")
    assert json.loads(report.stdout)["frames"] > 0


def test_the_configuration_is_shown_with_its_files_and_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    file = tmp_path / "conf" / "config.yaml"
    file.write_text("storage: {s3: {endpoint_url: 'http://me:hidden@host', region: x}}\n")
    secret = "storage.s3.aws_secret_access_key=hidden"
    (tmp_path / "notebooks").mkdir()
    done = run_command("config", "show", secret, cwd=tmp_path / "notebooks")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"# {file}\nstorage:\n")
    shown = json.loads(run_command("config", "show", secret, "--json", cwd=tmp_path).stdout)
    assert shown["files"] == [str(file)]
    assert shown["storage"]["s3"]["endpoint_url"] == "http://host"
    assert shown["storage"]["s3"]["aws_secret_access_key"] == "***"
    assert "hidden" not in done.stdout


def test_an_old_configuration_is_brought_up_to_date(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("ingestion: {output_dir: 'F://raw'}\n")
    done = run_command("config", "migrate", "old.yaml", cwd=tmp_path)
    assert yaml.safe_load(done.stdout)["storage"]["base_dir"] == "F:/"
    as_json = run_command("config", "migrate", "old.yaml", "--json", cwd=tmp_path)
    assert json.loads(as_json.stdout) == yaml.safe_load(done.stdout)


def test_an_exchange_tells_machines_its_address(tmp_path: Path) -> None:
    with exchange(tmp_path, "coinbase", "--json") as (line, _):
        assert json.loads(line)["url"].startswith("ws://127.0.0.1:")


def test_a_demo_for_machines(tmp_path: Path) -> None:
    done = run_command("demo", "--frames", "500", "--json", cwd=tmp_path)
    report = json.loads(done.stdout)
    assert (report["ok"], report["ingest"]["frames"], report["etl"]["lines_read"]) == (
        True, 500, 500,
    )  # fmt: skip


# What is wrong gets one line


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("ingest", "coinbsae"), "unknown source 'coinbsae': did you mean 'coinbase'?"),
        (("etl", "nowhere"), "unknown source 'nowhere'"),
        (("optimize", "nowhere"), "unknown source 'nowhere'"),
        (("sql", "SELECT 1 FROM coinbase.traeds"), "Did you mean"),
        (("ingest", "coinbase", "--duration", "5 parsecs"), "write 90s, 5m, 1h30m or 7d"),
        (("ingest", "coinbase", "--duration", "0s"), "duration is 0 s"),
        (("ingest", "coinbase", "--frames", "0"), "--frames"),
        (("ingest", "one", "two"), "unexpected argument 'two'"),
        (("vacuum", "--keep", "5m"), "at least 1h"),
        (("tables", "storage.base_dri=x"), "did you mean 'base_dir'?"),
        (("tables", "etl.threads=many"), "etl.threads"),
        (("tables", "-c", "hybird"), "did you mean 'hybrid'?"),
        (("tables", "--config-dir", "absent"), "absent does not exist"),
        (("exchange", "--faults", "dorp@3"), "did you mean 'drop'?"),
        (("exchange", "--port", "70000"), "--port"),
        (("talbes",), "tables"),
        (("verify", "coinbase"), "unexpected argument 'coinbase'"),
        (("exchange", "etl.threads=many"), "etl.threads"),
    ],
)
def test_wrong_use(tmp_path: Path, words: tuple[str, ...], answer: str) -> None:
    assert_one_line(run_command(*words, cwd=tmp_path), 2, answer)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_setting_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    file = tmp_path / "conf" / "config.yaml"
    file.write_text("storage:\n  backedn: local\n")
    assert_one_line(
        run_command("tables", cwd=tmp_path), 2, "config.yaml: unknown key 'storage.backedn'"
    )


def test_a_lake_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    below = Program(tmp_path, f"storage.base_dir={tmp_path / 'file' / 'lake'}")
    assert_one_line(below.run("ingest", "coinbase", "--frames", "1"), 1, str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_missing_directory_is_said_to_be_no_lake(program: Program) -> None:
    done = program.run("tables", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    assert "there is no lake in" in done.stderr
    for command in ("etl", "status", "health"):
        assert_one_line(program.run(command), 2, "there is no lake in")
    assert not program.lake.exists()
    verified = program.run("verify", "--json")
    assert verified.returncode == 1
    (problem,) = json.loads(verified.stdout)["problems"]
    assert problem["kind"] == "no_lake"
    program.lake.write_text("a file")
    assert_one_line(program.run("etl"), 2, "there is no lake in")


def test_a_busy_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_command("exchange", "--port", port, cwd=tmp_path)
    assert_one_line(done, 1, f"port {port}")


def test_recordings_that_cannot_be_replayed(tmp_path: Path) -> None:
    missing = run_command("exchange", "--replay", "absent.ndjson", cwd=tmp_path)
    assert_one_line(missing, 1, "absent.ndjson: No such file")
    (tmp_path / "other.ndjson").write_text("hello\n")
    other = run_command("exchange", "--replay", "other.ndjson", cwd=tmp_path)
    assert_one_line(other, 1, "other.ndjson, line 1")


def test_an_unreachable_exchange(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    done = program.with_exchange(f"ws://127.0.0.1:{port}").run("ingest", "coinbase", "--json")
    *warnings, last = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert last.startswith(f"fluxforge: cannot connect to ws://127.0.0.1:{port}")
    assert "ingestion.sources.coinbase.url" in last
    assert all("connecting again" in line for line in warnings)
    assert program.lines("active") == program.lines("ready") == 0


# Whatever ends it, nothing is lost


def a_market(**options: Any) -> Any:
    return local_exchange("coinbase", **{"seed": 5, "rate": 0, **options})


@posix_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_ingestion_cleanly(program: Program, number: signal.Signals) -> None:
    words = ("ingest", "coinbase", "--json")
    with a_market(rate=400) as served, program.with_exchange(served.url).start(*words) as process:
        wait_until(lambda: program.lines("active") > 100)
        process.send_signal(number)
        code, out, err = ended(process)
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["frames"] == program.lines("ready") > 100
    assert (report["gaps"], program.lines("active")) == (0, 0)


def test_all_sources_are_captured_and_one_that_cannot_be_ends_with_1(program: Program) -> None:
    nobody = "ingestion.sources.kraken.url=ws://127.0.0.1:9"
    kraken = (nobody, "ingestion.sources.kraken.products=[BTC/USD]")
    words = ("ingest", *kraken, "ingestion.sources.kraken.channels=[trade]", "--json")
    with a_market(rate=400) as served:
        both = program.with_exchange(served.url)
        done = both.run(*words, "--all", "--duration", "3s")
        assert both.run(*words, "--all", "coinbase").returncode == 2
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["frames"] == program.lines("ready") > 0
    assert report["sources"]["coinbase"] == {
        **{name: count for name, count in report.items() if name != "sources"},
        "error": "",
    }
    assert "cannot connect" in report["sources"]["kraken"]["error"]


@posix_signals
def test_a_killed_ingestion_loses_nothing_that_was_flushed(
    program: Program, recorded: Callable[[Path], Recorded]
) -> None:
    quick = ("ingestion.flush_interval_seconds=0.05", "ingestion.segment_max_mb=0.5")
    with a_market(rate=2000) as served:
        collector = program.with_exchange(served.url)
        with collector.start("ingest", "coinbase", *quick) as process:
            wait_until(lambda: program.lines("ready") > 0 and program.lines("active") > 50)
            process.kill()
            process.wait()
        flushed = sorted(program.content("ready") + program.content("active"))
        lake = Lake(overrides=collector.settings)
        assert lake.ingest_sync("coinbase", frames=100).frames == 100
    assert program.content("active") == []
    kept = program.content("ready")
    assert len(kept) == len(flushed) + 100
    assert sorted(set(kept) & set(flushed)) == flushed
    everything = program.folder / "everything.ndjson"
    everything.write_bytes(b"".join(kept))
    report = lake.etl("coinbase")
    assert report.lines_read == report.lines_taken == len(kept)
    assert report.rows == recorded(everything).rows


def capture(program: Program, frames: int, **options: Any) -> None:
    with a_market(**options) as served:
        lake = Lake(overrides=program.with_exchange(served.url).settings)
        lake.ingest_sync("coinbase", frames=frames)


@posix_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_watcher_cleanly(program: Program, number: signal.Signals) -> None:
    capture(program, 200)
    watch = ("etl", "--watch", "--json", "etl.watch_interval_seconds=0.1")
    with program.start(*watch) as process:
        assert json.loads(process.stdout.readline())["lines_taken"] == 200
        capture(program, 300)
        assert json.loads(process.stdout.readline())["lines_taken"] == 300
        process.send_signal(number)
        assert ended(process) == (0, "", "")


@posix_signals
@pytest.mark.parametrize(
    ("words", "end"),
    [
        (("etl", "--watch"), (0, "")),
        (("etl", "--json"), (130, "fluxforge: interrupted; nothing is lost")),
    ],
    ids=["watching", "once"],
)
def test_a_signal_in_the_middle_of_a_segment_loses_nothing(
    tmp_path: Path, words: tuple[str, ...], end: tuple[int, str]
) -> None:
    program = Program(tmp_path)
    for _ in range(4):
        capture(program, 200)
    segments = len(list((program.lake / "raw" / "ready" / "coinbase").iterdir()))
    with program.start(*words) as process:
        claimed = program.lake / "raw" / "processing" / "coinbase"
        wait_until(lambda: claimed.is_dir() and any(claimed.glob("segment_*")))
        process.send_signal(signal.SIGINT)
        code, _, err = ended(process)
    assert (code, err.partition(",")[0].strip()) == end
    lake = Lake(overrides=program.settings)
    lake.etl("coinbase")
    [(lines, taken, committed)] = lake.sql(
        "SELECT sum(lines_read), sum(lines_taken), count(*) FROM coinbase.segments"
    ).fetchall()
    assert (lines, taken, committed) == (800, 800, segments)
    assert lake.verify().ok


@posix_signals
def test_a_query_can_be_interrupted(program: Program) -> None:
    endless = "SELECT sum(sqrt(a.range * b.range)) FROM range(1000000) a, range(1000000) b"
    with program.start("sql", endless) as process:
        wait_until(lambda: psutil.Process(process.pid).cpu_times().user > 1.2)
        process.send_signal(signal.SIGINT)
        code, out, err = ended(process)
    assert (code, out) == (130, "")
    assert err == "fluxforge: interrupted; nothing is lost, run it again to continue\n"


@posix_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_exchange_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with exchange(tmp_path) as (url, process):
        assert url.startswith("ws://127.0.0.1:")
        process.send_signal(number)
        assert ended(process) == (0, "", "")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of its own that holds a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def grow(disk: Path, size: str = "64m") -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


@needs_mount
def test_an_ingestion_waits_for_a_full_disk(small_disk: Path) -> None:
    program = Program(small_disk)
    with a_market() as served:
        collector = program.with_exchange(served.url)
        with collector.start("ingest", "coinbase", "--frames", "4000") as process:
            wait_for_line(process.stderr, "No space left")
            grow(small_disk)
            code, out, _ = ended(process)
    assert code == 0
    assert "4,000 frames" in out
    assert program.lines("ready") == 4000
    lake = Lake(overrides=program.settings)
    assert lake.etl("coinbase").lines_taken == 4000
    assert lake.gaps("coinbase").is_empty()


@needs_mount
def test_an_etl_keeps_its_segment_when_the_disk_is_full(small_disk: Path) -> None:
    grow(small_disk, "4m")
    program = Program(small_disk)
    capture(program, 300)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    done = program.run("etl", "--json")
    assert_one_line(done, 1, "no space left")
    filler.unlink()
    lake = Lake(overrides=program.settings)
    assert lake.etl("coinbase").lines_taken == 300
    assert lake.verify().ok


@posix_signals
def test_a_signal_after_the_work_does_not_change_its_exit_code(tmp_path: Path) -> None:
    """It comes as soon as the answer is printed, while the process is going."""
    code = "import sys; from fluxforge.cli import main; sys.argv[1:] = ['tables', '--json']; main()"
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env=ENVIRONMENT, cwd=tmp_path
        )
        assert process.stdout is not None
        assert process.stdout.read(1) == b"["
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)
        assert process.returncode in (0, 130)


def test_there_is_a_command_for_everything() -> None:
    wanted = (
        "demo run ingest etl sql tail bars book export tables verify status health gaps recover "
        "optimize retain vacuum sync exchange config"
    )
    assert {*wanted.split()} <= typer.main.get_command(app).commands.keys()  # type: ignore[attr-defined]


def test_what_a_venue_sends_cannot_command_a_terminal(tmp_path: Path) -> None:
    lake = Lake(path=tmp_path / "lake")
    store = lake.storage
    line = (
        '{"capture_ns":1786309548000000000,"conn":"A","data":{"channel":"ticker",'
        '"timestamp":"2026-08-09T21:05:48Z","sequence_num":0,"events":[{"type":"update",'
        '"tickers":[{"type":"ticker","product_id":"BTC\\u001b[2J\\u009b-USD","price":"1"}]}]}}\n'
    )
    store.write_bytes("raw/ready/coinbase/segment_20260809T21_00001.ndjson", line.encode())
    lake.etl("coinbase")
    for words in (["tail", "coinbase", "ticker"], ["sql", "SELECT symbol FROM coinbase.ticker"]):
        for as_json in ([], ["--json"]):
            done = run_command(*words, *as_json, f"storage.base_dir={tmp_path}/lake", cwd=tmp_path)
            assert "BTC" in done.stdout
            assert all(char.isprintable() for char in done.stdout.replace("\n", "")), words
            if as_json:
                assert json.loads(done.stdout)[0]["symbol"] == "BTC\x1b[2J\x9b-USD"
