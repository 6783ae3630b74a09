"""Which audit is due when; the clock is the test's."""

import pytest

from fustor_agent.audits import Audits
from fustor_core.drivers import AuditCoverage

DAY_S = 86_400.0


@pytest.fixture
def audits() -> Audits:
    audits = Audits(incremental_s=600.0, full_s=DAY_S)
    audits.accept_snapshot(100.0)
    return audits


def run(audits: Audits, kind: str, now_s: float, *, complete: bool = True) -> None:
    audits.begin(kind)
    audits.end(complete=complete)
    audits.settle(now_s)


def test_before_a_snapshot_nothing_is_due() -> None:
    assert Audits(incremental_s=1.0, full_s=1.0).get_due_s() is None


@pytest.mark.parametrize(
    ("incremental_s", "full_s", "due_s"), [(600, 0, 700), (0, 50, 150), (600, 50, 150), (0, 0, None)]
)
def test_an_interval_of_nothing_is_never(incremental_s: float, full_s: float, due_s: float | None) -> None:
    audits = Audits(incremental_s=incremental_s, full_s=full_s)
    audits.accept_snapshot(100.0)
    assert audits.get_due_s() == due_s


def test_any_audit_puts_the_incremental_one_off_and_only_a_full_one_the_full_one(audits: Audits) -> None:
    run(audits, "incremental", 650.0)
    assert audits.find_due(1249.0) is None
    assert audits.find_due(1250.0) == "incremental"
    assert audits.find_due(100.0 + DAY_S) == "full"
    run(audits, "full", 1200.0)
    assert audits.find_due(1799.0) is None
    assert audits.find_due(100.0 + DAY_S) == "incremental"
    assert audits.find_due(1200.0 + DAY_S) == "full"


def test_while_an_audit_runs_nothing_is_due(audits: Audits) -> None:
    audits.begin("full")
    assert audits.get_due_s() is None
    assert audits.find_due(1e9) is None


def test_an_audit_that_was_not_complete_puts_the_next_one_off_just_as_well(audits: Audits) -> None:
    run(audits, "full", 1000.0, complete=False)
    assert audits.get_due_s() == 1600.0
    assert audits.describe(AuditCoverage()).state == "incomplete"


def test_a_wish_is_for_incremental_audits_and_a_wish_for_none_is_for_none_at_all(audits: Audits) -> None:
    audits.wish(10.0)
    assert audits.get_due_s() == 110.0
    assert audits.find_due(100.0 + DAY_S) == "full"
    audits.wish(0.0)
    assert audits.get_due_s() is None
    audits.wish(None)
    assert audits.get_due_s() == 700.0


def test_after_a_cut_nothing_is_due_before_the_next_snapshot(audits: Audits) -> None:
    audits.begin("incremental")
    audits.cut_off()
    assert audits.describe(AuditCoverage(listed=3)).directories_listed == 3
    assert audits.describe(AuditCoverage()).state == "incomplete"
    assert audits.get_due_s() is None
    audits.accept_snapshot(500.0)
    assert audits.get_due_s() == 1100.0
