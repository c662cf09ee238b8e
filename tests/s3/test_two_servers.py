"""A lake over two S3 servers, each with credentials of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from omegaconf import OmegaConf

from fluxforge import Lake
from fluxforge.config import load_config
from fluxforge.errors import AccessDeniedError
from fluxforge.testing.s3_server import s3_server as run_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fluxforge.testing.s3_server import S3Server
    from tests.conftest import Recorded
    from tests.s3.conftest import Place

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def other_server() -> Iterator[S3Server]:
    with run_server() as server:
        yield server


def test_segments_on_one_and_tables_on_the_other(
    make_place: Callable[..., Place],
    other_server: S3Server,
    trading: Recorded,
    tmp_path: Path,
) -> None:
    segments, tables = make_place(), make_place(server=other_server)
    assert segments.server.access_key != tables.server.access_key
    segments.put_segments(trading, 3)
    overlay = tmp_path / "two-servers.yaml"
    settings = {
        "storage": segments.storage_config,
        "etl": {"storage_output": tables.storage_config},
    }
    OmegaConf.save(OmegaConf.create(settings), overlay)
    lake = Lake(config=load_config(overlay))

    report = lake.etl("coinbase")
    assert (report.segments, report.lines_taken, report.rows) == (3, trading.count, trading.rows)
    for channel, count in trading.rows.items():
        assert lake.scan("coinbase", channel, raw=True).collect().height == count
    assert lake.sql("SELECT sum(lines_taken)::BIGINT FROM coinbase.segments").fetchall() == [
        (trading.count,)
    ]
    assert lake.verify().ok
    assert segments.storage().list_files() == []
    assert tables.storage().list_folders() == ["processed"]


def test_the_credentials_of_the_one_do_not_open_the_other(
    make_place: Callable[..., Place], other_server: S3Server
) -> None:
    here, there = make_place(), make_place(server=other_server)
    settings = there.server.settings()
    lake = here.having(
        *(
            f"etl.storage_output.s3.{key}={value}"
            for key, value in {
                **here.server.settings(),
                "endpoint_url": settings["endpoint_url"],
            }.items()
        )
    ).lake()
    with pytest.raises(AccessDeniedError, match=settings["endpoint_url"]):
        lake.tables()
    assert lake.status().height > 0  # the other place is not concerned


def test_prefixes_and_buckets_are_lakes_of_their_own(
    make_place: Callable[..., Place], trading: Recorded
) -> None:
    one, other = make_place(), make_place()
    one.storage().get_filesystem().mkdir("another-bucket")
    apart = one.having("storage.base_dir=another-bucket")
    one.put_segments(trading, 1)
    one.lake().etl("coinbase")
    assert one.lake().tables().height > 2
    assert other.lake().tables().is_empty()
    assert apart.lake().tables().is_empty()
    apart.put_segments(trading, 1)
    both = one.having("etl.storage_input.base_dir=another-bucket").lake()
    assert both.etl("coinbase").repeated == 1  # from there into the tables here: the same lines
    assert apart.storage().list_files() == []
