from __future__ import annotations

import pytest
from typer.testing import CliRunner

from fluxforge.cli import app
from fluxforge.errors import UsageError
from fluxforge.simulator.faults import Fault, FaultPlan, parse_faults


def test_every_kind_is_read() -> None:
    text = (
        "drop@10,skip@20,skip@30:4,silence@40:2.5,burst@50:1000,"
        "malformed@60, nonjson@61 ,binary@62,unknown@63,large@64,large@65:70,"
    )
    assert parse_faults(text) == (
        Fault("drop", 10),
        Fault("skip", 20, 1.0),
        Fault("skip", 30, 4.0),
        Fault("silence", 40, 2.5),
        Fault("burst", 50, 1000.0),
        Fault("malformed", 60),
        Fault("nonjson", 61),
        Fault("binary", 62),
        Fault("unknown", 63),
        Fault("large", 64, 6.0),
        Fault("large", 65, 70.0),
    )
    assert parse_faults("") == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dorp@5", "did you mean 'drop'"),
        ("explode@5", "there are: refuse, drop, skip"),
        ("drop", "write it as drop@FRAME"),
        ("drop@-1", "write it as drop@FRAME"),
        ("drop@five", "write it as drop@FRAME"),
        ("drop@5:2", "takes no amount: drop@5"),
        ("silence@5", "needs a number of seconds: silence@5:5"),
        ("burst@5", "needs a number of frames: burst@5:5"),
        ("refuse@5:0", "a whole one above 0"),
        ("burst@5:0", "a whole one above 0"),
        ("skip@5:1.5", "a whole one above 0"),
        ("drop@1,nonsense", "'nonsense'"),
    ],
)
def test_a_wrong_fault_is_one_clear_error(text: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_faults(text)
    assert says in str(error.value)


def test_a_fault_happens_once_and_twice_if_written_twice() -> None:
    plan = FaultPlan(parse_faults("drop@3,nonjson@3,drop@3"))
    assert plan.take(2) == []
    assert [fault.kind for fault in plan.take(3)] == ["drop", "nonjson"]
    assert [fault.kind for fault in plan.take(3)] == ["drop"]
    assert plan.take(3) == []


def test_requests_are_refused_by_their_number() -> None:
    plan = FaultPlan(parse_faults("refuse@1:2,refuse@5"))
    assert [plan.refuses(number) for number in range(7)] == [
        False, True, True, False, False, True, False,
    ]  # fmt: skip
    assert plan.take(1) == []


def test_the_command_line_explains_every_kind() -> None:
    shown = CliRunner().invoke(app, ["exchange", "--help"]).output
    for kind in ("drop", "skip", "silence", "burst", "malformed", "nonjson", "binary", "unknown"):
        assert f"{kind}@N" in shown
    assert "large@N[:MEGABYTES]" in shown
