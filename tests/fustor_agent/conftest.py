"""Driver packages that are really installed, as far as the interpreter can tell: modules with their metadata."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

InstallDriver = Callable[[str, str, str], None]

GROUPS = {"source": "fustor.drivers.sources", "pusher": "fustor.drivers.pushers"}


@pytest.fixture
def install_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InstallDriver]:
    """Install a package with one driver: takes its kind, its type, and the module's code with a class `Driver`."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    modules: list[str] = []

    def install(kind: str, type_name: str, code: str) -> None:
        module = f"strange_{type_name}"
        modules.append(module)
        (site / f"{module}.py").write_text(code)
        info = site / f"{module}-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: strange-{type_name}\nVersion: 2.5\n")
        (info / "entry_points.txt").write_text(f"[{GROUPS[kind]}]\n{type_name} = {module}:Driver\n")

    yield install
    for module in modules:
        sys.modules.pop(module, None)
