"""How tools of this kind lose or spoil data, and the tests that hold each away from this one.

The numbers are kept: a new failure takes the next one. That every test named here exists is itself
tested, and so are the two failures that belong to no folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fluxforge

if TYPE_CHECKING:
    from fluxforge import Lake

TESTS = Path(__file__).parent
ROOT = TESTS.parent

FAILURES: dict[str, tuple[str, ...]] = {
    # Losing data
    "1 a channel fails, or the disk is full, and the segment is deleted all the same": (
        "test_cli.py::test_an_etl_keeps_its_segment_when_the_disk_is_full",
        "etl/test_job.py::test_a_table_that_cannot_be_written_keeps_the_segment_and_the_others_go_on",
    ),
    "2 a channel is read and has no table; a misspelt one drops everything": (
        "etl/test_golden.py::test_the_counts_are_golden",
        "ingestion/test_pipeline.py::test_a_misspelt_channel_is_refused_before_anything_starts",
    ),
    "3 torn and malformed lines are skipped": (
        "etl/test_bad_lines.py::test_every_kind_beside_a_thousand_good_ones",
        "segments/test_store.py::test_a_torn_tail_goes_to_quarantine_and_can_be_restored",
    ),
    "4 a read error is an end of file; a character is cut by the border of a chunk": (
        "etl/test_job.py::test_a_read_that_breaks_off_is_no_end_of_file",
        "storage/test_s3_requests.py::test_answers_cut_short",
        "transform/test_scan.py::test_what_is_counted_is_what_is_there",
    ),
    "5 what is captured for S3 lies only in memory": (
        "s3/test_killed_collectors.py::test_kills_beside_a_living_collector",
        "query/test_live.py::test_another_machine_sees_what_was_mirrored",
    ),
    "6 orphans are never looked at, and overwritten": (
        "segments/test_store.py::test_a_recovery_that_dies_is_completed_by_the_next",
        "segments/test_store.py::test_a_name_that_is_taken_in_ready_is_never_overwritten",
        "etl/test_job.py::test_orphans_in_processing_are_taken_up",
    ),
    "7 a listing that fails is an empty one": (
        "etl/test_job.py::test_a_listing_that_fails_is_no_empty_lake",
        "ingestion/test_log_writer.py::test_names_never_come_back_and_nothing_is_listed_for_them",
    ),
    "8 a name comes back": (
        "etl/test_job.py::test_a_name_that_comes_back_with_other_content_is_set_aside",
        "test_layout.py::test_no_two_new_names_are_the_same",
    ),
    "9 a full queue drops frames": (
        "ingestion/test_load.py::test_a_fast_stream_over_a_slow_disk",
        "test_cli.py::test_an_ingestion_waits_for_a_full_disk",
    ),
    "10 a flush clears the buffer too early or too late": (
        "ingestion/test_log_writer.py::test_every_frame_once_whatever_fails",
        (
            "ingestion/test_log_writer.py::"
            "test_frames_written_during_a_flush_are_neither_lost_nor_doubled"
        ),
    ),
    "11 the first frame after a subscription is thrown away": (
        (
            "ingestion/test_connection.py::"
            "test_subscriptions_are_sent_and_frames_taken_before_any_answer"
        ),
    ),
    "12 the counter of reconnects is never reset": (
        "ingestion/test_connection.py::test_the_backoff_starts_over_after_health_and_only_then",
        "test_retry.py::test_delays_grow_to_the_cap_and_are_spread_over_the_whole_range",
    ),
    "13 a quiet feed never reaches the tables": (
        "ingestion/test_log_writer.py::test_a_quiet_segment_closes_by_age",
    ),
    "14 two collectors pick one name": (
        "ingestion/test_log_writer.py::test_two_processes_never_share_a_segment",
        "segments/test_store.py::test_no_two_stores_open_the_same_name",
    ),
    "15 a collector recovers the live segment of another": (
        "segments/test_store.py::test_a_living_writers_segment_is_not_touched",
        "ingestion/test_recovery.py::test_collectors_that_are_killed_lose_nothing_they_had_flushed",
    ),
    "16 compaction that is cut short, or meets another, doubles or loses rows": (
        "etl/test_optimize.py::test_a_crash_between_writing_and_committing_changes_nothing",
        "etl/test_optimize.py::test_two_workers_at_once",
    ),
    "17 a move deletes without comparing": (
        "sync/test_segments.py::test_a_damaged_copy_is_noticed_before_anything_is_deleted",
        "sync/test_tables.py::test_damage_is_noticed_before_anything_is_deleted",
    ),
    # Spoiling data
    "18 a missing number becomes 0": (
        "etl/test_bad_lines.py::test_an_unreadable_number_is_null_and_its_frame_is_taken",
    ),
    "19 a book over a reconnect": (
        "analytics/test_books.py::test_a_book_never_crosses_a_gap_or_a_reconnect",
    ),
    "20 gaps are not looked for, or other channels' frames are taken for gaps": (
        "query/test_gaps.py::test_skipped_numbers_are_found",
        "query/test_gaps.py::test_a_quiet_market_and_a_cut_connection_are_no_gaps",
        "etl/test_bad_lines.py::test_quarantined_frames_count_in_the_venues_numbers",
    ),
    "21 a snapshot repeats trades that are stored": (
        "etl/test_repeats.py::test_over_segments_and_runs",
        "query/test_scan.py::test_the_first_trade_of_a_key_is_shown",
    ),
    "22 an old time of an event makes a folder of its own": (
        "etl/test_job.py::test_an_old_event_time_makes_no_folder_of_its_own",
    ),
    "23 a time that is null makes a folder": (
        "etl/test_bad_lines.py::test_a_time_that_no_calendar_has_is_null",
    ),
    "24 running again doubles the rows": (
        "etl/test_job.py::test_running_twice_adds_nothing",
        "etl/test_job.py::test_a_copy_under_another_name_adds_nothing",
        "kill/test_kills.py::test_on_disk",
        "kill/test_kills.py::test_on_s3",
    ),
    "25 a column that is all null has another type": (
        "test_tables.py::test_an_all_null_column_keeps_its_type",
        "etl/test_job.py::test_the_declared_columns_are_those_that_are_written",
    ),
    "26 half of a file is visible": (
        "test_tables.py::test_what_is_committed_is_read_and_what_is_only_written_is_not",
        "etl/writers/test_parquet_writer.py::test_a_storage_that_refuses_leaves_nothing_behind",
    ),
    # Operating
    "27 a whole segment in memory": (
        "etl/test_memory.py::test_memory_is_bounded_by_its_limit_and_not_by_the_segment",
    ),
    "28 an unknown key is ignored; the example has keys that do not exist": (
        "config/test_load.py::test_an_unknown_key_is_named_with_its_file_and_the_nearest",
        "config/test_load.py::test_every_shipped_file_loads_as_it_stands",
    ),
    "29 a check of health always exits 0": (
        "test_failures.py::test_health_exits_with_1_where_a_limit_is_passed",
        "test_cli.py::test_a_missing_directory_is_said_to_be_no_lake",
    ),
    "30 credentials in logs": (
        "config/test_secrets.py::test_no_secret_shows",
        "s3/test_secrets.py::test_output_of_commands",
    ),
    "31 thousands of small files": (
        "etl/test_optimize.py::test_small_files_are_joined_and_no_row_changes",
    ),
    "32 a wheel without a part of the package": (
        "test_failures.py::test_the_wheel_holds_every_file_of_the_package_and_runs",
    ),
    # Found in the first version
    "33 a lease runs out while its holder sleeps, and the holder deletes what is new": (
        (
            "segments/test_store.py::"
            "test_a_sleeper_between_the_copy_and_the_delete_of_its_claim_spoils_nothing"
        ),
        "segments/test_store.py::test_only_what_was_read_is_deleted",
    ),
    "34 'not all are there' is taken for 'none is mine'": (
        (
            "test_tables.py::"
            "test_a_commit_whose_answer_was_lost_stays_ones_own_after_its_files_were_joined"
        ),
    ),
    "35 one stray or damaged file stops the work on all others": (
        "segments/test_store.py::test_odd_things_are_named_left_alone_and_in_nobodys_way",
        "etl/test_job.py::test_a_damaged_log_keeps_the_segment_and_the_others_go_on",
        "verify/test_planted.py::test_all_faults_at_once_are_each_named",
    ),
    "36 a frame that is accepted and can never be processed": (
        "etl/test_job.py::test_too_little_memory_is_refused_with_the_least",
        "etl/test_job.py::test_a_line_too_long_for_the_memory_is_quarantined_by_itself",
    ),
    "37 a poisonous segment is tried again for ever": (
        "etl/test_watcher.py::test_a_segment_that_fails_is_tried_again_and_keeps_nobody_waiting",
    ),
    "38 a checker that is blind while work goes on, or whose alarm cannot be cleared": (
        "verify/test_planted.py::test_a_planted_fault_is_found_by_name",
        "verify/test_planted.py::test_a_healthy_lake_at_work_has_no_faults",
        "verify/test_lake.py::test_rows_doubled_while_another_segment_is_in_work",
        "verify/test_lake.py::test_numbers_that_the_venue_repeats_are_a_note",
    ),
    "39 a crossed book; a chart that needs a network or has another zone's times": (
        "analytics/test_books.py::test_a_book_never_crosses_a_gap_or_a_reconnect",
        "plot/test_charts.py::test_every_chart_is_drawn_and_saved_without_a_network",
        "plot/test_charts.py::test_times_are_those_of_utc_whatever_the_zone_of_the_viewer",
    ),
    "40 an empty answer that does not say why": (
        "test_cli.py::test_a_missing_directory_is_said_to_be_no_lake",
        "query/test_scan.py::test_what_does_not_exist",
        "verify/test_planted.py::test_a_table_without_a_log_does_not_read_as_empty",
    ),
}

ATTACKS: dict[str, tuple[str, ...]] = {
    "a delete that does not look": FAILURES[
        "33 a lease runs out while its holder sleeps, and the holder deletes what is new"
    ],
    "committed files deleted after a lost answer": FAILURES[
        "34 'not all are there' is taken for 'none is mine'"
    ],
    "a stray file or a damaged one beside the segments": (
        "segments/test_store.py::test_odd_things_are_named_left_alone_and_in_nobodys_way",
    ),
    "values that are not what they are taken for": (
        "etl/test_bad_lines.py::test_a_time_that_no_calendar_has_is_null",
        "etl/test_bad_lines.py::test_numbers_beyond_all_range_stop_no_segment",
        "etl/test_bad_lines.py::test_unknown_fields_are_counted_and_stop_nothing",
    ),
    "damage that no check sees": ("verify/test_planted.py::test_a_planted_fault_is_found_by_name",),
    "alarms that are false": (
        "verify/test_lake.py::test_numbers_that_the_venue_repeats_are_a_note",
        "verify/test_planted.py::test_a_healthy_lake_at_work_has_no_faults",
        "etl/test_bad_lines.py::test_quarantined_frames_count_in_the_venues_numbers",
    ),
    "a lake that does not exist; a spool that nobody sees": (
        "test_cli.py::test_a_missing_directory_is_said_to_be_no_lake",
        "verify/test_lake.py::test_a_folder_that_is_no_lake",
        "verify/test_spool.py::test_what_waits_is_told_and_a_dead_captures_is_a_problem",
    ),
    "several statements, and values of every kind": (
        "query/test_engine.py::test_several_statements",
        "query/test_engine.py::test_values_of_every_kind",
    ),
    "identities that are kept for ever": (
        "test_tables.py::test_an_identity_is_forgotten_after_thirty_days_and_a_checkpoint_with_it",
    ),
    "frames that inflate": (
        "ingestion/test_load.py::test_frames_that_inflate_a_thousandfold_are_held_one_at_a_time",
    ),
    "text that steers a terminal; secrets in addresses": (
        "test_errors.py::test_no_text_can_steer_a_terminal",
        "config/test_secrets.py::test_a_url_shows_neither_user_nor_password_nor_token",
        "s3/test_wrong_settings.py::test_a_server_named_by_the_environment_alone",
    ),
    "statements of others": (
        "query/test_engine.py::test_statements_of_others_reach_the_tables_alone",
        "query/test_engine.py::test_safe_takes_one_query_and_nothing_else",
    ),
    "arguments of the wrong kind, and too few file handles": (
        "test_wrong_arguments.py::test_no_such_version",
        "test_wrong_arguments.py::test_times_at_the_edge_of_the_calendar",
        "test_wrong_arguments.py::test_arguments_of_the_wrong_kind",
        "test_wrong_arguments.py::test_too_few_file_handles_are_one_line",
    ),
    "a day with all that it may bring": (
        "s3/test_a_day.py::test_a_day_with_all_that_it_may_bring",
    ),
}
"""What attacks on this project found, and the tests of it."""


@pytest.mark.parametrize("failure", [*FAILURES, *ATTACKS])
def test_each_failure_has_its_tests(failure: str) -> None:
    for test in (FAILURES | ATTACKS)[failure]:
        path, name = test.split("::")
        text = (TESTS / path).read_text(encoding="utf-8")
        found = set(re.findall(r"^ *(?:async )?def (\w+)", text, re.MULTILINE))
        assert name in found, f"{path} has no {name}"


def test_all_failures_are_here() -> None:
    assert [int(failure.split()[0]) for failure in FAILURES] == list(range(1, len(FAILURES) + 1))


def test_health_exits_with_1_where_a_limit_is_passed(filled_lake: Lake, tmp_path: Path) -> None:
    root = filled_lake.storage.get_full_path()
    for limit, code in (("null", 0), ("0", 1)):
        settings = ("health.age_seconds=null", "health.backlog_seconds=null",
                    "health.disk_free_mb=null", "health.disk_hours=null",
                    "health.clock_drift_seconds=null", f"health.quarantine_files={limit}",
                    f"health.age_seconds={limit}")  # fmt: skip
        words = [sys.executable, "-m", "fluxforge", "health", f"storage.base_dir={root}"]
        done = subprocess.run(
            [*words, *settings], cwd=tmp_path, capture_output=True, timeout=120,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, done


def test_the_wheel_holds_every_file_of_the_package_and_runs(tmp_path: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="it builds the wheel")
    builder = wheel.WheelBuilder(str(ROOT))
    (path,) = builder.build(directory=str(tmp_path / "dist"), versions=["standard"])
    package = Path(fluxforge.__file__).parent
    expected = {
        file.relative_to(package.parent).as_posix()
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(path) as archive:
        assert expected <= set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-m", "fluxforge", "config", "show"], cwd=tmp_path, timeout=120,
        capture_output=True, stdin=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
    )  # fmt: skip
    assert done.returncode == 0, done
    assert "base_dir" in done.stdout
