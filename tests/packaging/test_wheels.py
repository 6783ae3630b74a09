"""The wheels hold what is tracked, install together, and work where nothing else is."""

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import AgentUnderTest
from checkout import Distribution, distributions, files
from standalone import StandaloneFusion

pytestmark = pytest.mark.timeout(600)  # downloads


@pytest.fixture(params=distributions(), ids=lambda distribution: distribution.name)
def distribution(request: pytest.FixtureRequest) -> Distribution:
    found = request.param
    assert isinstance(found, Distribution)
    return found


def test_there_is_one_wheel_per_distribution(wheels: dict[str, Path]) -> None:
    assert sorted(wheels) == sorted(distribution.name for distribution in distributions())


def test_a_wheel_holds_every_file_of_its_package_and_no_other(
    distribution: Distribution, wheels: dict[str, Path]
) -> None:
    with zipfile.ZipFile(wheels[distribution.name]) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(distribution.package.parent))
        for path in files(untracked=True)
        if path.is_relative_to(distribution.package)
    }
    assert packed == expected
    assert f"{distribution.import_name}/py.typed" in packed


def test_a_wheel_carries_licence_and_description(distribution: Distribution, wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels[distribution.name]) as wheel:
        (licence,) = (name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
        (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        assert b"The Fustor Agent authors" in wheel.read(licence)
        head, _, description = wheel.read(metadata).decode().partition("\n\n")
    assert "License-Expression: MIT" in head.splitlines()
    assert description.strip()


def test_the_installed_commands_answer(installed: Path) -> None:
    for command in ("fustor-agent", "fustor-fusion"):
        done = subprocess.run(
            [installed / "bin" / command, "--help"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_the_installed_agent_says_its_version(installed: Path) -> None:
    done = subprocess.run(
        [installed / "bin" / "fustor-agent", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "1.0.0" in done.stdout


def test_the_installed_agent_finds_every_driver(installed: Path) -> None:
    done = subprocess.run(
        [installed / "bin" / "fustor-agent", "drivers", "list"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in ("fs", "fusion", "echo"):
        assert name in done.stdout.split()


def test_the_installed_agent_serves_the_tree(
    installed: Path, tmp_path: Path, start_agent: Callable[..., AgentUnderTest]
) -> None:
    tree = tmp_path / "tree with spaces"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "one").write_text("1")
    (tree / "link").symlink_to("a/b")
    agent = start_agent(watch=tree, program=installed / "bin" / "fustor-agent")
    agent.wait_ready()
    assert agent.differences(tree) == []
    (tree / "a" / "two").write_text("22")
    (tree / "a" / "b" / "one").unlink()
    assert agent.differences(tree) == []
    assert agent.stop() == 0


def test_the_installed_fusion_serves_its_view(installed: Path, tmp_path: Path) -> None:
    fusion = StandaloneFusion(tmp_path / "home", program=installed / "bin" / "fustor-fusion")
    try:
        fusion.start("--view", "main")
        assert fusion.request(fusion.key("reader"), "views/main/stats").json()["files"] == 0
        assert fusion.request(fusion.add_key("reader", "main"), "views/main/stats").status_code == 200
        assert fusion.status()["fusion"]["state"] == "running"
    finally:
        fusion.end()
