"""What was found, as events; each is remembered until it is acknowledged."""

from fustor_event_model import (
    FS_SCHEMA,
    FS_TABLE,
    DeleteEvent,
    FsPath,
    FsRow,
    Listed,
    MessageSource,
    Moved,
    UpdateEvent,
)
from fustor_source_fs.inflight import Inflight
from fustor_source_fs.recorder import Recorder
from fustor_source_fs.watches import Node


class Events:
    """
    Makes events and counts their rows.

    Args:
        inflight: Remembers what each event covers.
        recorder: Told of each.
    """

    def __init__(self, inflight: Inflight, recorder: Recorder) -> None:
        self._inflight = inflight
        self._recorder = recorder
        self.rows = 0

    def update(
        self,
        node: Node,
        rows: list[FsRow],
        path: bytes,
        index: int,
        lane: MessageSource,
        *,
        covers: list[bytes] | None = None,
        since_s: float | None,
    ) -> UpdateEvent[FsRow]:
        """
        Say what is at names of a directory.

        Args:
            node: Looked at again if the event gets lost.
            rows: With paths that are names.
            path: The directory's, below the root.
            index: Stamped before the looks.
            lane: On which the event goes.
            covers: The names to look at if it gets lost; None lists the directory.
            since_s: When the oldest change in it was noted, monotonic seconds.
        """
        self.rows += len(rows)
        event = UpdateEvent(
            index=index,
            message_source=lane,
            event_schema=FS_SCHEMA,
            table=FS_TABLE,
            rows=rows,
            prefix=_below(path),
            position=self._inflight.add(node, covers or (), since_s),
        )
        self._recorder.found(event)
        return event

    def delete(
        self,
        node: Node,
        gone: list[bytes],
        path: bytes,
        index: int,
        lane: MessageSource,
        *,
        since_s: float | None,
    ) -> DeleteEvent[FsPath]:
        """Say which names of a directory are gone; arguments as for `update`."""
        self.rows += len(gone)
        event = DeleteEvent(
            index=index,
            message_source=lane,
            event_schema=FS_SCHEMA,
            table=FS_TABLE,
            rows=[FsPath(name) for name in gone],
            prefix=_below(path),
            position=self._inflight.add(node, gone, since_s),
        )
        self._recorder.found(event)
        return event

    def listed(
        self,
        node: Node,
        path: bytes,
        index: int,
        lane: MessageSource,
        *,
        since_s: float | None,
        times: tuple[int, int] | None,
    ) -> Listed:
        """Say that all of a directory was said; its times are remembered once that is acknowledged."""
        position = self._inflight.add(node, (), since_s, times)
        event = Listed(index=index, message_source=lane, path=path, position=position)
        self._recorder.found(event)
        return event

    def moved(self, node: Node, before: bytes, path: bytes, index: int) -> Moved:
        """Say that a directory came to another place, with all below it."""
        event = Moved(
            index=index,
            message_source=MessageSource.REALTIME,
            position=self._inflight.add(node, moved=True),
            path=path,
            before=before,
            device=node.device,
            inode=node.inode,
        )
        self._recorder.found(event)
        return event


def _below(path: bytes) -> bytes:
    return path if path.endswith(b"/") else path + b"/"
