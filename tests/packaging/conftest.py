"""Builds and installs once what several tests look at."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from checkout import ROOT, distributions, files


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command that must succeed; returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="session")
def source_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a fresh clone of this state would hold; building there leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    for path in files(untracked=True):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, copy / path, follow_symlinks=False)
    return copy


@pytest.fixture(scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with what constraints.txt names, hashes checked, and nothing else."""
    environment = tmp_path_factory.mktemp("clean") / "environment"
    run(sys.executable, "-m", "venv", environment)
    lines = (ROOT / "constraints.txt").read_text().replace("\\\n", "").splitlines()
    build = environment / "build.txt"
    build.write_text("\n".join(line for line in lines if line.startswith("setuptools==")))
    pip = (environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes")
    run(*pip, "-r", build)
    run(*pip, "--no-build-isolation", "-r", ROOT / "constraints.txt")
    return environment


@pytest.fixture(scope="session")
def wheels(
    source_copy: Path, clean_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Every wheel of the workspace, by the name of its distribution."""
    target = tmp_path_factory.mktemp("wheels")
    folders = [f"./{distribution.folder}" for distribution in distributions()]
    run(
        clean_environment / "bin" / "python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", target, *folders, cwd=source_copy,
    )
    return {wheel.name.split("-")[0].replace("_", "-"): wheel for wheel in target.glob("*.whl")}


@pytest.fixture(scope="session")
def installed(clean_environment: Path, wheels: dict[str, Path]) -> Path:
    """The clean environment with all wheels in it, installed in one call."""
    pip = (clean_environment / "bin" / "python", "-m", "pip")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", *wheels.values())
    run(*pip, "check")
    return clean_environment
