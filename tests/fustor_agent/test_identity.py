import stat
import time
from pathlib import Path

import pytest

from fustor_agent.identity import IndexReserve, make_identity
from fustor_agent.paths import Paths
from fustor_core.clock import IndexClock

_FIVE_MINUTES_NS = 300 * 10**9
_SECOND_NS = 10**9


def _reserve(path: Path) -> int:
    return int(path.read_text().split()[0])


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
    earlier = IndexClock(first.seed_ns).stamp()
    second = IndexReserve(path)
    assert IndexClock(second.seed_ns).stamp() > earlier


def test_runs_of_one_boot_go_on_with_the_same_clock_and_never_run_ahead(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    last = IndexReserve(path).seed_ns
    for _ in range(20):
        seed_ns = IndexReserve(path).seed_ns
        assert last <= seed_ns
        last = seed_ns
    assert abs(IndexClock(last).stamp() - time.time_ns()) < _SECOND_NS


def test_a_run_after_another_boot_stamps_above_the_reserve(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    IndexReserve(path, boot_id="one")
    reserve = _reserve(path)
    assert IndexClock(IndexReserve(path, boot_id="two").seed_ns).stamp() > reserve


@pytest.mark.parametrize("boot_id", ["", "one"])
def test_a_seed_that_cannot_be_of_this_clock_is_not_gone_on_with(tmp_path: Path, boot_id: str) -> None:
    path = tmp_path / "reserve"
    years_ahead = time.time_ns() + 10**18
    path.write_text(f"{years_ahead} {time.time_ns()} {boot_id}\n")
    assert IndexClock(IndexReserve(path, boot_id=boot_id).seed_ns).stamp() > years_ahead


def test_the_reserve_is_above_what_is_stamped_until_it_is_renewed(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    reserve = IndexReserve(path)
    ahead = _reserve(path) - IndexClock(reserve.seed_ns).stamp()
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
    old = _reserve(path)
    reserve.renew()
    assert _reserve(path) > old


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"\xff\x00", b"-5", b"9" * 19, b"9" * 5000, b"1 x y", b"x 1 y", b"1 -1 y"]
)
def test_a_damaged_reserve_leaves_it_to_the_wall_clock(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "reserve"
    path.write_bytes(content)
    assert abs(IndexClock(IndexReserve(path).seed_ns).stamp() - time.time_ns()) < _FIVE_MINUTES_NS
    assert _reserve(path) > time.time_ns()
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
    before = _reserve(folder / "reserve")
    reserve.renew()
    assert _reserve(folder / "reserve") > before


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
