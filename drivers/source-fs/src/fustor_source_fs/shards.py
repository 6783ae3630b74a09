"""
A few inotify instances in place of one, so that what one of them loses is a part only.

An overflow does not say where records were lost, only that its instance lost some. The
watch of a directory goes to the instance that the directory's identity names, its shard:
an overflow has the directories of one shard listed again, and a burst in one directory
fills no other queue. A rename may so be told by two instances, its halves read in either
order; the translator and the looks are right all the same.
"""

import errno
from typing import Final

from fustor_core.errors import Unavailable
from fustor_source_fs.bindings import Inotify

SHARDS: Final = 4
"""How many instances a source takes, of the user's `max_user_instances`; fewer will do."""


class Shards:
    """
    Inotify instances; owns them.

    A watch is named by a number that holds its shard and the instance's watch descriptor.

    With fewer of them an overflow costs more; with none at all every watch is refused.
    """

    def __init__(self) -> None:
        self._instances: list[Inotify] = []
        self._problem = ""
        self.grow()

    def grow(self) -> bool:
        """Take instances if there are none yet; tells whether there are some now that there were none."""
        if self._instances:
            return False
        try:
            while len(self._instances) < SHARDS:
                self._instances.append(Inotify())
        except Unavailable as err:
            self._problem = str(err)
        return bool(self._instances)

    def __len__(self) -> int:
        return len(self._instances)

    def get_fds(self) -> list[int]:
        """Return the descriptors to poll, by shard."""
        return [each.fd for each in self._instances]

    def add_watch(self, directory_fd: int, device: int, inode: int) -> int:
        """
        Watch the directory behind a descriptor, which has that identity.

        Returns:
            The watch; the known one if the directory is watched already.

        Raises:
            OSError: EMFILE when there is no instance; others as of `Inotify.add_watch`.
        """
        if not self._instances:
            raise OSError(errno.EMFILE, self._problem)
        shard = hash((device, inode)) % len(self._instances)
        return name_watch(shard, self._instances[shard].add_watch(directory_fd))

    def remove_watch(self, watch: int) -> None:
        """Stop watching; a watch that the kernel has removed already is not an error."""
        shard = get_shard(watch)
        self._instances[shard].remove_watch(watch - name_watch(shard, 0))

    def get_queued_bytes(self, shard: int) -> int:
        """Return how many bytes the kernel has queued for a shard."""
        return self._instances[shard].get_queued_bytes()

    def read(self, shard: int, size: int) -> bytes:
        """Read queued records of a shard, whole ones; empty when there are none."""
        return self._instances[shard].read(size)

    def close(self) -> None:
        """Close the instances; all watches go with them."""
        for each in self._instances:
            each.close()


def name_watch(shard: int, descriptor: int) -> int:
    """Name the watch that has this descriptor in a shard; the descriptor -1, of an overflow, is of the shard too."""
    return (shard << 32) + descriptor


def get_shard(watch: int) -> int:
    """Return the shard of a watch."""
    return (watch + 1) >> 32
