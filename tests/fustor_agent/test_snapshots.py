"""What is said of a pipe's snapshots."""

import pytest

from fustor_agent.snapshots import Snapshots


@pytest.mark.parametrize(("progress", "left_s"), [(None, None), (0.0, None), (0.25, 30.0), (0.5, 10.0), (1.0, 0.0)])
def test_the_rest_takes_as_long_as_what_is_done_took_for_its_part(progress: float | None, left_s: float | None) -> None:
    snapshots = Snapshots()
    snapshots.begin(100.0)
    report = snapshots.describe(progress, 110.0)
    assert (report.state, report.progress, report.left_s) == ("running", progress, left_s)


def test_without_a_snapshot_there_is_no_progress() -> None:
    report = Snapshots().describe(0.5, 10.0)
    assert (report.state, report.progress, report.left_s) == ("none", None, None)


def test_what_was_sent_and_what_was_compared_are_counted_apart() -> None:
    snapshots = Snapshots()
    snapshots.begin(0.0)
    snapshots.count(3, 0)
    snapshots.count(1, 7)
    assert (snapshots.report.rows, snapshots.report.compared) == (4, 7)
