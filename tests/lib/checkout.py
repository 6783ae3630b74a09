"""The checkout that the tests run in: its folder, its files, its distributions."""

import dataclasses
import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Distribution:
    """
    One distribution of the workspace.

    Args:
        name: As in its metadata.
        folder: Where its pyproject.toml is, below the root.
        package: Folder of its one import package, below the root.
        project: The `[project]` table.
    """

    name: str
    folder: Path
    package: Path
    project: dict[str, Any]

    @property
    def import_name(self) -> str:
        """Name to import it by."""
        return self.package.name


def distributions() -> list[Distribution]:
    """Return every distribution of the workspace, the root last."""
    found = []
    for file in [*sorted(ROOT.glob("drivers/*/pyproject.toml")), ROOT / "supervisor/pyproject.toml",
                 ROOT / "pyproject.toml"]:
        project = tomllib.loads(file.read_text())["project"]
        folder = file.parent.relative_to(ROOT)
        source = folder if file.parent == ROOT else folder / "src"
        found.append(Distribution(project["name"], folder, source / project["name"].replace("-", "_"), project))
    return found


def files(*, untracked: bool = False) -> list[Path]:
    """
    Return the files that git tracks and that are there, below the root.

    Args:
        untracked: With those that it would track.
    """
    # The folder may belong to somebody else, in a container for example.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--deduplicate"]
    command += ["--others", "--exclude-standard"] if untracked else []
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    return [path for path in map(Path, filter(None, listed.split("\0"))) if (ROOT / path).is_file()]
