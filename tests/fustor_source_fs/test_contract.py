"""The fs source keeps the contract of all sources."""

from pathlib import Path

from fustor_core.drivers import SourceContext, SourceDriver
from fustor_core.testing import SourceRig, source_contract
from fustor_source_fs import FsConfig, FsSource


class FsRig(SourceRig):
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "sub").mkdir()
        (directory / "sub" / "file").write_text("1")
        self.changes = 0

    def make(self, context: SourceContext) -> SourceDriver:
        return FsSource(FsConfig(uri=str(self.directory)), context)

    def change(self) -> None:
        self.changes += 1
        (self.directory / "sub" / "file").write_text("changed" * self.changes)


TestFsSource = source_contract(FsRig)
