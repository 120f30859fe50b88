"""The figures of speed can be measured: each part with a few hosts and machines."""

from __future__ import annotations

import pytest
from vcenter import speed


def test_reading() -> None:
    (row,) = speed.read(3, 7, [2], times=1)
    assert row.round_trips <= 3
    assert row.read_s > 2 * row.round_trips / 1000
    assert 10 < row.peak_mib < 2000


def test_making() -> None:
    (row,) = speed.make(9, [2], times=1)
    assert row.bound_s == (1 + 1) * 2 / 1000
    assert row.tasks_s > row.bound_s
    assert row.one_by_one_s > 9 * 2 * 2 / 1000  # a call that begins and one that asks, at least
    assert row.apply_s > row.bound_s


@pytest.mark.parametrize(("machines", "rounds"), [(1, 1), (16, 1), (17, 2), (200, 13)])
def test_bound(machines: int, rounds: int) -> None:
    assert speed.bound_s(machines, 50) == pytest.approx((rounds + 1) * 0.05)


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    speed.main(["--hosts", "1", "--vms", "2", "--machines", "2", "--ms", "0", "1", "--times", "1"])
    said = capsys.readouterr().out
    assert said.startswith("`python tests/vcenter/speed.py --hosts 1 ")
    rows = [line for line in said.splitlines() if line.startswith(("| 0 ms", "| 1 ms"))]
    assert len(rows) == 4
    assert [row.count("|") for row in rows] == [6, 6, 10, 10]
    assert "pyvmomi 9" in said or "pyvmomi 8" in said
