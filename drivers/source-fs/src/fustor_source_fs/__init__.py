"""The fs source: watches a file tree with inotify and says what is there."""

from fustor_source_fs.config import FsConfig, FsParams
from fustor_source_fs.driver import FsSource

__version__ = "1.0.0"

__all__ = ["FsConfig", "FsParams", "FsSource"]
