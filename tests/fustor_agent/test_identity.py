import stat
import time
from pathlib import Path

import pytest

from fustor_agent.identity import IndexReserve, make_identity
from fustor_agent.paths import Paths
from fustor_core.clock import IndexClock

_FIVE_MINUTES_NS = 300 * 10**9


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(home=tmp_path / "home")
    paths.prepare()
    return paths


def test_indices_of_a_run_are_near_the_wall_clock(tmp_path: Path) -> None:
    index = IndexClock(IndexReserve(tmp_path / "reserve").seed_ns).stamp()
    assert abs(index - time.time_ns()) < _FIVE_MINUTES_NS


def test_a_run_stamps_above_all_that_an_earlier_one_could_have_stamped(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    years_ahead = time.time_ns() + 10**18  # the earlier run had a clock that was set back since
    path.write_text(f"{years_ahead}\n")
    first = IndexReserve(path)
    assert IndexClock(first.seed_ns).stamp() > years_ahead
    second = IndexReserve(path)
    assert IndexClock(second.seed_ns).stamp() > IndexClock(first.seed_ns).stamp()


def test_the_reserve_is_above_what_is_stamped_until_it_is_renewed(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    reserve = IndexReserve(path)
    ahead = int(path.read_text()) - IndexClock(reserve.seed_ns).stamp()
    assert 0 < ahead <= _FIVE_MINUTES_NS


def test_the_reserve_is_renewed_when_it_is_a_minute_old_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reserve"
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    reserve = IndexReserve(path)
    before = path.stat().st_ino
    now[0] += 59
    reserve.renew()
    assert path.stat().st_ino == before
    now[0] += 2
    old = path.read_text()
    reserve.renew()
    assert int(path.read_text()) > int(old)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\x00", b"-5", b"9" * 19, b"9" * 5000])
def test_a_damaged_reserve_leaves_it_to_the_wall_clock(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "reserve"
    path.write_bytes(content)
    assert abs(IndexClock(IndexReserve(path).seed_ns).stamp() - time.time_ns()) < _FIVE_MINUTES_NS
    assert int(path.read_text()) > time.time_ns()
    assert (tmp_path / "reserve.damaged").read_bytes() == content


def test_a_renewal_that_fails_is_tried_again_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    folder = tmp_path / "state"
    folder.mkdir()
    reserve = IndexReserve(folder / "reserve")
    folder.rename(tmp_path / "away")
    now[0] += 61
    reserve.renew()
    reserve.renew()
    assert caplog.text.count("index reserve not renewed") == 1
    (tmp_path / "away").rename(folder)
    before = int((folder / "reserve").read_text())
    reserve.renew()
    assert int((folder / "reserve").read_text()) > before


def test_an_agent_keeps_its_id_and_secrets_for_life_in_private_files(paths: Paths) -> None:
    reserve = IndexReserve(paths.state_dir / "index-reserve")
    first = make_identity(paths, reserve)
    assert make_identity(paths, reserve) == first
    secrets = {first.token, first.agent_key, first.reader_key}
    assert len(secrets) == 3
    assert all(len(secret) >= 32 for secret in secrets)
    assert not any(first.agent_id in secret for secret in secrets)
    assert (paths.state_dir / "fusion-agent.key").read_text().strip() == first.agent_key
    assert (paths.state_dir / "fusion-reader.key").read_text().strip() == first.reader_key
    modes = {stat.S_IMODE(path.stat().st_mode) for path in paths.home.rglob("*") if path.is_file()}
    assert modes == {0o600}


def test_two_agents_are_two(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        paths = Paths(home=tmp_path / name)
        paths.prepare()
        found.append(make_identity(paths, IndexReserve(paths.state_dir / "index-reserve")))
    assert found[0].agent_id != found[1].agent_id
    assert found[0].token != found[1].token
