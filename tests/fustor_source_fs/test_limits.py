"""What the system permits, said in one line for each thing that is missing."""

import pytest

from fustor_source_fs import limits


@pytest.fixture
def set_limits(tmp_path, monkeypatch):
    def set_to(**values: int) -> None:
        for name, value in values.items():
            (tmp_path / name).write_text(f"{value}\n")
        monkeypatch.setattr(limits, "_LIMITS", tmp_path)

    return set_to


def test_enough_of_everything_leaves_nothing_to_say(tmp_path, set_limits):
    set_limits(max_user_watches=8192, max_user_instances=8)
    assert limits.check(bytes(tmp_path)) == []


def test_few_watches_and_few_instances_are_named_with_their_numbers(tmp_path, set_limits):
    set_limits(max_user_watches=8191, max_user_instances=7)
    watches, instances = limits.check(bytes(tmp_path))
    assert "fs.inotify.max_user_watches is 8191" in watches
    assert "fs.inotify.max_user_instances is 7" in instances


def test_a_root_that_cannot_be_listed_is_named(tmp_path, set_limits):
    set_limits(max_user_watches=8192, max_user_instances=8)
    (line,) = limits.check(bytes(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in line


def test_a_kernel_without_inotify_is_said(tmp_path, set_limits):
    set_limits()
    (line,) = limits.check(bytes(tmp_path))
    assert "no inotify" in line
